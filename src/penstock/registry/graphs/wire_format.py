"""Finds the positions of fields in a protobuf message, so that single fields can be replaced in a large file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from penstock.core.protobuf_wire import BYTES, FIXED32, FIXED64, VARINT, MalformedMessage, read_varint

_FIXED: Final = {FIXED64: 8, FIXED32: 4}


@dataclass(frozen=True, slots=True)
class WireField:
    """A field: its number, its wire type, and the positions where it begins, its length (``BYTES`` only) and its value
    begin, and where it ends."""

    number: int
    wire_type: int
    begin: int
    length_at: int
    value: int
    end: int


def iterate_fields(data: memoryview, begin: int, end: int) -> Iterator[WireField]:
    """Yield the fields of the message between two positions, in order.

    Raises:
        MalformedMessage: it is not a message.
    """
    at = begin
    while at < end:
        key, length_at = read_varint(data, at, end)
        wire_type = key & 7
        value, after = length_at, length_at
        if wire_type == VARINT:
            _, after = read_varint(data, length_at, end)
        elif wire_type == BYTES:
            size, value = read_varint(data, length_at, end)
            after = value + size
        elif wire_type in _FIXED:
            after = value + _FIXED[wire_type]
        else:
            raise MalformedMessage("it holds a group")
        if after > end:
            raise MalformedMessage("a field ends beyond its message")
        yield WireField(key >> 3, wire_type, at, length_at, value, after)
        at = after
