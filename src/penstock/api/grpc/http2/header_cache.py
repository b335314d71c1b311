"""Header blocks (HPACK, RFC 7541): what a request's says, and the blocks of answers.

A client's blocks repeat: one that leaves the table as it is means the same the next time, until the table changes. And
clients are alike: what a connection's first blocks mean is known from those before it.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from dataclasses import dataclass
from typing import Any, Final, Literal

import hpack
from hpack.table import HeaderTable

from penstock.api.grpc.http2.frames import Broken, Code
from penstock.core.errors import Fault, Internal, Unsupported

MOST_BLOCKS: Final = 32
"""Blocks of one connection that are remembered."""

LONGEST_BLOCK: Final = 4096
"""Bytes of a block that is remembered."""

DEEPEST, MOST_BYTES = 3, 1 << 20
"""Blocks that change the table with which a connection begins like others, and bytes of all that is known of those."""

OF_ONE: Final = 1024
"""Bytes that each block takes which is known of those, beside its text."""

_STATUS_OK: Final = b"\x88"  # :status 200 of the static table
_UNITS: Final = {72: 3_600_000_000_000, 77: 60_000_000_000, 83: 1_000_000_000, 109: 1_000_000, 117: 1000, 110: 1}
"""Nanoseconds of the units of grpc-timeout: H, M, S, m, u, n."""

MOST_TIMEOUT_DIGITS: Final = 8
_CONNECTION: Final = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_RESERVED: Final = (b":", b"grpc-")

Fields = dict[bytes, bytes]
Encoding = Literal["identity", "gzip", "deflate"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's header block says: the method's path, the fields by name (of a name given twice, the last), all
    of them in order, the time limit, how messages are compressed, whether the answer may be; and why the call cannot be
    taken, as a status of HTTP or a fault."""

    path: str
    fields: Fields
    listed: tuple[tuple[bytes, bytes], ...]
    timeout_ns: int | None = None
    encoding: str = "identity"
    accepts: frozenset[str] = frozenset()
    http_status: int = 0
    fault: Fault | None = None

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The call's metadata as gRPC has it; values of names in ``-bin`` are bytes."""
        told = [(name, value) for name, value in self.listed if not name.startswith(_RESERVED)]
        return tuple((name.decode("ascii", "replace"), _value(name, value)) for name, value in told)


class Malformed(Exception):
    """A request that RFC 9113 section 8.1.1 calls malformed; it ends its stream."""


class _Table(HeaderTable):
    """A header table that counts its changes."""

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


class Beginning:
    """Blocks that connections have begun with: what those mean that leave the table as it is now, and those that change
    it, with where they lead to."""

    __slots__ = ("after", "age", "bytes", "depth", "known")

    def __init__(self, age: int, depth: int) -> None:
        self.age = age
        self.depth = depth
        self.bytes = 0
        self.known: dict[bytes, Head] = {}
        self.after: dict[bytes, tuple[Head, Beginning]] = {}


class Beginnings:
    """How connections begin, known to all of them: clients of a kind send the same first blocks, and to read those
    costs more than to answer. When they take too much memory they are forgotten, and new ones take their place."""

    def __init__(self) -> None:
        self.first = Beginning(0, 0)
        self._bytes = 0

    def keep(self, at: Beginning, block: bytes, head: Head, moves: bool) -> Beginning | None:
        """Remember what a block means that came after others, and where it leads to; None if that is not remembered."""
        size = len(block) + sum([len(name) + len(value) for name, value in head.listed]) + OF_ONE
        if at.age != self.first.age or size > LONGEST_BLOCK + OF_ONE or (moves and at.depth >= DEEPEST):
            return None
        if self._bytes + size > MOST_BYTES:
            self.first, self._bytes = Beginning(at.age + 1, 0), 0
            return None
        if not moves and len(at.known) >= MOST_BLOCKS:
            self._bytes -= at.bytes
            at.bytes = 0
            at.known.clear()
        self._bytes += size
        if not moves:
            at.bytes += size
            at.known[block] = head
            return at
        after = Beginning(at.age, at.depth + 1)
        at.after[block] = head, after
        return after


