"""gRPC over HTTP/2 of our own, on the worker's event loop."""
