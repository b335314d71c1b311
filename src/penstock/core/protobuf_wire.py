"""The wire format of Protocol Buffers: integers of variable length (varints), alone and many at once.

A field is a tag (its number and wire type) and a value. Tags, lengths and integers are varints: seven bits a byte, the
lowest first (https://protobuf.dev/programming-guides/encoding).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
"""Wire types. Groups (3 and 4), which are obsolete, are not read."""

MAX_VARINT: Final = 10
"""Maximum bytes of a varint."""

_ONE_BYTE: Final = [bytes((number,)) for number in range(128)]


class MalformedMessage(ValueError):
    """The bytes are not a message, or one of an obsolete form."""


def encode_varint(number: int) -> bytes:
    """Return the encoding of an unsigned number; a negative one is encoded as its two's complement of 64 bits, which
    the caller computes."""
    if number < 128:
        return _ONE_BYTE[number]
    parts = bytearray()
    while number >= 128:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def encode_field(number: int, value: bytes) -> bytes:
    """Return the encoding of a field of bytes, such as a message or a text."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value


def read_varint(data: bytes | memoryview, at: int, stop: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and the position behind it.

    Raises:
        MalformedMessage: it is not complete before ``stop``, or longer than ``MAX_VARINT``.
    """
    number = 0
    for place in range(MAX_VARINT):
        if at + place >= stop:
            break
        byte = data[at + place]
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number, at + place + 1
    raise MalformedMessage("a number is cut off or too long")


def read_varints(data: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], int]:
    """Return the complete numbers at the beginning of some bytes [bytes], and the bytes that they take.

    Raises:
        MalformedMessage: one is longer than ``MAX_VARINT``.
    """
    ends = np.flatnonzero(data < 128)
    if len(ends) == len(data):
        return data.astype(np.uint64), len(data)
    if not len(ends):
        return np.empty(0, np.uint64), 0
    return varints_at(data, np.concatenate([[0], ends[:-1] + 1]), ends), int(ends[-1]) + 1


def varints_at(data: NDArray[np.uint8], starts: NDArray[Any], ends: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the numbers [numbers], at least one, whose first and last bytes are at these positions.

    Raises:
        MalformedMessage: one is longer than ``MAX_VARINT``.
    """
    longest = int((ends - starts).max()) + 1
    if longest > MAX_VARINT:
        raise MalformedMessage("a number is too long")
    values = np.zeros(len(starts), np.uint64)
    for place in range(longest):
        reaches = starts + place <= ends
        values[reaches] |= (data[starts[reaches] + place] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * place)
    return values
