"""The identity of a trace on the wire, as W3C Trace Context says: the fields ``traceparent`` and ``tracestate``.

What cannot be read is ignored, as the specification asks: a request never fails for it.
"""

import re
from dataclasses import dataclass
from typing import Final

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
TRACERESPONSE: Final = b"traceresponse"
"""The field of an answer with the trace of its request (W3C Trace Context Level 2)."""

SAMPLED: Final = 1
"""The flag of a caller that keeps its own span."""

MOST_STATE: Final = 512
"""Maximum characters of ``tracestate`` that are kept; the specification asks for no less."""

MOST_READ: Final = 4096
"""Longest ``tracestate`` that is read at all: 32 members of legal length may be longer, but no vendor's are."""

MOST_MEMBERS: Final = 32

_TRACEPARENT: Final = re.compile(
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.DOTALL
)
"""Not version ff, no more fields in version 00, and no ids of zeros; later versions may have more fields."""

_ODD: Final = b"13579bdf"
_KEY: Final = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(f"({_KEY})=({_VALUE})")


@dataclass(frozen=True, slots=True)
class ParentContext:
    """The span of a caller: ids of 16 and 8 bytes, whether it is sampled, and the state of vendors ("" for none)."""

    trace_id: bytes
    span_id: bytes
    is_sampled: bool
    state: str = ""


def parse_parent(traceparent: bytes, tracestate: bytes = b"") -> ParentContext | None:
    """Return the context of a caller; None if it states none that can be used."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    is_sampled = bool(int(flags, 16) & SAMPLED)
    return ParentContext(_bytes_of(trace_id), _bytes_of(span_id), is_sampled, parse_state(tracestate))


def _bytes_of(digits: bytes) -> bytes:
    return bytes.fromhex(digits.decode())


def read_trace_id(traceparent: bytes) -> bytes | None:
    """Return the trace of a caller, sampled or not; None if it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return None if match is None else _bytes_of(match[1])


def read_sampled(traceparent: bytes) -> bool | None:
    """Return whether the caller's span is sampled, without reading more than that; None if it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return None if match is None else match[3][1] in _ODD


def parse_state(tracestate: bytes) -> str:
    """Return the members of a ``tracestate`` that fit into ``MOST_STATE``; "" if it breaks the specification."""
    if not tracestate or len(tracestate) > MOST_READ or not tracestate.isascii():
        return ""
    members = [member.strip(" \t") for member in tracestate.decode("ascii").split(",")]
    stated = [member for member in members if member]
    matches = [_MEMBER.fullmatch(member) for member in stated]
    keys = {match.group(1) for match in matches if match is not None}
    if len(stated) > MOST_MEMBERS or len(keys) < len(stated):  # a member is invalid, or a key comes twice
        return ""
    return _join_fitting(stated)


def _join_fitting(members: list[str]) -> str:
    """Join members until the text is full; those at the end are the oldest."""
    text = ""
    for member in members:
        longer = f"{text},{member}" if text else member
        if len(longer) > MOST_STATE:
            break
        text = longer
    return text


def write_parent(trace_id: bytes, span_id: bytes, is_sampled: bool) -> str:
    """Return the ``traceparent`` of a span, for whoever it calls; a ``traceresponse`` has the same form."""
    return f"00-{trace_id.hex()}-{span_id.hex()}-{int(is_sampled):02x}"
