"""Who sent a request and what they may do, as a worker knows it."""
