"""The gRPC server of one worker process on grpc.aio, on the worker's loop and a port shared with its siblings."""

import asyncio
import errno
from pathlib import Path

import grpc
from grpc import aio

from penstock.api.grpc.health import Health
from penstock.api.grpc.infer import Inference
from penstock.api.grpc.services import GrpcOptions, services
from penstock.serving.data_plane import DataPlane

DRAIN_LIMIT_S = 86_400.0
"""A drain without ``stop`` ends here; the owner's grace time comes long before."""

_COMPRESSION = {
    "none": None,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


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
        offered = services(self._plane, self._inference, self._health)
        server = aio.server(
            handlers=[grpc.method_handlers_generic_handler(*one) for one in offered.items()],
            options=_channel_options(options),
            compression=_COMPRESSION[options.response_compression],
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = _add_port(server, address, options.certificate)
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


def _add_port(server: aio.Server, address: str, certificate: tuple[str, str] | None) -> int:
    if certificate is None:
        return server.add_insecure_port(address)
    chain, key = (Path(file).read_bytes() for file in certificate)
    return server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
