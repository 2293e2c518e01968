"""The durable log between webhook and worker. Knows no mail."""
