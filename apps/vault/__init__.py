"""Master key, wrapping, lookup HMACs and URL MACs."""
