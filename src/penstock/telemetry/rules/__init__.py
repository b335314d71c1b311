"""Prometheus rules: recording rules and alerts, for every fleet and from the policies of models."""
