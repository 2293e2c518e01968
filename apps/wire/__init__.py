"""One multiplexing HTTP client on libcurl: bytes out, bytes in, total deadlines, an address check at connect."""
