"""HTTP/1.1 and nothing else: request heads, body framing, pipelined connections, ASGI, and a listener with limits."""
