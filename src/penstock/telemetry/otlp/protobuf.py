"""Writes the few forms of Protocol Buffers that OTLP needs, and reads the one number of its answers.

https://protobuf.dev/programming-guides/encoding: a field is a key (number and wire type) and a value.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_UINT64: Final = Struct("<Q")
_UINT32: Final = Struct("<I")
_DOUBLE: Final = Struct("<d")
_WHOLE: Final = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Return an integer of 64 bits in seven bits a byte; a negative one as its two's complement."""
    value &= _WHOLE
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def integer(number: int, value: int) -> bytes:
    """Return a field of an integer, an enumeration or a boolean."""
    return _key(number, _VARINT) + varint(value)


def fixed64(number: int, value: int) -> bytes:
    """Return a field of an unsigned integer of eight bytes."""
    return _key(number, _FIXED64) + _UINT64.pack(value & _WHOLE)


def fixed32(number: int, value: int) -> bytes:
    """Return a field of an unsigned integer of four bytes."""
    return _key(number, _FIXED32) + _UINT32.pack(value)


def double(number: int, value: float) -> bytes:
    """Return a field of a floating-point number."""
    return _key(number, _FIXED64) + _DOUBLE.pack(value)


def message(number: int, *parts: bytes) -> bytes:
    """Return a field of bytes or of a message, whose fields are the parts."""
    body = b"".join(parts)
    return _key(number, _LENGTH) + varint(len(body)) + body


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
    """Return the fields of a message by number, of a repeated one the last; raises ``ValueError`` if it is none."""
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            fields[number], at = _read_varint(data, at)
            continue
        size, at = _read_size(data, at, wire_type)
        if at + size > len(data):
            raise ValueError("a field is cut off")
        fields[number] = data[at : at + size]
        at += size
    return fields


def _read_size(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    if wire_type == _LENGTH:
        return _read_varint(data, at)
    if wire_type in (_FIXED64, _FIXED32):
        return (8 if wire_type == _FIXED64 else 4), at
    raise ValueError("a field has an unknown form")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number is cut off or too long")
