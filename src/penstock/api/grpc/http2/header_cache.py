"""Decodes the header blocks of one connection by HPACK (RFC 7541), and caches them by their bytes where that is sound.

The blocks of one client repeat. A block that leaves the dynamic table as it is means the same the next time, until the
table changes. What one connection sends is never used for another.
"""

from collections.abc import Callable
from typing import Final

import hpack
from hpack.table import HeaderTable

from penstock.api.grpc.http2.header_block import HeaderBlock, no_header_block
from penstock.api.grpc.http2.request_head import Field, Http2RequestHead, request_head

MAX_BLOCKS: Final = 32
"""Maximum number of cached blocks."""

MAX_BLOCK_BYTES: Final = 4096
"""Maximum bytes of a cached block."""

FIELD_OVERHEAD: Final = 32
"""Overhead of a field in the size of a field list (RFC 9113 section 6.5.2)."""

_UNLIMITED: Final = 1 << 31
_KEPT: Final = (b":method", b":path", b":scheme", b":authority", b"content-type")
"""Fields to keep of a field list that is too large, so that the request can be answered."""


_set_maxsize: Final[Callable[[HeaderTable, int], None]] = vars(HeaderTable)["maxsize"].fset


class _CountingTable(HeaderTable):
    """A dynamic table that counts its changes."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        _set_maxsize(self, newmax)


class HeaderDecoder:
    """Decodes the header blocks of one connection, in the order in which they came.

    ``known`` maps blocks to the requests they describe as long as the dynamic table stays as it is. Any other block is
    begun, decoded step by step, each of a bounded time, and then taken as ``request`` or ``trailers``. Of a field list
    over ``max_list_bytes`` only a few fields are kept, but the table follows to its end. A block that is large may be
    begun before it is whole, and is then appended to. ``interpret`` makes the application's own head of a request's.
    """

    def __init__(self, max_list_bytes: int, interpret: Callable[[Http2RequestHead], Http2RequestHead]) -> None:
        self._max_list_bytes = max_list_bytes
        self._interpret = interpret
        self._decoder = hpack.Decoder(_UNLIMITED)
        self._decoder.header_table = self._table = _CountingTable()
        self._bytes = b""
        self._block = HeaderBlock(b"", max_list_bytes)
        self._changes = 0
        self._list_bytes = 0
        self._fields: list[Field] = []
        self.known: dict[bytes, Http2RequestHead] = {}
        self.too_large = False

    def begin(self, block: bytes, is_whole: bool = True) -> None:
        """Begin the next block; the previous one must be done. A block that is not ``is_whole`` is large."""
        self._bytes = block
        self._block = HeaderBlock(block, self._max_list_bytes, is_whole)
        self._changes = self._table.changes
        self._list_bytes = 0
        self._fields = []
        self.too_large = False

    def append(self, more: bytes, is_whole: bool) -> None:
        """Append to a block that was begun before it was complete; all of its complete fields are decoded."""
        self._block.append(more, is_whole)

    def step(self) -> int:
        """Decode some fields of the block, and return their number.

        Raises:
            Http2ConnectionError: it is not a header block.
        """
        try:
            piece = self._block.slice(self._table.maxsize)
            for name, value in self._decoder.decode(piece, raw=True):
                self._add(name, value)
        except (hpack.HPACKError, IndexError, ValueError):
            raise no_header_block() from None
        if self._block.has_huge and not self.too_large:
            self._drop()
        if self._table.changes != self._changes:
            self.known = {}
        return self._block.fields

    @property
    def is_open(self) -> bool:
        """Whether more of the block follows."""
        return self._block.is_open

    @property
    def is_starved(self) -> bool:
        """Whether the next step needs more of the block."""
        return self._block.is_starved

    @property
    def is_done(self) -> bool:
        """Whether the block is decoded."""
        return self._block.is_done

    def request(self) -> Http2RequestHead:
        """Return the request in the block.

        Raises:
            Http2StreamError: the request is malformed.
        """
        head = self._interpret(request_head(self._fields, self.too_large))
        if self._table.changes == self._changes and len(self._bytes) <= MAX_BLOCK_BYTES and not self.too_large:
            if len(self.known) >= MAX_BLOCKS:
                self.known.clear()
            self.known[self._bytes] = head
        return head

    def fields(self) -> list[Field]:
        """Return the fields of the block; incomplete if it is ``too_large``."""
        return self._fields

    def _add(self, name: bytes, value: bytes) -> None:
        self._list_bytes += len(name) + len(value) + FIELD_OVERHEAD
        if self._list_bytes > self._max_list_bytes and not self.too_large:
            self._drop()
        if not self.too_large or (name in _KEPT and len(self._fields) < len(_KEPT)):
            self._fields.append((name, value))

    def _drop(self) -> None:
        self.too_large = True
        self._fields = [field for field in self._fields if field[0] in _KEPT][: len(_KEPT)]
