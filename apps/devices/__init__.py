"""Mailboxes and devices, their states and proofs."""
