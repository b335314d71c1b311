"""Limits of the connections of one listener."""

from dataclasses import dataclass
from typing import Final

from penstock.core.errors import TooLarge

MAX_PIPELINED: Final = 64
"""Unanswered requests of one connection at which reading pauses."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of a request in bytes and seconds, and of the number of connections."""

    max_body_bytes: int = 64 << 20
    """Bytes of a body, plain and inflated."""

    max_body_setting: str = ""
    """The setting with that limit, for error texts; "" for none."""

    max_head_bytes: int = 64 << 10
    """Bytes of a head, and of the chunk extensions and trailer fields of its body with it."""

    max_connections: int = 4096
    """Maximum number of open connections."""

    reserved_connections: int = 0
    """Additional connections for requests that the application calls essential."""

    head_s: float = 60.0
    """Seconds for a head, from its first byte."""

    request_s: float = 60.0
    """Seconds for a request without a timeout, from its first byte."""

    body_bytes_per_s: int = 0
    """Bytes of a body that extend its time by a second; 0 for no extension."""

    stalled_s: float = 60.0
    """Seconds after which a client that does not read its answer is disconnected."""

    keep_alive_s: float = 75.0
    """Seconds after which an idle connection is closed."""

    connection_s: float = 300.0
    """Age in seconds after which a connection closes with its next answer, so that clients spread over workers."""

    def body_too_large(self) -> TooLarge:
        """Return the error of a body over the limit."""
        setting = f" ({self.max_body_setting})" if self.max_body_setting else ""
        return TooLarge(f"the body is over the limit of {self.max_body_bytes} bytes{setting}; send less at a time")
