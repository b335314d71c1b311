"""Header blocks of requests: decoded by HPACK (RFC 7541), and remembered by their bytes where that is sound.

The blocks of one client repeat. A block that leaves the dynamic table as it is means the same the next time, until the
table changes. What one connection sends is never used for another.
"""

from collections.abc import Callable
from typing import Final

import hpack
from hpack.table import HeaderTable

from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError
from penstock.api.grpc.http2.request_head import RequestHead, request_head

MAX_BLOCKS: Final = 32
"""Blocks of one connection that are remembered."""

MAX_BLOCK_BYTES: Final = 4096
"""Size of the largest block that is remembered."""


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
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


class HeaderDecoder:
    """Decodes the header blocks of one connection, in the order in which they came.

    ``known`` maps blocks to the requests they describe as long as the dynamic table stays as it is. ``interpret`` makes
    the application's own head of a request's.
    """

    def __init__(self, max_list_bytes: int, interpret: Callable[[RequestHead], RequestHead]) -> None:
        self._decoder = hpack.Decoder(max_list_bytes)
        self._decoder.header_table = self._table = _CountingTable()
        self._interpret = interpret
        self.known: dict[bytes, RequestHead] = {}

    def request(self, block: bytes) -> RequestHead:
        """The request that a block describes.

        Raises:
            Http2ConnectionError: the block cannot be decoded, or its field list is too large.
            Http2StreamError: the request is malformed.
        """
        found = self.known.get(block)
        if found is not None:
            return found
        changes = self._table.changes
        head = self._interpret(request_head(self.fields(block)))
        if self._table.changes == changes and len(block) <= MAX_BLOCK_BYTES:
            if len(self.known) >= MAX_BLOCKS:
                self.known.clear()
            self.known[block] = head
        return head

    def fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block of any kind; raises ``Http2ConnectionError`` as ``request`` does."""
        changes = self._table.changes
        try:
            fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "the header fields are too large") from None
        except (hpack.HPACKError, IndexError, ValueError):
            raise Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, "this is no header block") from None
        if self._table.changes != changes:
            self.known = {}
        return fields
