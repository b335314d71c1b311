"""The ops plane's server: its application on an HTTP/1.1 listener of the control process."""

import asyncio
import socket
from dataclasses import replace
from typing import Final

from penstock.api.admin.admin import RegistryService
from penstock.api.admin.app import ControlPlaneService, build_app
from penstock.api.admin.page import GatewayFacts
from penstock.api.admin.traffic import TrafficApi
from penstock.api.http1.asgi import AsgiApplication
from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.server import Http1Server
from penstock.serving.memory_budget import MemoryBudget

STOP_S: Final = 1
MEMORY_BYTES: Final = 64 << 20
"""Bytes of incomplete requests and queued responses of all connections together."""

CONNECTIONS: Final = 256
RESERVED_CONNECTIONS: Final = 32
"""Maximum of connections, and additional ones for probes only."""

LIMITS: Final = HttpLimits(
    max_connections=CONNECTIONS,
    reserved_connections=RESERVED_CONNECTIONS,
    head_s=10.0,
    body_bytes_per_s=16 << 10,
    connection_s=86_400.0,
)
PROBES: Final = frozenset({b"/livez", b"/readyz", b"/metrics"})
"""Paths that are answered even if all connections are in use."""


class OpsServer:
    """Serves one control plane on a listening socket; ``start``, then ``stop``."""

    def __init__(
        self,
        control: ControlPlaneService,
        registry_admin: RegistryService,
        traffic: TrafficApi,
        facts: GatewayFacts,
        max_connections: int = CONNECTIONS,
    ) -> None:
        self._application = AsgiApplication(
            build_app(control, registry_admin, traffic, facts), streams=True, essential=PROBES
        )
        limits = replace(LIMITS, max_connections=max_connections)
        self.http = Http1Server(self._application, limits, MemoryBudget(MEMORY_BYTES))
        self._starting: asyncio.Task[None] | None = None

    def start(self, sock: socket.socket) -> None:
        """Start to serve on a listening socket."""
        self._starting = asyncio.create_task(self.http.start(sock))

    async def stop(self) -> None:
        """Finish open requests within ``STOP_S`` and stop."""
        if self._starting is not None:
            await self._starting
        await self.http.stop(STOP_S)
        self._application.stop()
