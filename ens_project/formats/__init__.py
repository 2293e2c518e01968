"""How times and dates are written: Django asks a language's module before the settings."""
