"""Delivers events to webhooks, files, commands and message brokers; other packages add sinks by these names."""

from penstock.control.sinks.base import NotStarted, RowFile, Sink, SinkContext, SinkFault

__all__ = ["NotStarted", "RowFile", "Sink", "SinkContext", "SinkFault"]
