"""The gRPC status of each error, and the text for its caller; a test checks that the table is complete."""

from math import ceil
from typing import Final

from penstock.core.errors import Fault, InvalidInput, Overloaded
from penstock.core.labels import GRPC_STATUS, GRPC_STATUSES

Metadata = tuple[tuple[str, str], ...]

GRPC_CODES: Final[dict[str, int]] = {kind: GRPC_STATUSES.index(name) for kind, name in GRPC_STATUS.items()}
"""The statuses' numbers on the wire."""

RETRYABLE: Final = frozenset({"overloaded", "over_budget", "not_ready"})
"""Refusals another attempt may get past.

They travel as trailers only: a gRPC client no longer retries by itself once it has seen initial metadata.
"""

MAX_DETAILS: Final = 1000
"""Maximum characters of an error text; longer ones, built from a caller's own text, do not fit into the trailers."""


class InvalidMessageBytes(InvalidInput):
    """The bytes of a message are not a message of its kind."""


def caller_text(fault: Fault) -> str:
    """Return the text of an error for the caller."""
    text = str(fault)
    return text if len(text) <= MAX_DETAILS else text[: MAX_DETAILS - 3] + "..."


def retry_hints(fault: Fault) -> Metadata:
    """Return the trailers that say when to retry."""
    if not isinstance(fault, Overloaded):
        return ()
    pushback_ms = max(1, ceil(fault.retry_after_s * 1000))
    return ("retry-after", str(max(1, round(fault.retry_after_s)))), ("grpc-retry-pushback-ms", str(pushback_ms))
