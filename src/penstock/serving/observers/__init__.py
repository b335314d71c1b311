"""Observers of answered calls: samplers, counters, shadows."""
