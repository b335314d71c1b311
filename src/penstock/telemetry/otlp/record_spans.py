"""Writes the spans of a request as OTLP straight from its record: what many requests share is encoded once for all.

The fields of a message may stand in any order (https://protobuf.dev/programming-guides/encoding#order), so the
constant ones of a span stand together.
"""

from collections.abc import Callable
from functools import lru_cache
from random import getrandbits
from struct import Struct
from typing import Final, NamedTuple

from penstock.core.protobuf_wire import varint
from penstock.core.traces.records import HAS_PARENT, NO_ID, SHADOW, TraceRecord
from penstock.core.traces.spans import (
    EVALUATION,
    INTERNAL,
    SERVER,
    STAGES,
    RequestDescription,
    RequestTraits,
    describe_request,
    shadow_span,
    stages_of,
    traits_of,
)
from penstock.telemetry.otlp.common import attributes
from penstock.telemetry.otlp.protobuf import fixed64, integer, message, text
from penstock.telemetry.otlp.trace_request import encode_span, error_status, flags_of

MOST_SHAPES: Final = 1024
"""Kinds of requests whose constant parts are kept, and numbers of rows and bytes."""

EncodedSpans = tuple[bytes, int]
"""Spans as items of an export request (fields 2 of a scope), and their number."""

_SPAN: Final = b"\x12"  # field 2 of a scope
_TRACE_ID: Final = b"\x0a\x10"  # field 1, 16 bytes
_SPAN_ID: Final = b"\x12\x08"  # field 2, 8 bytes
_PARENT_ID: Final = b"\x22\x08"  # field 4, 8 bytes
_TIMES: Final = Struct("<BQBQ")  # fields 7 and 8 and their keys
_START, _END = 7 << 3 | 1, 8 << 3 | 1
_TIME: Final = Struct("<Q")

_TIMES_BYTES: Final = _TIMES.size
_IDS_BYTES: Final = len(_TRACE_ID) + 16 + len(_SPAN_ID) + 8
_PARENT_BYTES: Final = len(_PARENT_ID) + 8


_REQUEST_ID: Final = text(1, "penstock.request.id")


class RequestShape(NamedTuple):
    """The constant parts of the span of a request: its fields, and the event of its route around the time (empty if
    there is none)."""

    fields: bytes
    event_head: bytes
    event_tail: bytes


class StageShape(NamedTuple):
    """The constant parts of the span of a stage: what is before the id of its trace, and its other fields."""

    head: bytes
    fields: bytes


def _shape_stage(name: str) -> StageShape:
    fields = text(5, name) + integer(6, INTERNAL) + flags_of(has_remote_parent=False)
    size = _IDS_BYTES + _PARENT_BYTES + _TIMES_BYTES + len(fields)
    return StageShape(_SPAN + varint(size) + _TRACE_ID, fields)


_STAGES: Final = tuple([_shape_stage(name) for name in STAGES])


@lru_cache(maxsize=MOST_SHAPES)
def _shape_request(traits: RequestTraits) -> RequestShape:
    described = describe_request(traits)
    fields = [
        text(5, described.name),
        integer(6, SERVER),
        attributes(9, described.attributes),
        error_status() if described.is_error else b"",
        flags_of(has_remote_parent=bool(traits.flags & HAS_PARENT)),
    ]
    return RequestShape(b"".join(fields), *_shape_event(described))


def _shape_event(described: RequestDescription) -> tuple[bytes, bytes]:
    """Return what is before and after the time of the event of a route."""
    if not described.evaluation:
        return b"", b""
    tail = text(2, EVALUATION) + attributes(3, described.evaluation)
    whole = message(11, fixed64(1, 0), tail)
    return whole[: -len(tail) - _TIME.size], tail


@lru_cache(maxsize=MOST_SHAPES)
def _sizes(rows: int, run_rows: int, input_bytes: int, output_bytes: int) -> bytes:
    """Return the attributes of numbers that many requests have in common; one that is 0 is not stated."""
    stated = {
        "penstock.rows": rows,
        "penstock.batch.rows": run_rows,
        "penstock.input.bytes": input_bytes,
        "penstock.output.bytes": output_bytes,
    }
    return attributes(9, {name: value for name, value in stated.items() if value})


class RecordEncoder:
    """Encodes the spans of records; of one thread. ``is_split`` says whether a model's route splits traffic, ``scheme``
    is that of the REST port, and ``new_ids`` returns the random ids of four spans."""

    def __init__(
        self, is_split: Callable[[str], bool], scheme: str = "http", new_ids: Callable[[], bytes] | None = None
    ) -> None:
        self._is_split = is_split
        self._scheme = scheme
        self._new_ids = new_ids or new_stage_ids

    def encode(self, record: TraceRecord, offset_ns: int) -> EncodedSpans:
        """Return the spans of a record, parents first; ``offset_ns`` turns its times into those since the epoch."""
        if record.kind == SHADOW:
            return encode_span(shadow_span(record, offset_ns)), 1
        stages = self._encode_stages(record, offset_ns)
        return self._encode_request(record, offset_ns) + b"".join(stages), 1 + len(stages)

    def _encode_request(self, record: TraceRecord, offset_ns: int) -> bytes:
        shape = _shape_request(traits_of(record, self._is_split(record.model), self._scheme))
        start_ns = record.times[0] + offset_ns
        parts = [
            _TRACE_ID,
            record.trace_id,
            _SPAN_ID,
            record.span_id,
            _TIMES.pack(_START, start_ns, _END, record.times[4] + offset_ns),
            shape.fields,
            _sizes(record.rows, record.run_rows, record.input_bytes, record.output_bytes),
        ]
        if record.parent_id != NO_ID:
            parts += _PARENT_ID, record.parent_id
        if record.request_id:
            parts.append(message(9, _REQUEST_ID, message(2, text(1, record.request_id))))
        if record.state:
            parts.append(text(3, record.state))
        if shape.event_head:
            parts += shape.event_head, _TIME.pack(start_ns), shape.event_tail
        return message(2, *parts)

    def _encode_stages(self, record: TraceRecord, offset_ns: int) -> list[bytes]:
        ids, trace_id = self._new_ids(), record.trace_id
        parent = _PARENT_ID + record.span_id
        spans = []
        for stage, start, end in stages_of(record.times):
            shape = _STAGES[stage]
            own_id = ids[8 * stage : 8 * stage + 8]
            times = _TIMES.pack(_START, start + offset_ns, _END, end + offset_ns)
            spans.append(b"".join((shape.head, trace_id, _SPAN_ID, own_id, parent, times, shape.fields)))
        return spans


_ONES: Final = int.from_bytes(b"\x01".rjust(8, b"\0") * len(STAGES), "big")


def new_stage_ids() -> bytes:
    """Return random ids for the spans of all stages, none of which is zero; not for secrets."""
    return (getrandbits(64 * len(STAGES)) | _ONES).to_bytes(8 * len(STAGES), "big")
