"""Delivers events to webhooks, files, commands and message brokers."""
