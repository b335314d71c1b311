"""The ops plane's server: uvicorn on a socket of the control process, without a say in signals."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from penstock.api.admin.admin import Registrar
from penstock.api.admin.app import Control, build_app
from penstock.api.admin.page import Shown
from penstock.api.admin.traffic import Sides

CONNECTIONS = 256
STOP_S = 1


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class OpsServer:
    """Serves one control plane on a listening socket; ``start``, then ``stop``."""

    def __init__(self, control: Control, registrar: Registrar, traffic: Sides, shown: Shown) -> None:
        config = uvicorn.Config(
            build_app(control, registrar, traffic, shown),
            http="httptools",
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    def start(self, sock: socket.socket) -> None:
        """Begin to serve."""
        self._task = asyncio.create_task(self._server.serve([sock]))

    async def stop(self) -> None:
        """Finish what is under way, within a moment."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_S + 1)
