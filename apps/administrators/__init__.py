"""Who may use the console and the admin API: administrators, their roles, their sign-in."""
