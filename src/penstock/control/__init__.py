"""The control plane: keeps workers alive, decides what they serve, and reads their counters."""
