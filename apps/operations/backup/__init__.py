"""Backup and restore: what is in it, the file, and what comes after a restore."""
