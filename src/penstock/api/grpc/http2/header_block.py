"""Finds the boundaries of fields in a header block (RFC 7541 section 6), so that large blocks are decoded in slices.

A block of a few kilobytes can stand for thousands of fields. Cut between two of them, the pieces mean one after the
other what the whole means; that bounds what is decoded at a time, and how much of a block that is too large is kept.
"""

from typing import Final

from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError

FIELDS_PER_SLICE: Final = 64
SLICE_BYTES: Final = 4096
"""Bytes after which a slice ends."""

MAX_INTEGER_BYTES: Final = 5

_INDEXED: Final = 0x80
_INCREMENTAL: Final = 0x40
_SIZE_UPDATE: Final = 0x20
_MISSING: Final = -1
"""The end of an item whose length was not received yet."""


class HeaderBlock:
    """A header block that is split into slices of whole fields; more bytes may be appended.

    A string of more than ``max_string_bytes``, as it is encoded, is left out, as decoding it would take long: ``slice``
    gives instead what has the same effect on the dynamic table, where it would have no place, and ``has_huge`` is set.
    """

    __slots__ = (
        "_at",
        "_block",
        "_has_field",
        "_is_whole",
        "_max_string_bytes",
        "_skipped",
        "_skips_value",
        "fields",
        "has_huge",
        "is_starved",
    )

    def __init__(self, block: bytes, max_string_bytes: int, is_whole: bool = True) -> None:
        self._block = block
        self._max_string_bytes = max_string_bytes
        self._is_whole = is_whole
        self._at = 0
        self._has_field = False
        self._skipped = 0  # bytes to come of a string that is left out
        self._skips_value = False  # that string is a name, and its value is left out too
        self.has_huge = False
        self.is_starved = False  # there is no slice until more comes
        self.fields = 0  # of the last slice

    @property
    def is_open(self) -> bool:
        """Whether more bytes follow."""
        return not self._is_whole

    @property
    def is_done(self) -> bool:
        """Whether there are no more slices."""
        return self._is_whole and self._at >= len(self._block) and not self._skipped and not self._skips_value

    def append(self, more: bytes, is_whole: bool) -> None:
        """Append received bytes; less than a field of the earlier ones is left."""
        self._block = self._block[self._at :] + more
        self._at = 0
        self._is_whole = is_whole
        self.is_starved = False

    def slice(self, table_bytes: int) -> bytes:
        """Return the next slice, in a form that any decoder accepts; ``table_bytes`` is the dynamic table's maximum
        size.

        Raises:
            Http2ConnectionError: the block ends within a field, or changes the table's size after a field.
        """
        self.fields = 0
        if self._skipped or self._skips_value:
            self._skip()
            if self.is_starved:
                return b""
        block, start = self._block, self._at
        at = start
        while at < len(block) and self.fields < FIELDS_PER_SLICE and at - start < SLICE_BYTES:
            stop = self._field_end(at)
            if self._is_huge(at, stop):
                if at == start:
                    return self._placeholder(at, stop, table_bytes)
                break
            if stop == _MISSING or stop > len(block):
                self.is_starved = at == start
                break
            at = stop
            self.fields += 1
        self._at = at
        self.is_starved = self.is_starved or (at >= len(block) and not self._is_whole)
        return block[start:at]

    def _is_huge(self, at: int, stop: int) -> bool:
        """Whether a field is omitted; a long name alone may be the reason."""
        return (len(self._block) if stop == _MISSING else stop) - at > self._max_string_bytes

    def _placeholder(self, at: int, stop: int, table_bytes: int) -> bytes:
        """Return the replacement of an omitted field, which may be incomplete."""
        block, first = self._block, self._block[at]
        self.has_huge = True
        if stop == _MISSING:
            name = self._integer(at, 0x3F if first & _INCREMENTAL else 0x0F)[1]
            size, start = self._integer(name, 0x7F)
            stop, self._skips_value = start + size, True
        self._skipped = max(0, stop - len(block))
        self._at = stop - self._skipped
        self.is_starved = self._skipped > 0
        return clear_table(table_bytes) if first & _INCREMENTAL else b""

    def _skip(self) -> None:
        """Skip an omitted field, as far as it was received."""
        taken = min(self._skipped, len(self._block) - self._at)
        self._skipped -= taken
        self._at += taken
        if not self._skipped and self._skips_value:
            size, start = self._integer(self._at, 0x7F)
            if start != _MISSING:
                self._skips_value = False
                self._skipped = max(0, start + size - len(self._block))
                self._at = start + size - self._skipped
        if self._is_whole and self._skipped:
            raise no_header_block()
        self.is_starved = self._skipped > 0 or self._skips_value

    def _field_end(self, at: int) -> int:
        """Return the end of a field, which may be after the received bytes; _MISSING without its length."""
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
        if stop != _MISSING and not index:
            stop = self._string_end(stop)
        return stop if stop == _MISSING else self._string_end(stop)

    def _string_end(self, at: int) -> int:
        size, start = self._integer(at, 0x7F)
        if start == _MISSING:
            return _MISSING
        if self._is_whole and start + size > len(self._block):
            raise no_header_block()
        return start + size

    def _integer(self, at: int, mask: int) -> tuple[int, int]:
        """Return an integer (RFC 7541 section 5.1) and its end; _MISSING if it is incomplete."""
        block = self._block
        if at < len(block):
            value = block[at] & mask
            if value < mask:
                return value, at + 1
            for length in range(1, MAX_INTEGER_BYTES + 1):
                if at + length >= len(block):
                    break
                byte = block[at + length]
                value += (byte & 0x7F) << 7 * (length - 1)
                if byte < 0x80:
                    return value, at + length + 1
            else:
                raise no_header_block()
        if self._is_whole:
            raise no_header_block()
        return 0, _MISSING


def clear_table(table_bytes: int) -> bytes:
    """Return the bytes that empty a dynamic table: they set its size to 0, and then back."""
    if table_bytes < 0x1F:
        return bytes((_SIZE_UPDATE, _SIZE_UPDATE | table_bytes))
    parts, rest = bytearray((_SIZE_UPDATE, _SIZE_UPDATE | 0x1F)), table_bytes - 0x1F
    while rest >= 0x80:
        parts.append(rest & 0x7F | 0x80)
        rest >>= 7
    parts.append(rest)
    return bytes(parts)


def no_header_block() -> Http2ConnectionError:
    """Return the error of a block that cannot be decoded; later blocks cannot be either."""
    return Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, "the header block is not valid HPACK")
