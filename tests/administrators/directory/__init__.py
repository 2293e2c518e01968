"""Sign-in with a directory: a real slapd on free loopback ports, with TLS by a CA of the tests."""
