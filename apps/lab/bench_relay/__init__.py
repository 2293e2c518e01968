"""`make bench-relay`: our relay and provider beside other senders, on one pretend APNs."""
