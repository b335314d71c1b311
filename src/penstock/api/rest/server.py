"""The REST server of one worker: uvicorn with Penstock's own protocol class, and one sweep over silent connections."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from time import monotonic_ns

import uvicorn

from penstock.api.rest.app import build_app
from penstock.api.rest.http1_connection import InferProtocol, Limits, Shared
from penstock.serving.data_plane import DataPlane

SWEEP_S = 1.0


class _Server(uvicorn.Server):
    """uvicorn without a say in signals: the process has one owner of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RestServer:
    """Serves one data plane on one listening socket, with TLS if there is a ``certificate`` (files of chain and key);
    ``start``, then ``drain``, then ``stop``."""

    def __init__(
        self, plane: DataPlane, version: str, limits: Limits, certificate: tuple[str, str] | None = None
    ) -> None:
        self._shared = shared = Shared(plane, limits)
        app = build_app(plane, version, limits.max_body_bytes)
        self._config = uvicorn.Config(
            app,
            http=partial(InferProtocol, shared),  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
        self._server = _Server(self._config)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, sock: socket.socket) -> None:
        """Listen on a bound socket; returns once connections are accepted."""
        self._config.load()
        if self._config.ssl is not None:
            self._config.ssl.set_alpn_protocols(["http/1.1"])
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[sock])
        self._sockets = [sock]
        await self._server.on_tick(0)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._server.main_loop()), loop.create_task(self._sweep())]

    def drain(self) -> None:
        """Accept nobody any more and let every connection end with its next answer."""
        self._shared.draining = True
        for server in self._server.servers:
            server.close()
        for connection in list(self._server.server_state.connections):
            connection.shutdown()

    async def stop(self, grace_s: float) -> None:
        """Wait for what is under way, at most ``grace_s`` seconds, then close whatever is left."""
        self.drain()
        deadline = monotonic_ns() + grace_s * 1e9
        connections = self._server.server_state.connections
        while connections and monotonic_ns() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(connections):
            connection.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = monotonic_ns()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, InferProtocol):
                    connection.sweep(now)
