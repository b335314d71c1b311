"""Code that both transports of the data plane share: rules of requests, the request builder, caches and text safety."""
