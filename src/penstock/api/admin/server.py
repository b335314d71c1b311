"""The ops plane's server: its application on an HTTP/1.1 listener of the control process."""

import asyncio
import socket
from dataclasses import replace
from functools import partial
from typing import Final

from penstock.api.admin.access import AccessApi
from penstock.api.admin.admin import RegistryService
from penstock.api.admin.app import ConsoleParts, ControlPlaneService, build_app
from penstock.api.admin.caller_check import NoRefusals, RefusalSink
from penstock.api.admin.health import build_health_app
from penstock.api.admin.traffic import TrafficApi
from penstock.api.http1.asgi import AsgiApplication
from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.server import Http1Server
from penstock.api.tls import ContextSource
from penstock.core.access.callers import ANONYMOUS
from penstock.core.access.origins import OriginPolicy, OriginRefusal
from penstock.core.access.refusals import Refusal
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
HEALTH_MEMORY_BYTES: Final = 1 << 20
HEALTH_LIMITS: Final = HttpLimits(max_connections=64, head_s=10.0, request_s=10.0, max_body_bytes=0)
PROBES: Final = frozenset({b"/livez", b"/readyz", b"/metrics"})
"""Paths that are answered even if all connections are in use."""


class OpsServer:
    """Serves one control plane on listening sockets; ``start`` for each kind of them, then ``stop``.

    The owner's socket has connections and memory of its own: clients of the port cannot use them up. The ``policy``
    decides which hosts and origins requests may state. The ops port has TLS if there is a source of contexts (``tls``).
    """

    def __init__(
        self,
        control: ControlPlaneService,
        registry_admin: RegistryService,
        traffic: TrafficApi,
        access: AccessApi,
        console: ConsoleParts,
        max_connections: int = CONNECTIONS,
        policy: OriginPolicy | None = None,
        tls: ContextSource | None = None,
    ) -> None:
        app = build_app(control, registry_admin, traffic, access, console)
        count = partial(_count_refusal, access.refusals or NoRefusals())
        self._application = AsgiApplication(app, streams=True, essential=PROBES, count_refusal=count)
        self._health_application = AsgiApplication(build_health_app(control), streams=False, count_refusal=count)
        self._policy = policy or OriginPolicy()
        self._tls = tls
        self._max_connections = max_connections
        self._servers: list[Http1Server] = []
        self._starting: list[asyncio.Task[None]] = []

    def start(self, sock: socket.socket) -> None:
        """Start to serve the ops port."""
        self._serve(sock, replace(LIMITS, max_connections=self._max_connections), self._tls)

    def start_owner(self, sock: socket.socket) -> None:
        """Start to serve the owner's unix socket, which takes the same requests as the ops port."""
        self._serve(sock, LIMITS)

    def start_health(self, sock: socket.socket, policy: OriginPolicy) -> None:
        """Start to serve the health port, which answers nothing but probes, with a policy of its own."""
        server = Http1Server(self._health_application, HEALTH_LIMITS, MemoryBudget(HEALTH_MEMORY_BYTES), policy=policy)
        self._run(server, sock)

    def retire_certified(self) -> None:
        """Retire the connections of clients with a certificate: the authorities have changed."""
        for server in self._servers:
            server.table.retire_certified()

    def _serve(self, sock: socket.socket, limits: HttpLimits, tls: ContextSource | None = None) -> None:
        self._run(Http1Server(self._application, limits, MemoryBudget(MEMORY_BYTES), tls, policy=self._policy), sock)

    def _run(self, server: Http1Server, sock: socket.socket) -> None:
        self._servers.append(server)
        self._starting.append(asyncio.create_task(server.start(sock)))

    async def stop(self) -> None:
        """Finish open requests within ``STOP_S`` and stop."""
        await asyncio.gather(*self._starting)
        await asyncio.gather(*(server.stop(STOP_S) for server in self._servers))
        self._application.stop()
        self._health_application.stop()


def _count_refusal(refusals: RefusalSink, refusal: OriginRefusal, address: str) -> None:
    """Count and record a request that is refused by its host or origin."""
    refusals.count_auth_refusal(refusal.reason, False)
    kind = ANONYMOUS.kind.value
    refusals.record_refusal(Refusal("auth.refuse", ANONYMOUS.name, kind, "", address, refusal.reason.value))
