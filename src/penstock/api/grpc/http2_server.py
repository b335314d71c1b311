"""The gRPC server of one worker: its connections, the dispatch of methods, drain and stop."""

import asyncio
import logging
import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from time import monotonic_ns
from typing import Any

from penstock.api.grpc.call_head import CallHead, read_call_head
from penstock.api.grpc.handler_call import HandlerCall, HttpErrorStream
from penstock.api.grpc.health import Health
from penstock.api.grpc.http2.connection import Http2Connection
from penstock.api.grpc.http2.connection_output import Http2Output
from penstock.api.grpc.http2.header_encoding import encode_status
from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.api.grpc.http2.stream import Http2Stream, StreamIo
from penstock.api.grpc.infer_stream import InferStreams
from penstock.api.grpc.infer_unary import UnaryInferStream
from penstock.api.grpc.services import INFER, GrpcOptions, inference_contexts, list_methods
from penstock.api.http1.acceptor import WARNING_INTERVAL_S, Acceptor
from penstock.serving.data_plane import DataPlane

log = logging.getLogger("penstock.grpc")

SWEEP_S = 1.0
JITTER = 0.1
"""Random variation of the age limit of connections, so that clients do not reconnect at the same time."""

EVICTION_SCAN = 256
"""Connections to check for an idle one at the limit of connections."""


