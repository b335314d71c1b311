"""Worker processes: their supervision, their shared counters, and the channel to the control process."""
