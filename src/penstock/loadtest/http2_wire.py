"""A connection with gRPC unary calls over HTTP/2 (RFC 9113), one stream at a time.

The client allows the server no dynamic table (SETTINGS_HEADER_TABLE_SIZE 0, RFC 7541 section 4.2), so each header block
stands for itself: those without the status are not decoded, and equal ones only once.
"""

import struct
from collections.abc import Mapping
from typing import Final

import hpack

from penstock.loadtest.wire import MOST_ANSWER, BrokenWire, Endpoint, Requests, Wire

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_ADDED: Final = _PADDED | _PRIORITY
_TABLE_SIZE, _INITIAL_WINDOW = 1, 4
_FRAME: Final = 16384
_OPEN_WINDOW: Final = (1 << 31) - 1
_ACKNOWLEDGE_AFTER: Final = 1 << 28
_FIELD: Final = 9
_MOST_BLOCKS: Final = 1024
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

GRPC_PATH: Final = "/inference.GRPCInferenceService/ModelInfer"
"""The path of predictions."""

UNKNOWN: Final = 2
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
_OF_HTTP: Final = {400: INTERNAL, 401: 16, 403: 7, 404: 12, 429: UNAVAILABLE, 502: UNAVAILABLE, 503: UNAVAILABLE}
"""The gRPC status of an answer without one, by its HTTP status (gRPC's doc/http-grpc-status-mapping.md)."""


