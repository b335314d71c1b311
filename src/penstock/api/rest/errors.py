"""How a fault looks over HTTP: its status comes from the table beside the outcomes, its body is always JSON."""

import orjson

from penstock.core.errors import Fault, Overloaded, UnsupportedEncoding


def error_body(message: str) -> bytes:
    """The JSON body of every answer that is not a success."""
    return orjson.dumps({"error": message})


def extra_headers(fault: Fault) -> list[tuple[bytes, bytes]]:
    """Headers a fault adds to its answer."""
    if isinstance(fault, Overloaded):
        return [(b"retry-after", str(max(1, round(fault.retry_after_s))).encode())]
    if isinstance(fault, UnsupportedEncoding):
        return [(b"accept-encoding", b"gzip, deflate")]
    return []
