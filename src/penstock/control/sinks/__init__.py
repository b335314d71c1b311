"""Delivers events to webhooks, files, commands and message brokers; other packages bring sinks by these names."""

from penstock.control.sinks.base import RowFile, Sink, SinkContext, SinkFault

__all__ = ["RowFile", "Sink", "SinkContext", "SinkFault"]
