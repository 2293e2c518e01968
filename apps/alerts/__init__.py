"""Alerts: raised once, cleared once, and each of that told once to whoever must know."""
