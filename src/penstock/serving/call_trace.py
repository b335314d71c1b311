"""The trace of a call: its ids, and what is recorded of it when it ends."""

from collections.abc import Mapping

from penstock.core.traces.context import write_parent
from penstock.core.traces.records import NO_ID, SPANS

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
        return write_parent(self.trace_id, self.span_id, is_sampled=True).encode() if self.flags & SPANS else b""
