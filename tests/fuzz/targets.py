"""What is fuzzed with guidance: both protocols and their codecs, each a function of bytes that must not raise.

A target finds a bug where anything but a named refusal leaves it, where an error is logged, or where a connection is
left hanging: after each input the peer goes away, and nothing of it may be left.
"""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from penstock import __version__
from penstock.api.common.work import INLINE_JSON, RequestWork
from penstock.api.grpc.call_head import CallHead, read_call_head
from penstock.api.grpc.decode import InferMessage, decode_message
from penstock.api.grpc.http2.frames import PREFACE, Http2ConnectionError, Http2StreamError
from penstock.api.grpc.http2.header_cache import HeaderDecoder
from penstock.api.grpc.http2_server import Http2Server
from penstock.api.grpc.layout_cache import LayoutCache
from penstock.api.grpc.services import GrpcOptions
from penstock.api.grpc.wire import SMALL_MESSAGE, ParsedRequest, parse_request
from penstock.api.http1.connection import Http1Connection
from penstock.api.http1.limits import HttpLimits
from penstock.api.rest import json_data, json_scan
from penstock.api.rest.decode import BodyDecoder
from penstock.api.rest.server import RestServer
from penstock.core.access.origins import ANY, OriginPolicy
from penstock.core.desired import Desired, ModelSpec, VersionSpec
from penstock.core.errors import Fault
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import no_pause
from penstock.core.tensors import Tensor
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.serving.data_plane import DataPlane
from penstock.serving.model_loader import ModelLoader
from penstock.serving.shared_memory import SharedRegions
from tests import zoo

BODY_BYTES = 64 << 10
TURNS = 6
"""Turns of the loop after each piece of input: what a request sets off is done by then."""

DECODER = BodyDecoder(RequestLimits(), SharedRegions())
ROW = Signature([TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("y", "FP32", (-1, 3))], batching=True)
MIXED = Signature(
    [TensorSpec("x", "INT64", (-1, 2)), TensorSpec("s", "BYTES", (-1, 1)), TensorSpec("b", "BOOL", (-1, 1))],
    [TensorSpec("y", "FP32", (-1, 3))],
    batching=True,
)


class Found(Exception):
    """A bug."""


