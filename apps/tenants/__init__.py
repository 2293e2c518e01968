"""Organization groups, mail systems, API tokens and inherited settings."""
