"""Finds the positions of fields in a protobuf message, so that single fields can be replaced in a large file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT: Final = 10


class MalformedMessage(ValueError):
    """The bytes are not a message, or one of an obsolete form."""


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


def fields(data: memoryview, begin: int, end: int) -> Iterator[WireField]:
    """Yield the fields of the message between two positions, in order.

    Raises:
        Malformed: it is not a message.
    """
    at = begin
    while at < end:
        key, length_at = _varint(data, at, end)
        wire_type = key & 7
        value, after = length_at, length_at
        if wire_type == VARINT:
            _, after = _varint(data, length_at, end)
        elif wire_type == BYTES:
            size, value = _varint(data, length_at, end)
            after = value + size
        elif wire_type in _FIXED:
            after = value + _FIXED[wire_type]
        else:
            raise MalformedMessage("it holds a group")
        if after > end:
            raise MalformedMessage("a field ends beyond its message")
        yield WireField(key >> 3, wire_type, at, length_at, value, after)
        at = after


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return a number, and the position behind it."""
    number = 0
    for index in range(_LONGEST_VARINT):
        if at + index >= end:
            break
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise MalformedMessage("a number has no end")


def varint(number: int) -> bytes:
    """Return the encoding of a number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: bytes) -> bytes:
    """Return the encoding of a field of bytes, such as a message or a text."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value
