"""Each device's story for support, and counters per minute. No personal data."""
