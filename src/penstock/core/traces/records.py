"""Records of requests that are traced or written to the access log: of a fixed size, from workers to the control
process. Texts, which have no fixed size, stand in a table beside the records of one message.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple

REQUEST, SHADOW = 0, 1
"""Kinds of records: a request, or the run of a shadow version on one."""

SPANS: Final = 1  # its spans are exported
ACCESS: Final = 2  # it has a line in the access log
HAS_PARENT: Final = 4  # its caller has a span
KEPT: Final = 8  # it is exported only because it failed, or because a shadow disagreed
DISAGREES: Final = 16  # the shadow answered something else
EXPLAINED: Final = 32  # it asked for an explanation

NO_ID: Final = bytes(8)
NO_TRACE: Final = bytes(16)

_LAYOUT: Final = Struct("<BBBBHHHHH16s8s8s16s8s5QIIQQ")
_PACK: Final = _LAYOUT.pack
RECORD_BYTES: Final = _LAYOUT.size
MOST_TEXT: Final = 512
MOST_NUMBER: Final = (1 << 32) - 1


class TraceRecord(NamedTuple):
    """A request that has ended; ``times`` are its beginning and the ends of decode, queue, run and encode
    (``time.monotonic_ns``; 0: it did not come so far).

    ``series`` is that of its call (route and protocol), ``outcome`` the index of how it ended. ``endpoint`` is what was
    called: the template of a path, or a gRPC method with its service; "" for the infer request of V2. ``run_rows`` are
    the rows of the run it shared, 0 if unknown. Sizes are in bytes. A shadow's record links the request that it
    repeats.
    """

    kind: int
    series: int
    outcome: int
    flags: int
    model: str
    version: str
    request_id: str
    state: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    times: tuple[int, int, int, int, int]
    rows: int = 0
    run_rows: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    linked_trace: bytes = NO_TRACE
    linked_span: bytes = NO_ID
    endpoint: str = ""


class RecordBuffer:
    """Records that wait to be sent, at most ``most``; further ones are counted and dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._records = bytearray()
        self._texts = {"": 0}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._records) // RECORD_BYTES

    def add(self, record: TraceRecord) -> None:
        """Add a record, if there is space."""
        began, decoded, started, ran, ended = record.times
        self.put(
            record.kind,
            record.series,
            record.outcome,
            record.flags,
            record.model,
            record.version,
            record.request_id,
            record.state,
            record.trace_id,
            record.span_id,
            record.parent_id,
            began,
            decoded,
            started,
            ran,
            ended,
            record.rows,
            record.run_rows,
            record.input_bytes,
            record.output_bytes,
            record.linked_trace,
            record.linked_span,
            record.endpoint,
        )

    def put(
        self,
        kind: int,
        series: int,
        outcome: int,
        flags: int,
        model: str,
        version: str,
        request_id: str,
        state: str,
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        began: int,
        decoded: int,
        started: int,
        ran: int,
        ended: int,
        rows: int,
        run_rows: int,
        input_bytes: int,
        output_bytes: int,
        linked_trace: bytes = NO_TRACE,
        linked_span: bytes = NO_ID,
        endpoint: str = "",
    ) -> None:
        """Add a record by its fields, in their order: an object for it would cost more than packing it."""
        if len(self._records) >= self._most * RECORD_BYTES:
            self.dropped += 1
            return
        index = self._index
        self._records += _PACK(
            kind,
            series,
            outcome,
            flags,
            index(model),
            index(version),
            index(request_id),
            index(state),
            index(endpoint),
            trace_id,
            span_id,
            parent_id,
            linked_trace,
            linked_span,
            began,
            decoded,
            started,
            ran,
            ended,
            min(rows, MOST_NUMBER),
            min(run_rows, MOST_NUMBER),
            input_bytes,
            output_bytes,
        )

    def _index(self, text: str) -> int:
        return self._texts.setdefault(text[:MOST_TEXT], len(self._texts)) if text else 0

    def take(self) -> tuple[bytes, list[str]]:
        """Return all records with the texts that they refer to, and begin anew."""
        taken = bytes(self._records), list(self._texts)
        self._records, self._texts = bytearray(), {"": 0}
        return taken


def read_records(data: bytes, texts: Sequence[str]) -> Iterator[TraceRecord]:
    """Yield the records of a message; raises ``ValueError`` if it is damaged."""
    if len(data) % RECORD_BYTES:
        raise ValueError("a record is cut off")
    for values in _LAYOUT.iter_unpack(data):
        kind, series, outcome, flags, model, version, request_id, state, endpoint = values[:9]
        if max(model, version, request_id, state, endpoint) >= len(texts):
            raise ValueError("a record names a text that is not there")
        trace_id, span_id, parent_id, linked_trace, linked_span = values[9:14]
        began, decoded, started, ran, ended, rows, run_rows, input_bytes, output_bytes = values[14:]
        yield TraceRecord(
            kind,
            series,
            outcome,
            flags,
            texts[model],
            texts[version],
            texts[request_id],
            texts[state],
            trace_id,
            span_id,
            parent_id,
            (began, decoded, started, ran, ended),
            rows,
            run_rows,
            input_bytes,
            output_bytes,
            linked_trace,
            linked_span,
            texts[endpoint],
        )
