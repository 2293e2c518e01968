"""The device API: views only."""
