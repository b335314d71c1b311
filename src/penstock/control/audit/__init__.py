"""The audit in a running gateway: signed checkpoints, and events that others report."""
