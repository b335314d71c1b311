"""Who is told of answered calls: samplers, counters, shadows."""