class Http2Server:
    """Serves one data plane on one port; ``start``, then ``drain``, then ``stop``, all on the plane's loop."""

    def __init__(self, plane: DataPlane, options: GrpcOptions) -> None:
        self._options = options
        self._plane = plane
        self._inference = inference_contexts(plane, options)
        self._streams = InferStreams(self._inference[INFER], options.stream_requests, options.stream_window_bytes)
        self._health = Health(plane)
        self._methods = list_methods(plane, self._streams, self._health, options.dialects)
        self._open_calls: set[HandlerCall] = set()
        self._plane.callers.on_change(self._recheck)
        self._connections: dict[Http2Connection, None] = {}
        self._no_preface: dict[Http2Connection, None] = {}  # those without an HTTP/2 preface at the last check
        self._unwritten: list[Http2Output] = []
        self._acceptors: list[Acceptor] = []
        self._not_h2 = 0
        self._not_h2_logged_s = -WARNING_INTERVAL_S
        self._sweeping: asyncio.Task[None] | None = None
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, host: str, port: int) -> int:
        """Listen, sharing the port with other processes that do the same; returns the port (0 picks a free one).

        Raises:
            OSError: the address cannot be listened on.
        """
        return self.start_on(bind(host, port))

    def start_on(self, sockets: Sequence[socket.socket]) -> int:
        """Listen on bound sockets of one port, which it returns."""
        self._acceptors = [Acceptor(item, self._accept, self._options.tls, self._evict) for item in sockets]
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        number: int = sockets[0].getsockname()[1]
        return number

    @property
    def has_connections(self) -> bool:
        """Whether any client is connected."""
        return bool(self._connections)

    def drain(self) -> None:
        """Stop accepting and announce the end to every client; open and sent requests are answered."""
        self._draining = True
        self._health.drain()
        self._streams.drain()
        for acceptor in self._acceptors:
            acceptor.close()
        for connection in list(self._connections):
            connection.retire()

    def retire_certified(self) -> None:
        """Retire the connections of clients with a certificate: the authorities have changed."""
        for connection in list(self._connections):
            if connection.certificate_names:
                connection.retire()

    async def stop(self, grace_s: float) -> None:
        """Drain for at most ``grace_s`` seconds, then cancel the remaining calls."""
        self.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        for acceptor in self._acceptors:
            acceptor.abort()
        for connection in list(self._connections):
            connection.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._empty.wait()

    def _accept(self) -> Http2Connection:
        options = self._options
        age_s = options.max_connection_age_s * random.uniform(1 - JITTER, 1 + JITTER)
        return Http2Connection(self, options.max_concurrent_streams, int(age_s * 1e9), self._plane.memory)

    def connection_opened(self, connection: Http2Connection) -> None:
        """See ``ConnectionOwner``."""
        if len(self._connections) >= self._options.max_connections:
            self._evict()
        if len(self._connections) >= self._options.max_connections:
            connection.loop.call_soon(connection.abort)
        elif self._draining:  # it was accepted just before the server stopped listening
            connection.loop.call_soon(connection.retire)
        self._connections[connection] = self._no_preface[connection] = None
        self._empty.clear()

    def _evict(self) -> None:
        """Close one connection to free its place: the oldest without a preface, else an idle one."""
        victim = self._oldest_without_preface()
        if victim is None:
            now = monotonic_ns()
            victim = next((item for item in islice(self._connections, EVICTION_SCAN) if item.is_idle(now)), None)
        if victim is not None:
            self.connection_closed(victim)
            victim.dismiss()

    def _oldest_without_preface(self) -> Http2Connection | None:
        """Return the oldest connection without an HTTP/2 preface, None if there is none."""
        while self._no_preface:
            oldest = next(iter(self._no_preface))
            if not oldest.has_preface():
                return oldest
            del self._no_preface[oldest]
        return None

    def alpn_missing(self) -> None:
        """See ``ConnectionOwner``."""
        self._not_h2 += 1
        now = asyncio.get_running_loop().time()
        if now - self._not_h2_logged_s > WARNING_INTERVAL_S:
            self._not_h2_logged_s = now
            log.info("closed %d TLS connections whose clients did not offer h2 by ALPN", self._not_h2)

    def connection_closed(self, connection: Http2Connection) -> None:
        """See ``ConnectionOwner``."""
        self._connections.pop(connection, None)
        self._no_preface.pop(connection, None)
        if not self._connections:
            self._empty.set()

    def flush_soon(self, connection: Http2Output) -> None:
        """See ``ConnectionOwner``."""
        if not self._unwritten:
            connection.loop.call_soon(self._flush)
        self._unwritten.append(connection)

    def _flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for connection in unwritten:
            connection.flush()

    def interpret(self, head: Http2RequestHead) -> Http2RequestHead:
        """See ``ConnectionOwner``."""
        return read_call_head(head, self._options.policy)

    def open_stream(self, io: StreamIo, stream_id: int, head: Http2RequestHead, send_window: int) -> Http2Stream:
        """See ``ConnectionOwner``."""
        call = head if isinstance(head, CallHead) else read_call_head(head, self._options.policy)
        if call.origin_refusal is not None:
            self._plane.callers.count_origin_refusal(call.origin_refusal, io.info)
        context = self._inference.get(call.path)
        if context is not None and not call.http_status:
            return UnaryInferStream(context, io, stream_id, call, send_window)
        if call.http_status:
            stream = HttpErrorStream(io, stream_id, call, send_window, monotonic_ns())
            asyncio.get_running_loop().call_soon(self._answer_http_error, stream, call.http_status)
            return stream
        method, most = self._methods.get(call.path), self._options.max_message_bytes
        return HandlerCall(self._plane, method, self._open_calls, most, io, stream_id, call, send_window)

    def _recheck(self) -> None:
        """End the open calls whose credentials the new access table does not accept."""
        for call in list(self._open_calls):
            call.recheck()

    def _answer_http_error(self, stream: Http2Stream, http_status: int) -> None:
        if not stream.local_closed:
            stream.io.send_trailers(stream, encode_status(http_status))

    async def _sweep(self) -> None:
        keepalive, timeout = int(self._options.keepalive_s * 1e9), int(self._options.keepalive_timeout_s * 1e9)
        while True:
            await asyncio.sleep(min(SWEEP_S, self._options.max_connection_age_s / 2))
            now = monotonic_ns()
            for connection in list(self._connections):
                connection.sweep(now, keepalive, timeout)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return bound sockets on which ``Http2Server.start_on`` may listen; raises ``OSError``."""
    try:
        return _bound(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}") from None


def _bound(addresses: Sequence[tuple[Any, ...]]) -> list[socket.socket]:
    """Return bound sockets that share their ports with other processes; raises ``OSError``."""
    with ExitStack() as undo:
        sockets = []
        for family, _, _, _, address in dict.fromkeys(addresses):
            sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sockets.append(sock)
        undo.pop_all()
        return sockets
