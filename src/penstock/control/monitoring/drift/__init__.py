"""Drift of this gateway's rows: where they are counted, what is concluded, and its metrics."""
