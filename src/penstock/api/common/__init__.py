"""What both transports of the data plane share: rules of requests, the making of calls, caches and text safety."""
