"""Proves from a graph that the answer to a row depends on that row alone, so that callers may share a run."""
