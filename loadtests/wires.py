"""Client connections that carry one prebuilt request at a time, as cheaply as Python can: HTTP/1.1 and gRPC."""

import re
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping

from loadtests.codecs import framed

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_READ = 1 << 18


class BrokenWire(Exception):
    """The server closed a connection, or spoke another protocol than expected."""


class Wire(ABC):
    """One connection; ``good`` says whether the last answer was a success, ``blocked`` that bytes wait to be sent.

    ``freed`` (when the last answer ended) and ``watched`` belong to the caller.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._out = bytearray()
        self._in = bytearray()
        self.good = False
        self.freed = 0.0
        self.watched = False

    def fileno(self) -> int:
        """The socket's number."""
        return self._socket.fileno()

    @property
    def blocked(self) -> bool:
        """Whether the socket would not take everything."""
        return bool(self._out)

    @abstractmethod
    def send(self) -> None:
        """Send the request."""

    @abstractmethod
    def receive(self) -> bool:
        """Read what came; whether that completes the answer."""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def flush(self) -> None:
        """Send what is left, as far as the socket takes it."""
        if self._out:
            del self._out[: self._write(self._out)]

    def _put(self, data: bytes) -> None:
        """Send, or keep what the socket does not take."""
        taken = 0 if self._out else self._write(data)
        if taken < len(data):
            self._out += data[taken:]

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as failure:
            raise BrokenWire(str(failure)) from failure

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError as failure:
            raise BrokenWire(str(failure)) from failure
        if not data:
            raise BrokenWire("the server closed a connection")
        self._in += data


class Http1Wire(Wire):
    """HTTP/1.1, answers with a content length."""

    def __init__(self, address: str, path: str, headers: Mapping[str, str], body: bytes, _: int) -> None:
        super().__init__(address)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nhost: {address}\r\n{lines}content-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._need = 0

    def send(self) -> None:
        """Send the request."""
        self._put(self._request)

    def receive(self) -> bool:
        """Read what came; whether that completes the answer."""
        self._read()
        if not self._need:
            end = self._in.find(b"\r\n\r\n")
            length = _LENGTH.search(self._in, 0, end) if end >= 0 else None
            if length is None:
                return False
            self._need = end + 4 + int(length[1])
        if len(self._in) < self._need:
            return False
        self.good = self._in.startswith(b"HTTP/1.1 200 ")
        del self._in[: self._need]
        self._need = 0
        return True


_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_FRAME = 16384
_OPEN_WINDOW = (1 << 31) - 1


class Http2Wire(Wire):
    """gRPC unary calls over HTTP/2, one stream at a time.

    Answers are distinguished from errors by their size (see ``answer_bytes``), not by reading their compressed headers.
    """

    def __init__(self, address: str, path: str, headers: Mapping[str, str], body: bytes, answer_bytes: int) -> None:
        super().__init__(address)
        self._head = _header_block(address, path, headers)
        self._body = framed(body)
        self._answer_bytes = answer_bytes
        self._stream = -1
        self._connection_window = self._stream_window = self._first_window = 65535
        self._at = len(self._body)
        self._got = self._unacknowledged = 0
        window = _frame(_WINDOW, 0, 0, struct.pack(">I", _OPEN_WINDOW - 65535))
        settings = _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _OPEN_WINDOW))
        self._put(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + window)

    def send(self) -> None:
        """Open the next stream and send the request as far as the server's windows reach."""
        self._stream += 2
        self._stream_window, self._at, self._got = self._first_window, 0, 0
        self._put(_frame(_HEADERS, _END_HEADERS, self._stream, self._head) + self._data())

    def receive(self) -> bool:
        """Read what came; whether that completes the answer."""
        self._read()
        data, at, complete = self._in, 0, False
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at < 9 + size:
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            complete |= self._frame(data[at + 3], data[at + 4], stream, data[at + 9 : at + 9 + size])
            at += 9 + size
        del data[:at]
        return complete

    def _frame(self, kind: int, flags: int, stream: int, payload: bytearray) -> bool:
        if kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
            self._put(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._put(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == _GOAWAY:
            raise BrokenWire("the server sent GOAWAY")
        return stream == self._stream and self._answer(kind, flags, payload)

    def _answer(self, kind: int, flags: int, payload: bytearray) -> bool:
        """Take a frame of the stream; whether it was the last."""
        if kind == _DATA:
            self._receive_data(len(payload))
        if kind != _RST and not (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
            return False
        self.good = kind == _HEADERS and self._got == self._answer_bytes
        self._at = len(self._body)  # after an early answer the rest of the body is not wanted
        return True

    def _receive_data(self, size: int) -> None:
        self._got += size
        self._unacknowledged += size
        if self._unacknowledged > 1 << 28:
            self._put(_frame(_WINDOW, 0, 0, struct.pack(">I", self._unacknowledged)))
            self._unacknowledged = 0

    def _settings(self, payload: bytearray) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == 4:
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
        """The frames of the body that the windows allow now."""
        frames = []
        while (left := len(self._body) - self._at) > 0:
            size = min(left, _FRAME, self._stream_window, self._connection_window)
            if size <= 0:
                break
            last = _END_STREAM if size == left else 0
            frames.append(_frame(_DATA, last, self._stream, self._body[self._at : self._at + size]))
            self._at += size
            self._stream_window -= size
            self._connection_window -= size
        return b"".join(frames)


def _frame(kind: int, flags: int, stream: int, payload: bytes | bytearray) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _header_block(address: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Literal header fields only, so the block is the same for every request and no table has to be kept."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": address, **headers}
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) >= 127:
        raise ValueError(f"a header part is too long for this client: {value}")
    return bytes([len(encoded)]) + encoded
