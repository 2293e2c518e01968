"""The webhook and the drain: merge, fetch, push, record."""
