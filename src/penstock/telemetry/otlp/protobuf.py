"""Writes the few forms of Protocol Buffers that OTLP needs, and reads the one number of its answers.

https://protobuf.dev/programming-guides/encoding: a field is a key (number and wire type) and a value.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from penstock.core.protobuf_wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    MalformedMessage,
    encode_field,
    encode_varint,
    read_varint,
)

_UINT64: Final = Struct("<Q")
_UINT32: Final = Struct("<I")
_DOUBLE: Final = Struct("<d")
_WHOLE: Final = (1 << 64) - 1


def _key(number: int, wire_type: int) -> bytes:
    return encode_varint(number << 3 | wire_type)


def integer(number: int, value: int) -> bytes:
    """Return a field of an integer, an enumeration or a boolean; a negative one as its two's complement of 64 bits."""
    return _key(number, VARINT) + encode_varint(value & _WHOLE)


def fixed64(number: int, value: int) -> bytes:
    """Return a field of an unsigned integer of eight bytes."""
    return _key(number, FIXED64) + _UINT64.pack(value & _WHOLE)


def fixed32(number: int, value: int) -> bytes:
    """Return a field of an unsigned integer of four bytes."""
    return _key(number, FIXED32) + _UINT32.pack(value)


def double(number: int, value: float) -> bytes:
    """Return a field of a floating-point number."""
    return _key(number, FIXED64) + _DOUBLE.pack(value)


def message(number: int, *parts: bytes) -> bytes:
    """Return a field of bytes or of a message, whose fields are the parts."""
    return encode_field(number, b"".join(parts))


def text(number: int, value: str) -> bytes:
    """Return a field of a text; characters that UTF-8 cannot hold are replaced."""
    return message(number, value.encode("utf-8", "replace"))


def packed_fixed64(number: int, values: Iterable[int]) -> bytes:
    """Return a packed field of unsigned integers of eight bytes."""
    return message(number, *map(_UINT64.pack, values))


def packed_double(number: int, values: Iterable[float]) -> bytes:
    """Return a packed field of floating-point numbers."""
    return message(number, *map(_DOUBLE.pack, values))


def read_fields(data: bytes) -> dict[int, int | bytes]:
    """Return the fields of a message by number, of a repeated one the last; raises ``MalformedMessage``."""
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = read_varint(data, at, len(data))
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            fields[number], at = read_varint(data, at, len(data))
            continue
        size, at = _read_size(data, at, wire_type)
        if at + size > len(data):
            raise MalformedMessage("a field is cut off")
        fields[number] = data[at : at + size]
        at += size
    return fields


def _read_size(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    if wire_type == BYTES:
        return read_varint(data, at, len(data))
    if wire_type in (FIXED64, FIXED32):
        return (8 if wire_type == FIXED64 else 4), at
    raise MalformedMessage("a field has an unknown form")
