"""The subscription's life: join, renew, lose, end."""
