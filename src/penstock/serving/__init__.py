"""The request path inside a worker: find a version, run it on the event loop or on a thread, count the result."""
