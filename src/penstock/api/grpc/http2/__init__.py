"""gRPC over HTTP/2, implemented on the worker's event loop."""
