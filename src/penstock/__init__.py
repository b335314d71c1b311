"""Penstock: a low-latency model-serving gateway with a monitor inside."""

__version__ = "0.1.0"
