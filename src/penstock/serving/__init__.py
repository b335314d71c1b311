"""The road of a request inside a worker: find a version, run it here or on a thread, count what happened."""
