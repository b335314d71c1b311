"""Where the fields of a header block begin and end (RFC 7541 section 6), so that large blocks are decoded in slices.

A block of a few kilobytes can stand for thousands of fields. Cut between two of them, the pieces mean one after the
other what the whole means; that bounds what is decoded at a time, and how much of a block that is too large is kept.
"""

from typing import Final

from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError

FIELDS_PER_SLICE: Final = 64
SLICE_BYTES: Final = 4096
"""A slice ends once it has as many bytes."""

MAX_INTEGER_BYTES: Final = 5

_INDEXED: Final = 0x80
_INCREMENTAL: Final = 0x40
_SIZE_UPDATE: Final = 0x20


class HeaderBlock:
    """A header block that is cut into slices of whole fields.

    A string of more than ``max_string_bytes``, as it is encoded, is left out, as decoding it would take long: ``slice``
    gives instead what has the same effect on the dynamic table, where it would have no place, and ``has_huge`` is set.
    """

    __slots__ = ("_at", "_block", "_has_field", "_max_string_bytes", "fields", "has_huge")

    def __init__(self, block: bytes, max_string_bytes: int) -> None:
        self._block = block
        self._max_string_bytes = max_string_bytes
        self._at = 0
        self._has_field = False
        self.has_huge = False
        self.fields = 0  # of the last slice

    @property
    def is_done(self) -> bool:
        """Whether there are no more slices."""
        return self._at >= len(self._block)

    def slice(self, table_bytes: int) -> bytes:
        """The next slice, in a form that any decoder takes; ``table_bytes`` is the dynamic table's maximum size.

        Raises:
            Http2ConnectionError: the block ends within a field, or changes the table's size after a field.
        """
        block, start, self.fields = self._block, self._at, 0
        at = start
        while at < len(block) and self.fields < FIELDS_PER_SLICE and at - start < SLICE_BYTES:
            stop = self._field_end(at)
            if self._is_huge(at, stop):
                if at > start:
                    break
                self._at, self.has_huge = stop, True
                return cleared(table_bytes) if block[at] & _INCREMENTAL else b""
            at = stop
            self.fields += 1
        self._at = at
        return block[start:at]

    def _is_huge(self, at: int, stop: int) -> bool:
        return stop - at > self._max_string_bytes

    def _field_end(self, at: int) -> int:
        first = self._block[at]
        if first & _INDEXED:
            self._has_field = True
            return self._integer(at, 0x7F)[1]
        if first & (_INCREMENTAL | _SIZE_UPDATE) == _SIZE_UPDATE:
            if self._has_field:
                raise no_header_block()
            return self._integer(at, 0x1F)[1]
        self._has_field = True
        index, stop = self._integer(at, 0x3F if first & _INCREMENTAL else 0x0F)
        if not index:
            stop = self._string_end(stop)
        return self._string_end(stop)

    def _string_end(self, at: int) -> int:
        size, start = self._integer(at, 0x7F)
        stop = start + size
        if stop > len(self._block):
            raise no_header_block()
        return stop

    def _integer(self, at: int, mask: int) -> tuple[int, int]:
        """An integer (RFC 7541 section 5.1), and where it ends."""
        block = self._block
        if at >= len(block):
            raise no_header_block()
        value = block[at] & mask
        if value < mask:
            return value, at + 1
        for place in range(1, MAX_INTEGER_BYTES + 1):
            if at + place >= len(block):
                break
            byte = block[at + place]
            value += (byte & 0x7F) << 7 * (place - 1)
            if byte < 0x80:
                return value, at + place + 1
        raise no_header_block()


def cleared(table_bytes: int) -> bytes:
    """What empties a dynamic table: its size becomes nothing, and then what it was."""
    if table_bytes < 0x1F:
        return bytes((_SIZE_UPDATE, _SIZE_UPDATE | table_bytes))
    parts, rest = bytearray((_SIZE_UPDATE, _SIZE_UPDATE | 0x1F)), table_bytes - 0x1F
    while rest >= 0x80:
        parts.append(rest & 0x7F | 0x80)
        rest >>= 7
    parts.append(rest)
    return bytes(parts)


def no_header_block() -> Http2ConnectionError:
    """What came cannot be decoded, and neither can anything after it."""
    return Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, "this is no header block")
