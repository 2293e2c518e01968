"""The client of the relay: sign, pin, batch."""
