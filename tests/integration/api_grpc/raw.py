"""A client of HTTP/2 that can also break its rules: frames written by hand over a socket, and read back."""

import socket
import ssl
from dataclasses import dataclass, field

import hpack

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.frames import encode_frame
from penstock.proto import grpc_service_pb2 as pb
from tests.harness import PATIENCE_S

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/Check"
FRAME = 1 << 16  # the largest frame that the server takes


@dataclass
class Frame:
    """One frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def ends(self) -> bool:
        return bool(self.flags & frames.END_STREAM)


@dataclass
class Answer:
    """What came of one call: fields, then data, then trailers; how it was reset, if it was."""

    fields: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    over: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.fields["grpc-status"])

    def message(self) -> pb.ModelInferResponse:
        return pb.ModelInferResponse.FromString(bytes(self.data[5:]))


class Raw:
    """One connection."""

    def __init__(
        self,
        address: str,
        settings: dict[int, int] | None = None,
        greet: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.socket.settimeout(PATIENCE_S)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.answers: dict[int, Answer] = {}
        self.other: list[Frame] = []
        self.closed = False
        self.next = 1
        self._rest = b""
        if greet:
            self.write(frames.PREFACE + frames.encode_settings(settings or {}))

    def write(self, data: bytes) -> None:
        """Send bytes; a connection that the server has ended is not an error."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def head(self, path: str = INFER, method: str = "POST", **more: str) -> bytes:
        """A header block."""
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        fields += [("content-type", "application/grpc"), ("te", "trailers")]
        block: bytes = self.encoder.encode([*fields, *((key.replace("_", "-"), value) for key, value in more.items())])
        return block

    def call(self, message: bytes, path: str = INFER, **more: str) -> int:
        """Begin and complete a call; its number."""
        number, self.next = self.next, self.next + 2
        body = b"\0" + len(message).to_bytes(4) + message
        parts = [encode_frame(frames.HEADERS, frames.END_HEADERS, number, self.head(path, **more))]
        for at in range(0, len(body), FRAME):
            last = at + FRAME >= len(body)
            parts.append(encode_frame(frames.DATA, frames.END_STREAM if last else 0, number, body[at : at + FRAME]))
        self.write(b"".join(parts))
        return number

    def call_in_pieces(self, message: bytes, path: str = INFER) -> int:
        """Begin and complete a call whose message is larger than the server's windows, reading meanwhile."""
        number, self.next = self.next, self.next + 2
        self.write(encode_frame(frames.HEADERS, frames.END_HEADERS, number, self.head(path)))
        body, sent = b"\0" + len(message).to_bytes(4) + message, 0
        self.socket.setblocking(True)
        while sent < len(body):
            opened = sum(
                int.from_bytes(item.payload)
                for item in self.other
                if item.kind == frames.WINDOW_UPDATE and item.stream == number
            )
            capacity = min(len(body) - sent, (1 << 20) + opened - sent, 1 << 16)
            if capacity <= 0:
                self.read()
                continue
            last = sent + capacity == len(body)
            self.write(
                encode_frame(frames.DATA, frames.END_STREAM if last else 0, number, body[sent : sent + capacity])
            )
            sent += capacity
        self.socket.settimeout(PATIENCE_S)
        return number

    def answer(self, number: int) -> Answer:
        """What came of a call; everything else that comes is kept."""
        while not self.answers.setdefault(number, Answer()).over and not self.closed:
            self.read()
        return self.answers[number]

    def frames_until(self, kind: int) -> Frame:
        """The next frame of a kind."""
        while True:
            for index, item in enumerate(self.other):
                if item.kind == kind and not (kind == frames.SETTINGS and item.flags & frames.ACK):
                    return self.other.pop(index)
            assert not self.closed, "it did not come"
            self.read()

    def until_closed(self) -> int | None:
        """Wait until the server closes; the code of its GOAWAY, None without one."""
        while not self.closed:
            self.read()
        codes = [int.from_bytes(item.payload[4:8]) for item in self.other if item.kind == frames.GOAWAY]
        return codes[-1] if codes else None

    def read(self) -> None:
        """Take in what has come."""
        try:
            data = self.socket.recv(1 << 20)
        except (ConnectionError, TimeoutError):
            data = b""
        if not data:
            self.closed = True
            return
        data = self._rest + data
        at = 0
        while len(data) - at >= frames.FRAME_HEADER_BYTES:
            word, flags, stream = frames.FRAME_HEADER.unpack_from(data, at)
            stop = at + frames.FRAME_HEADER_BYTES + (word >> 8)
            if stop > len(data):
                break
            self._take(Frame(word & 0xFF, flags, stream, data[at + frames.FRAME_HEADER_BYTES : stop]))
            at = stop
        self._rest = data[at:]

    def _take(self, one: Frame) -> None:
        if one.kind == frames.HEADERS:
            answer = self.answers.setdefault(one.stream, Answer())
            answer.fields |= {str(name): str(value) for name, value in self.decoder.decode(one.payload)}
            answer.over |= one.ends
        elif one.kind == frames.DATA:
            answer = self.answers.setdefault(one.stream, Answer())
            answer.data += one.payload
            answer.over |= one.ends
        elif one.kind == frames.RST_STREAM:
            answer = self.answers.setdefault(one.stream, Answer())
            answer.reset, answer.over = int.from_bytes(one.payload), True
        else:
            self.other.append(one)

    def close(self) -> None:
        self.socket.close()
