"""Writes the spans of a request as OTLP straight from its record: what many requests share is encoded once for all.

The fields of a message may stand in any order (https://protobuf.dev/programming-guides/encoding#order), so the
constant ones of a span stand together.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import getrandbits
from struct import Struct
from typing import Final, NamedTuple

from penstock.core.protobuf_wire import encode_varint
from penstock.core.traces.records import HAS_PARENT, NO_ID, SHADOW, TraceRecord
from penstock.core.traces.spans import (
    EVALUATION,
    INTERNAL,
    SERVER,
    STAGES,
    TRAIT_FLAGS,
    RequestDescription,
    RequestTraits,
    RouteTraits,
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
_START, _END = 7 << 3 | 1, 8 << 3 | 1
_TIME: Final = Struct("<Q")
_IDS: Final = Struct("<2s16s2s8sBQBQ")  # trace, span, and fields 7 and 8 with their keys
_IDS_BYTES: Final = _IDS.size
_PARENT_BYTES: Final = len(_PARENT_ID) + 8

_ATTRIBUTE: Final = b"\x4a"  # field 9
_VALUE: Final = b"\x12"  # field 2 of an attribute
_TEXT: Final = b"\x0a"  # field 1 of a value
_ID_NAME: Final = text(1, "penstock.request.id")
_SHORT_ID: Final = 100
"""Characters of an id whose attribute, and its parts, are shorter than 128 bytes: one byte each says how long."""


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
    size = _IDS_BYTES + _PARENT_BYTES + len(fields)
    return StageShape(_SPAN + encode_varint(size) + _TRACE_ID, fields)


_STAGES: Final = tuple([_shape_stage(name) for name in STAGES])


def _layout_of(shapes: Sequence[StageShape]) -> Struct:
    """Return the form of the spans of these stages, one after the other: of each the constant parts around the id of
    its trace, its own id, that of its parent, and its times with their keys."""
    return Struct("<" + "".join([f"{len(head)}s16s2s8s10sBQBQ{len(fields)}s" for head, fields in shapes]))


_ONE_STAGE: Final = tuple([_layout_of([shape]) for shape in _STAGES])
_ALL_STAGES: Final = _layout_of(_STAGES)
_STAGE_ID: Final = Struct("<8s8s8s8s")


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
    """Encodes the spans of records; of one thread. ``find_rules`` returns what is stated of a model's route, ``scheme``
    is that of the REST port, and ``new_ids`` returns the random ids of four spans."""

    def __init__(
        self, find_rules: Callable[[str], RouteTraits], scheme: str = "http", new_ids: Callable[[], bytes] | None = None
    ) -> None:
        self._find_rules = find_rules
        self._scheme = scheme
        self._new_ids = new_ids or new_stage_ids
        self._shapes: dict[tuple[str, str, int, int, int, str, RouteTraits], RequestShape] = {}

    def encode(self, record: TraceRecord, offset_ns: int) -> EncodedSpans:
        """Return the spans of a record, parents first; ``offset_ns`` turns its times into those since the epoch."""
        if record.kind == SHADOW:
            return encode_span(shadow_span(record, offset_ns)), 1
        stages, count = self._encode_stages(record, offset_ns)
        return self._encode_request(record, offset_ns) + stages, 1 + count

    def _encode_request(self, record: TraceRecord, offset_ns: int) -> bytes:
        shape = self._find_shape(record)
        start_ns = record.times[0] + offset_ns
        end_ns = record.times[4] + offset_ns
        parts = [
            _IDS.pack(_TRACE_ID, record.trace_id, _SPAN_ID, record.span_id, _START, start_ns, _END, end_ns),
            shape.fields,
            _sizes(record.rows, record.run_rows, record.input_bytes, record.output_bytes),
        ]
        if record.parent_id != NO_ID:
            parts += _PARENT_ID, record.parent_id
        if record.request_id:
            parts.append(_encode_id(record.request_id))
        if record.state:
            parts.append(text(3, record.state))
        if shape.event_head:
            parts += shape.event_head, _TIME.pack(start_ns), shape.event_tail
        return message(2, *parts)

    def _find_shape(self, record: TraceRecord) -> RequestShape:
        """Return the constant parts of a request: those of its traits, which are only made where they are new."""
        _, series, outcome, flags, model, version = record[:6]
        rules = self._find_rules(model)
        key = model, version, series, outcome, flags & TRAIT_FLAGS, record.endpoint, rules
        found = self._shapes.get(key)
        if found is None:
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
            found = self._shapes[key] = _shape_request(traits_of(record, rules, self._scheme))
        return found

    def _encode_stages(self, record: TraceRecord, offset_ns: int) -> EncodedSpans:
        """Return the spans of the stages; nearly every request comes through all of them."""
        began, decoded, started, ran, ended = record.times
        ids, trace_id = _STAGE_ID.unpack(self._new_ids()), record.trace_id
        parent = _PARENT_ID + record.span_id
        if not 0 < began < decoded <= started < ran < ended:
            return self._encode_some(record, offset_ns, parent, ids)
        at = began + offset_ns, decoded + offset_ns, started + offset_ns, ran + offset_ns, ended + offset_ns
        first, second, third, fourth = _STAGES
        spans = _ALL_STAGES.pack(
            *(first.head, trace_id, _SPAN_ID, ids[0], parent, _START, at[0], _END, at[1], first.fields),
            *(second.head, trace_id, _SPAN_ID, ids[1], parent, _START, at[1], _END, at[2], second.fields),
            *(third.head, trace_id, _SPAN_ID, ids[2], parent, _START, at[2], _END, at[3], third.fields),
            *(fourth.head, trace_id, _SPAN_ID, ids[3], parent, _START, at[3], _END, at[4], fourth.fields),
        )
        return spans, len(STAGES)

    def _encode_some(self, record: TraceRecord, offset_ns: int, parent: bytes, ids: Sequence[bytes]) -> EncodedSpans:
        """Return the spans of the stages that a request has come through."""
        trace_id, spans = record.trace_id, []
        for stage, start, end in stages_of(record.times):
            head, fields = _STAGES[stage]
            times = (_START, start + offset_ns, _END, end + offset_ns)
            spans.append(_ONE_STAGE[stage].pack(head, trace_id, _SPAN_ID, ids[stage], parent, *times, fields))
        return b"".join(spans), len(spans)


def _encode_id(request_id: str) -> bytes:
    """Return the id of a request as an attribute."""
    size = len(request_id)
    if size > _SHORT_ID or not request_id.isascii():
        return message(9, _ID_NAME, message(2, text(1, request_id)))
    lengths = (len(_ID_NAME) + size + 4, size + 2, size)
    return b"%b%c%b%b%c%b%c%b" % (
        *(_ATTRIBUTE, lengths[0], _ID_NAME),
        *(_VALUE, lengths[1], _TEXT, lengths[2], request_id.encode()),
    )


_ONES: Final = int.from_bytes(b"\x01".rjust(8, b"\0") * len(STAGES), "big")


def new_stage_ids() -> bytes:
    """Return random ids for the spans of all stages, none of which is zero; not for secrets."""
    return (getrandbits(64 * len(STAGES)) | _ONES).to_bytes(8 * len(STAGES), "big")
