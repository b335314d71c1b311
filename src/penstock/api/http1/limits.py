"""Bounds on the connections of one listener."""

from dataclasses import dataclass
from typing import Final

from penstock.core.errors import TooLarge

MAX_PIPELINED: Final = 64
"""Requests that one connection may have unanswered before its socket is no longer read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of one request, seconds that its parts may take, and the number of connections."""

    max_body_bytes: int = 64 << 20
    """Bytes of a body, plain and inflated."""

    max_body_setting: str = ""
    """The setting that states them, "" for none."""

    max_head_bytes: int = 64 << 10
    """Bytes of a head, and of the chunk extensions and trailer fields of its body with it."""

    max_connections: int = 4096
    """Connections that may be open at a time."""

    reserved_connections: int = 0
    """Connections beyond them for requests that the application calls essential."""

    head_s: float = 60.0
    """A head is whole that long after its first byte."""

    request_s: float = 60.0
    """A request that states no time of its own is whole that long after its first byte."""

    body_bytes_per_s: int = 0
    """Each so many bytes of a body that have come give it a second more; 0 gives it none."""

    stalled_s: float = 60.0
    """A client that takes nothing of an answer for that long is given up."""

    keep_alive_s: float = 75.0
    """A connection without a request is closed after that long."""

    connection_s: float = 300.0
    """An older connection ends with its next answer, so that clients spread over all processes."""

    def body_too_large(self) -> TooLarge:
        """The fault of a body with more bytes than it may have."""
        setting = f" ({self.max_body_setting})" if self.max_body_setting else ""
        return TooLarge(f"the body is over the limit of {self.max_body_bytes} bytes{setting}; send less at a time")
