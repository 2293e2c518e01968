"""`make simulate-day`: a day in minutes, in which Exchange silently forgets subscriptions."""
