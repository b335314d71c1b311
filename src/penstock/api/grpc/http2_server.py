"""The gRPC server of one worker on our own HTTP/2: the connections, who answers which method, drain and stop."""

import asyncio
import random
import ssl
from contextlib import suppress
from time import monotonic_ns
from typing import cast

from penstock.api.grpc.call_head import CallHead, call_head
from penstock.api.grpc.handler_call import HandlerCall, HttpErrorStream
from penstock.api.grpc.health import Health
from penstock.api.grpc.http2.connection import Connection
from penstock.api.grpc.http2.connection_output import ConnectionOutput
from penstock.api.grpc.http2.header_encoding import status
from penstock.api.grpc.http2.request_head import RequestHead
from penstock.api.grpc.http2.stream import Stream, StreamIo
from penstock.api.grpc.infer_shared import Shared
from penstock.api.grpc.infer_stream import InferStreams
from penstock.api.grpc.infer_unary import UnaryInferStream
from penstock.api.grpc.services import INFER, GrpcOptions, methods
from penstock.serving.data_plane import DataPlane

SWEEP_S = 1.0
BACKLOG = 1024
JITTER = 0.1
"""Ages of connections differ by so much, that not all clients come back at once."""


class Http2Server:
    """Serves one data plane on one port; ``start``, then ``drain``, then ``stop``, all on the plane's loop."""

    def __init__(self, plane: DataPlane, options: GrpcOptions) -> None:
        self._options = options
        self._plane = plane
        self._shared = Shared(plane, options.max_message_bytes, options.mirrors_typed)
        self._streams = InferStreams(self._shared, options.stream_requests, options.stream_window_bytes)
        self._health = Health(plane)
        self._methods = methods(plane, self._streams, self._health)
        self._connections: set[Connection] = set()
        self._unwritten: list[ConnectionOutput] = []
        self._server: asyncio.AbstractServer | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, host: str, port: int) -> int:
        """Listen, sharing the port with other processes that do the same; returns the port (0 picks a free one).

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                self._accepted,  # type: ignore[arg-type]  # a protocol in all but name
                host,
                port,
                reuse_port=True,
                backlog=BACKLOG,
                ssl=self._tls(),
            )
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {host}:{port}") from None
        self._server = server
        self._sweeping = loop.create_task(self._sweep())
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def _tls(self) -> ssl.SSLContext | None:
        """TLS as RFC 9113 section 9.2 wants it: at least 1.2, with h2 agreed on."""
        if self._options.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self._options.certificate)
        context.set_alpn_protocols(["h2"])
        return context

    def drain(self) -> None:
        """Take no new connections, and send every client away; what is under way, and on the wire, is answered."""
        self._draining = True
        self._health.drain()
        self._streams.drain()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.retire()

    async def stop(self, grace_s: float) -> None:
        """Drain, wait for calls under way, at most ``grace_s`` seconds, then cancel what is left."""
        self.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        for connection in list(self._connections):
            connection.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._empty.wait()

    def _accepted(self) -> Connection:
        options = self._options
        age_s = options.max_connection_age_s * random.uniform(1 - JITTER, 1 + JITTER)
        return Connection(self, options.max_concurrent_streams, int(age_s * 1e9), self._plane.memory)

    def connection_opened(self, connection: Connection) -> None:
        """See ``ConnectionOwner``."""
        self._connections.add(connection)
        self._empty.clear()
        if self._draining:
            connection.abort()  # it was accepted just before the server stopped listening; its client goes elsewhere

    def connection_closed(self, connection: Connection) -> None:
        """See ``ConnectionOwner``."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def flush_soon(self, connection: ConnectionOutput) -> None:
        """See ``ConnectionOwner``."""
        if not self._unwritten:
            connection.loop.call_soon(self._flush)
        self._unwritten.append(connection)

    def _flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for connection in unwritten:
            connection.flush()

    def interpret(self, head: RequestHead) -> RequestHead:
        """See ``ConnectionOwner``."""
        return call_head(head)

    def open_stream(self, io: StreamIo, stream_id: int, head: RequestHead, send_window: int) -> Stream:
        """See ``ConnectionOwner``."""
        call = cast(CallHead, head)  # as ``interpret`` made it
        if call.path == INFER and not call.http_status:
            return UnaryInferStream(self._shared, io, stream_id, call, send_window)
        if call.http_status:
            stream = HttpErrorStream(io, stream_id, call, send_window, monotonic_ns())
            asyncio.get_running_loop().call_soon(self._answer_no_call, stream, call.http_status)
            return stream
        method = self._methods.get(call.path)
        return HandlerCall(self._plane, method, self._options.max_message_bytes, io, stream_id, call, send_window)

    def _answer_no_call(self, stream: Stream, http_status: int) -> None:
        if not stream.local_closed:
            stream.io.send_trailers(stream, status(http_status))

    async def _sweep(self) -> None:
        keepalive, timeout = int(self._options.keepalive_s * 1e9), int(self._options.keepalive_timeout_s * 1e9)
        while True:
            await asyncio.sleep(min(SWEEP_S, self._options.max_connection_age_s / 2))
            now = monotonic_ns()
            for connection in list(self._connections):
                connection.sweep(now, keepalive, timeout)
