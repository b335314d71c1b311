"""Calls into what may hang: bounded pools of threads with deadlines, and exchanges by HTTP that end in time."""
