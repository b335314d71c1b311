"""Parts of HTTP/1.1 responses: status lines, JSON errors, and the fields that an error adds."""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import orjson

from penstock.core.errors import Fault, Overloaded, Unauthenticated, UnsupportedEncoding

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
} | {499: b"HTTP/1.1 499 Client Closed Request\r\n"}
"""Status lines by status code."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def error_body(message: str) -> bytes:
    """Return the JSON body of an error response."""
    return orjson.dumps({"error": message})


def fault_fields(fault: Fault) -> list[tuple[bytes, bytes]]:
    """Return the fields that an error adds to its response."""
    if isinstance(fault, Overloaded):
        return [(b"retry-after", str(max(1, round(fault.retry_after_s))).encode())]
    if isinstance(fault, UnsupportedEncoding):
        return [(b"accept-encoding", b"gzip, deflate")]
    if isinstance(fault, Unauthenticated):
        return [(b"www-authenticate", b"Bearer")]  # RFC 9110 section 15.5.2
    return []


def field_lines(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Return fields as lines."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def error_answer(status: int, message: str, lines: bytes) -> bytes:
    """Return a complete error response; ``lines`` are additional fields, each with its end of line."""
    content = error_body(message)
    return b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        STATUS_LINES[status],
        lines,
        len(content),
        content,
    )


def date_line(seconds: float) -> bytes:
    """Return the Date field for a time since the epoch."""
    return b"date: %b\r\n" % formatdate(seconds, usegmt=True).encode()
