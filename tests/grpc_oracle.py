"""The gRPC service on grpcio, to hold our own HTTP/2 against: the same methods, and a plain ModelInfer."""

import asyncio
import errno
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic_ns
from typing import Any, cast
from urllib.parse import quote

import grpc
from grpc import aio

from penstock.api.common.parts import Payload
from penstock.api.common.work import RequestWork
from penstock.api.grpc.decode import decode_message
from penstock.api.grpc.encode import infer_response
from penstock.api.grpc.errors import RETRYABLE, caller_text, retry_hints
from penstock.api.grpc.framing import PREFIX
from penstock.api.grpc.health import Health
from penstock.api.grpc.infer_shared import InferContext
from penstock.api.grpc.infer_stream import InferStreams
from penstock.api.grpc.methods import Method
from penstock.api.grpc.services import INFER, GrpcOptions, list_methods
from penstock.api.grpc.wire import parse_request
from penstock.core.errors import Fault, InvalidInput
from penstock.core.labels import GRPC_STATUS, ROUTE_NAMES
from penstock.core.labels import Protocol as Transport
from penstock.core.slices import no_pause
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, fault_of, new_id, priority_of
from penstock.serving.routing_table import RouteDecision
from tests.calls import join_payload

Context = aio.ServicerContext[Any, Any]
DRAIN_LIMIT_S = 86_400.0


class OracleCall:
    """A call of grpcio as methods see it (``ServerCall``)."""

    def __init__(self, context: Context, access: CallerAccess) -> None:
        self._context = context
        self.access = access
        pairs = cast("tuple[tuple[str, str | bytes], ...]", context.invocation_metadata() or ())
        self.fields: Mapping[bytes, bytes] = {
            name.encode(): value.encode() if isinstance(value, str) else value for name, value in pairs
        }
        left = cast("float | None", context.time_remaining())
        self.deadline_ns: int | None = None if left is None else monotonic_ns() + int(left * 1e9)

    def info(self, name: str) -> object:
        """See ``ServerCall``."""
        return self._context.peer() if name == "peername" else None

    async def read(self) -> bytes | None:
        """See ``ServerCall``."""
        message = await self._context.read()
        return None if message is aio.EOF else message

    async def write_framed(self, messages: Payload) -> None:
        """See ``ServerCall``."""
        left = join_payload(messages)
        while left:
            size = int.from_bytes(left[1:PREFIX])
            await self.write(left[PREFIX : PREFIX + size])
            left = left[PREFIX + size :]

    async def write(self, message: bytes) -> None:
        """See ``ServerCall``."""
        try:
            await self._context.write(message)
        except aio.InternalError:  # the connection is gone
            raise asyncio.CancelledError from None