class Http2Wire(Wire):
    """gRPC over HTTP/2. An outcome is the gRPC status, 0 for success.

    An ``answer`` is the message with its prefix. ``blocks`` keeps the status of each header block; wires of one load
    test share it.
    """

    def __init__(self, endpoint: Endpoint, head: bytes, bodies: Requests, blocks: dict[bytes, int]) -> None:
        super().__init__(endpoint)
        self._head = head
        self._bodies = bodies
        self._blocks = blocks
        self._body = b""
        self._at = 0
        self._stream = -1
        self._connection_window = self._stream_window = self._first_window = 65535
        self._unacknowledged = 0
        self._block = bytearray()
        self._ends = False

    def _start(self) -> None:
        settings = struct.pack(">HIHI", _TABLE_SIZE, 0, _INITIAL_WINDOW, _OPEN_WINDOW)
        window = struct.pack(">I", _OPEN_WINDOW - 65535)
        self._put(_PREFACE + _encode_frame(_SETTINGS, 0, 0, settings) + _encode_frame(_WINDOW, 0, 0, window))

    def send(self, number: int) -> None:
        """See ``Wire``; sends as far as the windows of the server reach."""
        self._stream += 2
        self.answer = b""
        self._body, self._at, self._stream_window = self._bodies[number], 0, self._first_window
        self._put(_encode_frame(_HEADERS, _END_HEADERS, self._stream, self._head) + self._data())

    def receive(self) -> bool:
        """See ``Wire``."""
        self._read()
        data, at, complete = self._in, 0, False
        while len(data) - at >= _FIELD:
            size = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at < _FIELD + size:
                break
            stream = int.from_bytes(data[at + 5 : at + _FIELD], "big")
            complete |= self._take(data[at + 3], data[at + 4], stream, data[at + _FIELD : at + _FIELD + size])
            at += _FIELD + size
        del data[:at]
        return complete

    def _take(self, kind: int, flags: int, stream: int, payload: bytearray) -> bool:
        """Take one frame; whether it completes the present answer."""
        if stream == self._stream and kind in (_DATA, _HEADERS, _CONTINUATION, _RST):
            return self._answer(kind, flags, payload)
        if kind == _SETTINGS and not flags & _ACK:
            self._set(payload)
            self._put(_encode_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._put(_encode_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == _GOAWAY:
            raise BrokenWire("the gateway sent GOAWAY")
        return False

    def _answer(self, kind: int, flags: int, payload: bytearray) -> bool:
        if kind == _DATA:
            self._unacknowledged += len(payload)
            if self._unacknowledged > _ACKNOWLEDGE_AFTER:
                self._acknowledge()
            if self.keeps_answers:
                self._keep(_without_padding(flags, payload))
            complete = bool(flags & _END_STREAM)
            self.outcome = UNKNOWN  # an end without trailers has no status
        elif kind == _RST:
            self.outcome, complete = UNAVAILABLE, True
        else:
            complete = self._take_block(kind, flags, payload)
        if complete:
            self._at = len(self._body)  # after an early answer the rest of the body is not needed
        return complete

    def _keep(self, part: bytearray) -> None:
        if len(self.answer) + len(part) > MOST_ANSWER:
            raise BrokenWire("an answer is too long")
        self.answer += part

    def _take_block(self, kind: int, flags: int, payload: bytearray) -> bool:
        """Take a part of a header block; whether it is the whole block of the end of the stream."""
        if kind == _HEADERS:
            self._ends = bool(flags & _END_STREAM)
            if not self._ends:
                return False  # only the block of the end has the status
            self._block = _without_padding(flags, payload) if flags & _ADDED else payload
        elif self._ends:
            self._block += payload
        if not flags & _END_HEADERS or not self._ends:
            return False
        block = bytes(self._block)
        known = self._blocks.get(block)
        self.outcome = self._learn(block) if known is None else known
        return True

    def _learn(self, block: bytes) -> int:
        """Decode a header block, and keep its status."""
        if len(self._blocks) >= _MOST_BLOCKS:
            self._blocks.clear()
        status = self._blocks[block] = grpc_status(block)
        return status

    def _acknowledge(self) -> None:
        self._put(_encode_frame(_WINDOW, 0, 0, struct.pack(">I", self._unacknowledged)))
        self._unacknowledged = 0

    def _set(self, payload: bytearray) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == _INITIAL_WINDOW:
                self._stream_window += value - self._first_window
                self._first_window = value

    def _widen(self, stream: int, by: int) -> None:
        if stream == 0:
            self._connection_window += by
        elif stream == self._stream:
            self._stream_window += by
        if self._at < len(self._body):
            self._put(self._data())

    def _data(self) -> bytes:
        """Return the frames of the body that the windows allow now."""
        frames = []
        while (left := len(self._body) - self._at) > 0:
            size = min(left, _FRAME, self._stream_window, self._connection_window)
            if size <= 0:
                break
            frames.append(
                _encode_frame(
                    _DATA, _END_STREAM if size == left else 0, self._stream, self._body[self._at : self._at + size]
                )
            )
            self._at += size
            self._stream_window -= size
            self._connection_window -= size
        return b"".join(frames)


def grpc_head(endpoint: Endpoint, path: str, headers: Mapping[str, str]) -> bytes:
    """Return the header block of a call, of literals alone: it is the same in every call."""
    fields = {
        ":method": "POST",
        ":scheme": "http" if endpoint.tls is None else "https",
        ":path": path,
        ":authority": endpoint.authority,
        "te": "trailers",
        "content-type": "application/grpc",
        **headers,
    }
    return b"".join(b"\0" + _encode_text(name) + _encode_text(value) for name, value in fields.items())


def grpc_body(message: bytes) -> bytes:
    """Return a message with the prefix of gRPC."""
    return struct.pack(">BI", 0, len(message)) + message


def grpc_status(block: bytes) -> int:
    """Return the gRPC status in the header block that ended a call, or what its HTTP status stands for."""
    try:
        fields = {str(name): str(value) for name, value in hpack.Decoder().decode(block)}
    except hpack.HPACKError:
        raise BrokenWire("a header block of an answer cannot be decoded") from None
    if (status := fields.get("grpc-status", "")).isdecimal():
        return int(status)
    return _OF_HTTP.get(int(fields.get(":status", "0")), UNKNOWN)


def _without_padding(flags: int, payload: bytearray) -> bytearray:
    padding = payload[0] if flags & _PADDED else 0
    begin = bool(flags & _PADDED) + 5 * bool(flags & _PRIORITY)
    return payload[begin : len(payload) - padding]


def _encode_frame(kind: int, flags: int, stream: int, payload: bytes | bytearray) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _encode_text(value: str) -> bytes:
    encoded = value.encode()
    return _encode_integer(len(encoded)) + encoded


def _encode_integer(value: int) -> bytes:
    """Encode a length with a prefix of 7 bits (RFC 7541 section 5.1)."""
    if value < 127:
        return bytes([value])
    rest, out = value - 127, bytearray([127])
    while rest >= 128:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)
