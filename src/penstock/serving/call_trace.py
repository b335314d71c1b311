"""The trace of a call: its ids, and what is recorded of it when it ends."""

from binascii import b2a_hex
from collections.abc import Mapping
from random import getrandbits

from penstock.core.traces.context import TRACEPARENT, TRACESTATE, ParentContext, parse_parent
from penstock.core.traces.log_fields import span_fields
from penstock.core.traces.records import HAS_PARENT, NO_ID, NO_TRACE, SPANS

Fields = Mapping[bytes, bytes]


class CallTrace:
    """The trace of one call; ``flags`` are those of its record. Without a caller's span, ``parent_id`` is ``NO_ID``.

    ``unread`` are the headers of a caller that does not ask for spans: its ids are read only if they are needed.
    """

    __slots__ = ("flags", "parent_id", "span_id", "state", "trace_id", "unread")

    def __init__(self, flags: int, trace_id: bytes, span_id: bytes, parent_id: bytes = NO_ID, state: str = "") -> None:
        self.flags = flags
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.state = state
        self.unread: Fields | None = None

    @property
    def response(self) -> bytes:
        """Return the value of ``traceresponse``, by which the caller finds its trace; b"" if it is not exported."""
        if not self.flags & SPANS:
            return b""
        return b"".join((b"00-", b2a_hex(self.trace_id), b"-", b2a_hex(self.span_id), b"-01"))

    @property
    def exported_id(self) -> str:
        """Return the id of the trace in hexadecimal digits; "" if it is not exported."""
        return self.trace_id.hex() if self.flags & SPANS else ""

    @property
    def log_fields(self) -> dict[str, str]:
        """Return what joins a log line with its span; nothing if it has no ids."""
        return {} if self.trace_id == NO_TRACE else span_fields(self.trace_id, self.span_id)


def identify_trace(trace: CallTrace | None) -> CallTrace:
    """Return a trace that has ids: if this one has none, those of the caller's trace with a new span, or new ones."""
    if trace is None:
        return CallTrace(0, new_trace_id(), new_span_id())
    if trace.trace_id != NO_TRACE:
        return trace
    parent = None if trace.unread is None else read_parent(trace.unread)
    return CallTrace(trace.flags, new_trace_id(), new_span_id()) if parent is None else child_of(parent, trace.flags)


def read_parent(fields: Fields) -> ParentContext | None:
    """Return the span of the caller that headers with a ``traceparent`` state; None if it cannot be used."""
    return parse_parent(fields[TRACEPARENT], fields.get(TRACESTATE, b""))


def child_of(parent: ParentContext, flags: int) -> CallTrace:
    """Return a trace that continues that of a caller."""
    return CallTrace(flags | HAS_PARENT, parent.trace_id, new_span_id(), parent.span_id, parent.state)


def new_trace_id() -> bytes:
    """Return a random id of a trace; not for secrets."""
    return (getrandbits(128) | 1).to_bytes(16, "big")


def new_span_id() -> bytes:
    """Return a random id of a span; not for secrets."""
    return (getrandbits(64) | 1).to_bytes(8, "big")
