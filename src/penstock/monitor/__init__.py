"""Counting what happens: fixed arrays that one writer fills and anybody may add up."""
