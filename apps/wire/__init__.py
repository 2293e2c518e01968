"""One multiplexing HTTP client on libcurl, shared by exchange, cns and relay.

Bytes out, bytes in, total deadlines, an address check at connect. No Django.
"""
