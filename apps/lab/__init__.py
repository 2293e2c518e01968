"""A pretend Exchange, APNs and phone. Nothing imports it; absent from releases."""
