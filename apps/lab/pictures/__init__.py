"""The console as an administrator meets it, in a browser: set up from nothing, and its pictures."""
