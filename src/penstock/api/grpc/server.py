"""The gRPC server of one worker process: grpc.aio on the worker's loop, on a port shared with its siblings."""

import asyncio
import errno
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import grpc
from grpc import aio

from penstock.api.grpc.health import HEALTH_SERVICE, INFERENCE_SERVICE, Health
from penstock.api.grpc.infer import Inference
from penstock.api.grpc.methods import RawMethod
from penstock.api.grpc.questions import Questions
from penstock.api.grpc.reflection import METHOD as REFLECTION_METHOD
from penstock.api.grpc.reflection import REFLECTION_SERVICES, reflection_method
from penstock.serving.dataplane import DataPlane

DRAIN_LIMIT_S = 86_400.0
"""A drain without ``stop`` ends here; the owner's grace time comes long before."""

Handlers: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"

_COMPRESSION = {
    "none": None,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Bounds and habits of the server.

    Requests may be compressed in any way gRPC knows, and are counted against ``max_message_bytes`` while they are
    inflated. gRPC does not show a server how a request was compressed, so answers follow ``response_compression``.
    """

    max_message_bytes: int = 64 << 20
    max_concurrent_streams: int = 1024  # calls under way on one connection
    stream_window: int = 64  # requests under way in one ModelStreamInfer
    response_compression: Literal["none", "gzip", "deflate"] = "none"
    max_connection_age_s: float = 300.0  # then its client is sent away, without a loss, to spread over all processes
    keepalive_s: float = 60.0  # silence after which a connection is asked whether it is still there
    keepalive_timeout_s: float = 20.0  # and closed if it does not answer within
    min_ping_s: float = 10.0  # clients that ping more often, without calls, are disconnected
    health_poll_s: float = 0.25


class GrpcServer:
    """Serves one data plane on one port; ``start``, then ``drain``, then ``stop``, all on the plane's loop."""

    def __init__(self, plane: DataPlane, options: GrpcOptions) -> None:
        self._plane = plane
        self._options = options
        self._inference = Inference(plane, options.stream_window)
        self._health = Health(plane, options.health_poll_s)
        self._server: aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, sharing the port with other processes that do the same; returns the port (0 picks a free one).

        Raises:
            OSError: the address cannot be listened on.
        """
        options = self._options
        server = aio.server(
            handlers=self._services(),
            options=_channel_options(options),
            compression=_COMPRESSION[options.response_compression],
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}") from None
        await server.start()
        self._server = server
        return bound

    def drain(self) -> None:
        """Take no new calls: stop listening and send every client away (GOAWAY); calls under way go on.

        A call that is on the wire just then is lost to its caller as CANCELLED: gRPC offers no other way to shut a
        server. Clients that have moved on before, because health said so or their connection came of age, lose none.
        """
        self._health.drain()
        self._inference.drain()
        if self._server is not None and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._server.stop(DRAIN_LIMIT_S))

    async def stop(self, grace_s: float) -> None:
        """Drain, wait for calls under way, at most ``grace_s`` seconds, then cancel what is left."""
        self.drain()
        if self._server is not None and self._stopping is not None:
            await self._server.stop(grace_s)
            await self._stopping

    def _services(self) -> list[grpc.GenericRpcHandler]:
        inference = _unary(Questions(self._plane).methods())
        inference["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._inference.infer)
        inference["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._inference.stream)
        health = _unary(self._health.methods())
        health["Watch"] = grpc.unary_stream_rpc_method_handler(self._health.watch)
        reflection = {REFLECTION_METHOD: reflection_method()}
        named = {INFERENCE_SERVICE: inference, HEALTH_SERVICE: health} | dict.fromkeys(REFLECTION_SERVICES, reflection)
        # gRPC asks them one after the other, so the service that matters comes first.
        return [grpc.method_handlers_generic_handler(name, handlers) for name, handlers in named.items()]


def _unary(methods: dict[str, RawMethod]) -> Handlers:
    return {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}


def _channel_options(options: GrpcOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", options.max_concurrent_streams),
        ("grpc.max_connection_age_ms", int(options.max_connection_age_s * 1000)),
        ("grpc.keepalive_time_ms", int(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(options.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(options.min_ping_s * 1000)),
    ]
