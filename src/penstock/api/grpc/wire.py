"""Parses ModelInferRequest: large messages are split into fields, so that tensors are neither parsed nor copied.

What is left, names, shapes and parameters, is short and is parsed as any message is. Tags and lengths are varints; see
the encoding chapter of the Protocol Buffers documentation for the rules.
"""

from typing import Final

from google.protobuf.message import DecodeError

from penstock.api.common.work import LargeWork
from penstock.api.grpc.errors import InvalidMessageBytes
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.protobuf_wire import BYTES, FIXED32, FIXED64, VARINT, encode_varint
from penstock.core.slices import TEXT_SLICE, PauseWork
from penstock.proto import grpc_service_pb2 as pb

SMALL_MESSAGE: Final = 1 << 16
"""Maximum bytes of a message to parse directly."""

INLINE_FIELDS: Final = 256
"""Maximum number of fields of a larger message to split on the event loop."""

MAX_DESCRIPTION: Final = 1 << 18
"""Maximum bytes of a message without the contents of its tensors: names, shapes and parameters."""

MAX_RAW_CONTENTS: Final = 4096
"""Maximum entries of raw_input_contents."""

MAX_PARTS: Final = 4096
"""Parts that the typed contents of a message come in, and the packed numbers of one input. Each takes memory of its
own, also if it is empty; serializers write one of either."""

MAX_NAME: Final = 1024
"""Maximum bytes of a name to find before the message is parsed."""

PARAMETERS, INPUTS, RAW_CONTENTS = 4, 5, 7
"""Fields of a ModelInferRequest."""

CONTENTS: Final = 5
"""The field of an input with its typed contents."""

Span = tuple[int, int]
"""Begin and end of a part of a message."""


class ParsedRequest:
    """A message: ``request`` is all of it, or all but the contents of tensors where ``message`` was taken apart.

    ``raw_contents`` are the entries of raw_input_contents; ``contents`` are, for each input, the places of its typed
    contents in ``message`` (several are one after the other), None where they are in ``request``.
    """

    __slots__ = ("contents", "message", "raw_contents", "request")

    def __init__(
        self,
        request: pb.ModelInferRequest,
        message: bytes,
        raw_contents: "list[bytes] | list[memoryview]",
        contents: list[list[Span]] | None,
    ) -> None:
        self.request = request
        self.message = message
        self.raw_contents = raw_contents
        self.contents = contents


def parse_request(message: bytes, pause: PauseWork | None, small_bytes: int = SMALL_MESSAGE) -> ParsedRequest:
    """Parse one message; one of more than ``small_bytes`` is split into fields.

    Without a ``pause``, the caller is the event loop, and messages with very many fields raise ``LargeWork``.

    Raises:
        InvalidInput: the bytes are something else.
        TooLarge: the message is large, and not for its tensors.
        LargeWork: it has to be parsed on a thread.
    """
    if len(message) <= small_bytes:
        request = _request(message)
        return ParsedRequest(request, message, list(request.raw_input_contents), None)
    return _WireParser(message, pause).run()


def _request(message: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(message)
    except DecodeError:
        raise not_a_request() from None


def not_a_request() -> InvalidMessageBytes:
    """Return the error of bytes that are not a ModelInferRequest."""
    return InvalidMessageBytes("the message is not a valid ModelInferRequest")


def read_varint(message: bytes, at: int, stop: int) -> tuple[int, int]:
    """Return a number and its end; raises ``InvalidInput``. It is that of ``core.protobuf_wire`` for bytes alone, which
    the compiler makes faster."""
    value = shift = 0
    while at < stop:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            break
    raise not_a_request()


def read_field(message: bytes, at: int, stop: int) -> tuple[int, int, int, int]:
    """Return a field's number, wire type, and the begin and end of its value; raises ``InvalidInput``.

    The value of a field of bytes is what follows its length. Groups, which are obsolete, are refused.
    """
    tag, start = read_varint(message, at, stop)
    kind = tag & 7
    if kind == BYTES:
        size, start = read_varint(message, start, stop)
        end = start + size
    elif kind == VARINT:
        _, end = read_varint(message, start, stop)
    elif kind == FIXED32:
        end = start + 4
    elif kind == FIXED64:
        end = start + 8
    else:
        raise not_a_request()
    if end > stop or not tag >> 3:
        raise not_a_request()
    return tag >> 3, kind, start, end


def target_of(message: bytes) -> tuple[str, str] | None:
    """Return the model and version at the beginning of a message, "" for a missing one; None if it needs a
    full parse.
    """
    texts, at = ["", ""], 0
    try:
        for position in range(2):
            if at == len(message):
                break
            number, kind, start, end = read_field(message, at, len(message))
            if number == position + 1 and kind == BYTES:
                if end - start > MAX_NAME:
                    return None
                texts[position] = message[start:end].decode("utf-8", "replace")
                at = end
    except InvalidInput:
        return None
    return texts[0], texts[1]


class _WireParser:
    """Reads the fields of a message and of its large inputs in one pass."""

    __slots__ = ("_contents", "_fields", "_kept", "_message", "_parts", "_pause", "_raw", "_size")

    def __init__(self, message: bytes, pause: PauseWork | None) -> None:
        self._message = message
        self._pause = pause
        self._fields = 0
        self._parts = 0  # of typed contents
        self._kept: list[bytes] = []
        self._size = 0
        self._raw: list[memoryview] = []
        self._contents: list[list[Span]] = []

    def run(self) -> ParsedRequest:
        message, view = self._message, memoryview(self._message)
        at, stop = 0, len(self._message)
        while at < stop:
            number, kind, start, end = read_field(message, at, stop)
            self._count()
            if number == RAW_CONTENTS and kind == BYTES:
                self._raw.append(view[start:end])
                if len(self._raw) > MAX_RAW_CONTENTS:
                    raise TooLarge(f"raw_input_contents has more than {MAX_RAW_CONTENTS} entries")
            elif number == INPUTS and kind == BYTES:
                self._input(at, start, end)
            else:
                self._keep(at, end)
            at = end
        return ParsedRequest(_request(b"".join(self._kept)), message, self._raw, self._contents)

    def _input(self, tag: int, start: int, stop: int) -> None:
        """Keep all fields of an input except its contents."""
        message = self._message
        contents: list[Span] = []
        self._contents.append(contents)
        self._grow(start - tag)
        pieces: list[bytes] = []
        at = start
        while at < stop:
            number, kind, value, end = read_field(message, at, stop)
            self._count()
            if number == CONTENTS and kind == BYTES:
                contents.append((value, end))
                self._parts += 1
                check_parts(self._parts)
            else:
                self._grow(end - at)
                pieces.append(message[at:end])
            at = end
        whole = b"".join(pieces)
        self._kept.append(b"\x2a" + encode_varint(len(whole)) + whole)

    def _keep(self, start: int, stop: int) -> None:
        self._grow(stop - start)
        self._kept.append(self._message[start:stop])

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_DESCRIPTION:
            raise TooLarge(
                f"the message has more than {MAX_DESCRIPTION} bytes beside the contents of its tensors; "
                "use fewer parameters and shorter names"
            )

    def _count(self) -> None:
        self._fields += 1
        if self._pause is None:
            if self._fields > INLINE_FIELDS:
                raise LargeWork
        elif self._fields % TEXT_SLICE == 0:
            self._pause()


def check_parts(number: int) -> None:
    """Raise ``TooLarge`` if typed contents have more parts than the limit."""
    if number > MAX_PARTS:
        raise TooLarge(f"the typed contents have more than {MAX_PARTS} parts; pack them into one, or send raw contents")
