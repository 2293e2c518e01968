"""What we say to a mail server. No Django."""