class Heads:
    """The reader of one connection's header blocks; ``known`` are those that mean what they meant, by their bytes.

    As long as it sends what others have sent it needs no table: its blocks are kept, and read when one is not known.
    """

    def __init__(self, most_bytes: int, beginnings: Beginnings) -> None:
        self._decoder = hpack.Decoder(most_bytes)
        self._decoder.header_table = self._table = _Table()
        self._beginnings = beginnings
        self._at: Beginning | None = beginnings.first
        self._unread: list[bytes] = []
        self.known: dict[bytes, Head] = beginnings.first.known

    def read(self, block: bytes) -> Head:
        """What a block says.

        Raises:
            Broken: it is no header block, or too large a one.
            Malformed: it is no request.
        """
        found = self.known.get(block)
        if found is not None:
            return found
        step = None if self._at is None else self._at.after.get(block)
        if step is None:
            return self._read(block)
        self._unread.append(block)
        self._stand(step[1])
        return step[0]

    def fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block, which also changes the table as it says; raises ``Broken``."""
        fields, moves = self._decode(block)
        if moves:
            self._leave()
        return fields

    def _read(self, block: bytes) -> Head:
        at = self._at
        fields, moves = self._decode(block)
        if moves:
            self._leave()
        head = _head(fields)
        kept = None if at is None else self._beginnings.keep(at, block, head, moves)
        if kept is not None:
            self._stand(kept)
            return head
        if at is not None:
            self._leave()
        if not moves and len(block) <= LONGEST_BLOCK:
            if len(self.known) >= MOST_BLOCKS:
                self.known.clear()
            self.known[block] = head
        return head

    def _stand(self, at: Beginning) -> None:
        self._at, self.known = at, at.known

    def _leave(self) -> None:
        """Be on its own: with a table that is unlike any other's, or more to remember than all need know."""
        self._at, self.known = None, {}

    def _decode(self, block: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The fields of a block, and whether it changed the table."""
        unread, self._unread = self._unread, []
        try:
            for one in unread:
                self._decoder.decode(one, raw=True)
            changes = self._table.changes
            fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            raise Broken(Code.ENHANCE_YOUR_CALM, "the header fields are too large") from None
        except (hpack.HPACKError, IndexError, ValueError):
            raise Broken(Code.COMPRESSION_ERROR, "this is no header block") from None
        return fields, self._table.changes != changes


def _head(fields: list[tuple[bytes, bytes]]) -> Head:
    pseudo: Fields = {}
    plain: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name[:1] == b":":
            if plain or name in pseudo:
                raise Malformed(f"{name!r} is out of place")
            pseudo[name] = value
        elif name in _CONNECTION or not name or name != name.lower():
            raise Malformed(f"{name!r} has no place in HTTP/2")
        else:
            plain.append((name, value))
    path = pseudo.get(b":path", b"")
    if pseudo.keys() - {b":method", b":path", b":scheme", b":authority"} or not path or b":scheme" not in pseudo:
        raise Malformed("a request has a method, a scheme and a path")
    return _grpc_head(path.decode("latin-1"), pseudo.get(b":method", b""), tuple(plain))


def _grpc_head(path: str, method: bytes, listed: tuple[tuple[bytes, bytes], ...]) -> Head:
    values: dict[str, Any] = {"path": path, "fields": dict(listed), "listed": listed}
    fields: Fields = values["fields"]
    if method != b"POST":
        return Head(**values, http_status=405)
    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        return Head(**values, http_status=415)
    accepts = fields.get(b"grpc-accept-encoding", b"").decode("latin-1").replace(" ", "").split(",")
    values["accepts"] = frozenset(accepts)
    encoding = fields.get(b"grpc-encoding", b"identity").decode("latin-1")
    if encoding not in ("identity", "gzip", "deflate"):
        return Head(**values, fault=Unsupported(f"the compression '{encoding[:32]}' is unknown here"))
    try:
        timeout = timeout_ns(fields[b"grpc-timeout"]) if b"grpc-timeout" in fields else None
    except ValueError:
        return Head(**values, fault=Internal("grpc-timeout is at most eight digits and a unit"))
    return Head(**values, encoding=encoding, timeout_ns=timeout)


def timeout_ns(text: bytes) -> int:
    """Nanoseconds of a grpc-timeout; raises ``ValueError``."""
    digits = text[:-1]
    if not digits.isdigit() or len(digits) > MOST_TIMEOUT_DIGITS or text[-1] not in _UNITS:
        raise ValueError
    return int(digits) * _UNITS[text[-1]]


def _value(name: bytes, value: bytes) -> str | bytes:
    if not name.endswith(b"-bin"):
        return value.decode("latin-1")
    try:
        return b64decode(value + b"=" * (-len(value) % 4))
    except NotBase64:
        return b""


# Answers: literals without indexing, so that no answer depends on another one.


def literal(name: bytes, value: bytes) -> bytes:
    """One field."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    rest, parts = size - 127, bytearray((127,))
    while rest >= 128:
        parts.append(rest & 127 | 128)
        rest >>= 7
    parts.append(rest)
    return bytes(parts) + text


GRPC: Final = _STATUS_OK + literal(b"content-type", b"application/grpc")
"""What every answer's header block begins with."""

ACCEPTS: Final = literal(b"grpc-accept-encoding", b"identity,gzip,deflate")
OK: Final = literal(b"grpc-status", b"0")
"""The trailers of a call that went well."""


def http_status(status: int) -> bytes:
    """The header block of an answer that is none of gRPC's."""
    return literal(b":status", str(status).encode())


def failed(status: int, message: str) -> bytes:
    """The trailers of a call that did not go well."""
    return literal(b"grpc-status", str(status).encode()) + literal(b"grpc-message", percent(message))


def percent(text: str) -> bytes:
    """A text as gRPC's status messages are written: what is not printable ASCII, and per cent signs, encoded."""
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and raw.decode().isprintable() and b"%" not in raw:
        return raw
    return b"".join(bytes((one,)) if 32 <= one < 127 and one != 37 else b"%%%02X" % one for one in raw)


def metadata(pairs: Any) -> bytes:
    """Metadata of an answer; what is no text is of a name in ``-bin``, which nobody here sends."""
    return b"".join(literal(name.encode("ascii"), str(value).encode("latin-1", "replace")) for name, value in pairs)
