"""Traces without I/O: their identity on the wire, what is recorded of a request, sampling, spans, and retries."""
