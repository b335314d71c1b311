"""Calls that may hang: bounded thread pools with deadlines, and HTTP exchanges that end in time."""
