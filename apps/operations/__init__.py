"""What an operator runs: the settings page today; installation, diagnosis and backup to come."""
