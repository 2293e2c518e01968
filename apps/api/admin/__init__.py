"""The admin API: what the console does, for programs. docs/admin-api.md."""
