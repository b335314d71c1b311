"""The monitor of a gateway: references, drift, feedback, fleet evidence and events."""