class Unary:
    """ModelInfer as plainly as it can be written; one object for each call, a ``RequestSource`` of the loop batcher."""

    def __init__(self, shared: InferContext, context: Context, raw: bytes) -> None:
        self._shared = shared
        self._plane = shared.plane
        self._context = context
        self._raw = raw
        self._call = OracleCall(context, shared.plane.callers.anonymous)
        self._began_ns = monotonic_ns()
        self._found: RouteDecision | None = None
        self._id = ""
        self._typed = False
        self._submitted: InferCall | None = None
        self._cancel: Callable[[], None] | None = None
        self._done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(self) -> bytes:
        """The answer to the request, counted once."""
        self._plane.batcher.enqueue(self, None)
        try:
            answer = await self._done
        except Fault as fault:
            return await self._refuse(fault)
        except asyncio.CancelledError:
            self._give_up()
            raise
        await self._context.send_initial_metadata(self._facts())
        return answer

    def _give_up(self) -> None:
        call = self._submitted
        if call is None:
            self._plane.record_rejected(self._found, Transport.GRPC, "cancelled", self._began_ns)
        elif monotonic_ns() + 1_000_000 < call.deadline_ns:
            call.abandoned = True
            if self._cancel is not None:
                self._cancel()

    def decode(self, _: None) -> InferCall | None:
        """See ``RequestSource``."""
        if self._done.cancelled():
            return None
        try:
            self._submitted = self._made(self._raw)
        except Exception as error:
            fault = fault_of(error)
            self._plane.record_rejected(self._found, Transport.GRPC, fault.kind, self._began_ns)
            self._done.set_exception(fault)
        return self._submitted

    def enqueue(self, _: None, call: InferCall) -> None:
        """See ``RequestSource``."""
        self._cancel = call.loaded.enqueue(call, partial(self._plane.batcher.finish, self, None))

    def encode(self, _: None, call: InferCall) -> bytes:
        """See ``RequestSource``."""
        if call.fault is None:
            try:
                return infer_response(call, self._typed, RequestWork(self._plane.limits, no_pause)).SerializeToString()
            except Exception as error:
                call.fail(error)
        return b""

    def write(self, _: None, call: InferCall, answer: bytes) -> None:
        """See ``RequestSource``."""
        if self._done.done():
            return
        if call.fault is None:
            self._done.set_result(answer)
        else:
            self._done.set_exception(call.fault)

    def abort(self) -> None:
        """See ``RequestSource``."""
        self._done.cancel()

    def _made(self, raw: bytes) -> InferCall:
        fields, plane = self._call.fields, self._plane
        self._id = fields.get(b"x-request-id", b"").decode() or new_id()
        message = parse_request(raw, no_pause)
        request = message.request
        self._id = request.id or self._id
        self._found = loaded, route, observers = plane.route((request.model_name, request.model_version), fields)
        priority = priority_of(fields)
        if (fault := loaded.admission_error(priority)) is not None:
            raise fault
        infer = decode_message(message, loaded.signature, plane.regions, RequestWork(plane.limits, no_pause))
        stated = fields.get(b"penstock-timeout-ms")
        if stated is not None and not stated.isdigit():
            raise InvalidInput("penstock-timeout-ms must be a whole number of milliseconds")
        deadlines = [self._began_ns + infer.timeout_ns] if infer.timeout_ns is not None else []
        deadlines += [] if stated is None else [self._began_ns + int(stated) * 1_000_000]
        deadlines += [] if self._call.deadline_ns is None else [self._call.deadline_ns]
        self._typed = infer.typed and self._shared.mirrors_typed
        return InferCall(
            loaded,
            route,
            Transport.GRPC,
            self._id,
            infer.tensors,
            infer.requested,
            min(deadlines, default=self._began_ns + plane.default_timeout_ns),
            self._began_ns,
            observers,
            priority,
        )

    def _facts(self) -> tuple[tuple[str, str], ...]:
        facts: list[tuple[str, str]] = []
        if self._found is not None:
            facts.append(("penstock-model-version", self._found[0].identity.version))
            facts.append(("penstock-route", ROUTE_NAMES[self._found[1]]))
        plain = self._id.isascii() and self._id.isprintable()
        text = self._id if plain else quote(self._id, safe=" !#$&'()*+,/:;=?@[]~")
        if len(text) <= 1024:
            facts.append(("x-request-id", text))
        return tuple(facts)

    async def _refuse(self, fault: Fault) -> bytes:
        trailing: tuple[tuple[str, str], ...] = retry_hints(fault)
        if fault.kind in RETRYABLE:
            trailing = (*self._facts(), *trailing)
        else:
            await self._context.send_initial_metadata(self._facts())
        await self._context.abort(grpc.StatusCode[GRPC_STATUS[fault.kind]], caller_text(fault), trailing)
        raise AssertionError  # abort has raised


class OracleServer:
    """What ``Http2Server`` is, carried by grpcio."""

    def __init__(self, plane: DataPlane, options: GrpcOptions) -> None:
        self._options = options
        self._shared = InferContext(plane, options.max_message_bytes, options.mirrors_typed)
        self._streams = InferStreams(self._shared, options.stream_requests, options.stream_window_bytes)
        self._health = Health(plane)
        self._methods = list_methods(plane, self._streams, self._health)
        self._server: aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """See ``Http2Server``."""
        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", self._options.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", self._options.max_concurrent_streams),
            ("grpc.max_connection_age_ms", int(self._options.max_connection_age_s * 1000)),
        ]
        server = aio.server(handlers=[_Handlers(self)], options=options)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}") from None
        await server.start()
        self._server = server
        return bound

    def drain(self) -> None:
        """See ``Http2Server``."""
        self._health.drain()
        self._streams.drain()
        if self._server is not None and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._server.stop(DRAIN_LIMIT_S))

    async def stop(self, grace_s: float) -> None:
        """See ``Http2Server``."""
        self.drain()
        if self._server is not None and self._stopping is not None:
            await self._server.stop(grace_s)
            await self._stopping

    def handler(self, path: str) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Who answers calls of a path."""
        if path == INFER:
            return grpc.unary_unary_rpc_method_handler(self._infer)
        method = self._methods.get(path)
        return None if method is None else grpc.stream_stream_rpc_method_handler(_adapted(method, self._shared.plane))

    async def _infer(self, raw: bytes, context: Context) -> bytes:
        return await Unary(self._shared, context, raw).answer()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: OracleServer) -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        return self._server.handler(handler_call_details.method)


def _adapted(method: Method, plane: DataPlane) -> Any:
    async def handle(_: object, context: Context) -> None:
        try:
            await method.handle(OracleCall(context, plane.callers.anonymous))
        except Fault as fault:
            await context.abort(grpc.StatusCode[GRPC_STATUS[fault.kind]], caller_text(fault), retry_hints(fault))

    return handle