class _Listener(logging.Handler):
    """Errors that were logged are bugs that somebody has caught."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say so."""
        text = record.getMessage()
        raise Found(text) from (record.exc_info[1] if record.exc_info else None)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Do not swallow it."""
        raise Found(record.getMessage())


_LISTENED = ("penstock", "asyncio")


class Wire(asyncio.Transport):
    """A client that takes whatever it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Taken."""
        self.written += data

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def get_write_buffer_size(self) -> int:
        """Everything is taken at once."""
        return 0

    def write_eof(self) -> None:
        """Our side has ended."""

    def close(self) -> None:
        """Ended."""
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing is known."""
        return default

    def pause_reading(self) -> None:
        """Whoever feeds it does not stop."""

    def resume_reading(self) -> None:
        """It goes on."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""


class _Nobody:
    """Loads nothing."""

    async def load(self, model: str, config: str | None, author: object = None) -> None:
        """Nothing."""

    async def unload(self, model: str, author: object = None) -> None:
        """Nothing."""

    async def feedback(self, model: str, entries: Sequence[Feedback]) -> FeedbackResult:
        """None belongs to anything."""
        return FeedbackResult(len(entries))


async def turn() -> None:
    """Turn the loop as often as what is not done on a thread takes."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class World:
    """A worker's data plane with both fronts and no sockets, on a loop that is turned by hand."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._failed)
        self._failures: list[BaseException] = []
        self._listener = _Listener(logging.ERROR)
        for name in _LISTENED:
            logging.getLogger(name).addHandler(self._listener)
        self.loop.run_until_complete(self._start())

    def close(self) -> None:
        """Listen no more."""
        for name in _LISTENED:
            logging.getLogger(name).removeHandler(self._listener)
        self.loop.close()

    async def _start(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="penstock-fuzz-"))
        specs = []
        for block, (name, graph) in enumerate(
            (("row", zoo.affine(2.0, 1.0, ("n", 3))), ("words", zoo.identity("BYTES"))), 1
        ):
            zoo.save(graph, folder / f"{name}.onnx")
            specs.append(ModelSpec(name, (VersionSpec("1", str(folder / f"{name}.onnx"), block=block, tag="a"),)))
        slot = self._slot = Slot.in_process()
        self.plane = DataPlane(slot, lambda block: Totals.of([slot], block), _Nobody(), 10**10)
        await ModelLoader(self.plane, slot, 1, lambda _: None).apply(Desired(1, tuple(specs)))
        anybody = OriginPolicy([ANY], [ANY])
        self.grpc = Http2Server(self.plane, GrpcOptions(max_message_bytes=BODY_BYTES, policy=anybody))
        self.rest = RestServer(self.plane, __version__, HttpLimits(max_body_bytes=BODY_BYTES), None, anybody)

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._failures.append(context.get("exception") or Found(context["message"]))

    async def settle(self) -> None:
        """Turn the loop until requests are answered, also those whose runs a busy machine has moved to a thread."""
        await turn()
        while any(Totals.of([self._slot], block).inflight for block in (1, 2)):
            await asyncio.sleep(0.001)
            await turn()

    def feed(self, protocol: Any, data: bytes, size: int) -> None:
        """Let a client say this, in pieces of ``size`` bytes, and go away."""

        async def send() -> None:
            wire = Wire()
            protocol.connection_made(wire)
            for at in range(0, len(data), size):
                if wire.closed:
                    break
                protocol.data_received(data[at : at + size])
                await turn()
            protocol.connection_lost(None)
            await turn()

        self.loop.run_until_complete(send())
        if self._failures:
            failure = self._failures.pop()
            self._failures.clear()
            raise Found(str(failure)) from failure

    def http(self) -> Http1Connection:
        """A connection of the REST front."""
        return self.rest.http.connection()


_worlds: list[World] = []


def forget() -> None:
    """Begin anew."""
    while _worlds:
        _worlds.pop().close()


def _world() -> World:
    if not _worlds:
        _worlds.append(World())
    return _worlds[0]


def _pieces(data: bytes) -> tuple[bytes, int]:
    """What is said, and in pieces of which size: the first byte decides, and most inputs come whole."""
    size = data[0] if data else 0
    return data[1:], size if 0 < size < 128 else max(1, len(data))


def rest(data: bytes) -> None:
    """HTTP/1.1."""
    said, size = _pieces(data)
    _world().feed(_world().http(), said, size)
    if len(_world().rest.http.table):
        raise Found("a connection is left")


def grpc(data: bytes) -> None:
    """HTTP/2, after its preface."""
    said, size = _pieces(data)
    world = _world()

    async def made() -> Any:
        return world.grpc._accept()

    world.feed(world.loop.run_until_complete(made()), PREFACE + said, size)
    if world.grpc._connections:
        raise Found("a connection is left")


def json(data: bytes) -> None:
    """Bodies in JSON; one that is so long that its lists are taken out must not say what it does not say without.

    It may be refused: shapes are lists too, and here the shortest ones are taken out.
    """
    long = b'{"padding":"%b",' % (b"x" * INLINE_JSON) + data[1:]
    for signature in (ROW, MIXED):
        found = _json_outcome(data, signature)
        apart = _json_outcome(long, signature) if data[:1] == b"{" else ""
        if apart != found and not isinstance(apart, str):
            raise Found("a long body says something else than a short one")


def _json_outcome(data: bytes, signature: Signature) -> object:
    """The tensors of a body, or the kind of its refusal."""
    with (
        patch.object(json_data, "WHOLE", 0),
        patch.object(json_data, "JSON_SLICE", 64),
        patch.object(json_scan, "MIN_LIST", 16),
    ):
        try:
            return _given(DECODER.decode(data, None, signature, no_pause).given, signature)
        except Fault as fault:
            return fault.kind


def binary(data: bytes) -> None:
    """Bodies with binary tensors; the first two bytes say where the JSON ends."""
    header, body = int.from_bytes(data[:2], "little"), data[2:]
    for signature in (ROW, MIXED):
        with suppress(Fault):
            first = _given(DECODER.decode(body, header, signature, no_pause).given, signature)
            if first != _given(DECODER.decode(body, header, signature, no_pause).given, signature):
                raise Found("a header that is known says something else")


def _given(given: list[Tensor] | bytes, signature: Signature) -> list[tuple[Any, ...]]:
    if isinstance(given, bytes):
        if signature.row is None:
            raise Found("a row for a model that has none")
        given = [signature.row.tensor(given)]
    signature.bind(given)
    return [(item.name, item.datatype, item.data.shape, item.data.tobytes()) for item in given]


def message(data: bytes) -> None:
    """ModelInferRequest; one whose layout is known, and one that is taken apart, must say what it says when it is
    parsed."""
    layouts = LayoutCache()
    for signature in (ROW, MIXED):
        with suppress(Fault):
            apart = None
            with suppress(Fault):
                apart = _message(data, signature, -1)
            whole = _message(data, signature)
            if apart is not None and _said(*apart) != _said(*whole):
                raise Found("a message that is taken apart says something else")
            layouts.learn(*whole)
            known = layouts.find(data)
            if known is None:
                continue
            found = [
                (tensor.name, tensor.data.tobytes())
                for tensor in known.tensors(data, None)
                if not isinstance(tensor, int)
            ]
            if (found, known.id(data)) != _said(*whole):
                raise Found("a layout says something else than its request")


def _message(data: bytes, signature: Signature, small_bytes: int = SMALL_MESSAGE) -> tuple[ParsedRequest, InferMessage]:
    message = parse_request(data, no_pause, small_bytes)
    return message, decode_message(message, signature, SharedRegions(), RequestWork(RequestLimits(), no_pause))


def _said(message: ParsedRequest, found: InferMessage) -> tuple[list[tuple[str, bytes]], str]:
    return [(tensor.name, tensor.data.tobytes()) for tensor in found.tensors], message.request.id


def heads(data: bytes) -> None:
    """Header blocks of one connection, one after the other; the first byte of each is its length. A remembered block
    must say what a decoder says that remembers nothing."""
    remembering, plain, at = HeaderDecoder(4096, read_call_head), HeaderDecoder(4096, read_call_head), 0
    while at < len(data):
        stop = at + 1 + data[at]
        block, at = data[at + 1 : stop], stop
        plain.known = {}
        found = _read(remembering, block)
        if found != _read(plain, block):
            raise Found("a remembered block says something else")
        if found is Http2ConnectionError:
            return


def _read(decoder: HeaderDecoder, block: bytes) -> object:
    try:
        decoder.begin(block)
        while not decoder.is_done:
            decoder.step()
        head = decoder.known.get(block) or decoder.request()
    except (Http2ConnectionError, Http2StreamError) as error:
        return type(error)
    assert isinstance(head, CallHead)
    return head.method, head.path, head.field_list, head.timeout_ns, head.encoding, head.http_status


TARGETS: dict[str, Callable[[bytes], None]] = {
    "rest": rest,
    "grpc": grpc,
    "json": json,
    "binary": binary,
    "message": message,
    "heads": heads,
}
"""Everything that is fuzzed, by name."""
