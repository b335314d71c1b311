"""The REST server of one worker: its data plane's paths on an HTTP/1.1 listener."""

import socket

from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.server import Http1Server
from penstock.api.rest.app import build_app
from penstock.api.rest.application import RestApplication
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.infer_handler import InferHandler
from penstock.api.tls import ContextSource
from penstock.core.access.origins import OriginPolicy
from penstock.serving.data_plane import DataPlane


class RestServer:
    """Serves one data plane on one listening socket, with TLS if there is a source of contexts (``tls``); ``start``,
    then ``drain``, then ``stop``. The ``policy`` decides which hosts and origins requests may state; pages of its
    origins may read the answers.
    """

    def __init__(
        self,
        plane: DataPlane,
        version: str,
        limits: HttpLimits,
        tls: ContextSource | None = None,
        policy: OriginPolicy | None = None,
    ) -> None:
        policy = policy or OriginPolicy()
        cors = CorsPolicy(policy.origins)
        infer = InferHandler(plane, cors)
        self._application = RestApplication(infer, build_app(plane, version), cors)
        self.http = Http1Server(self._application, limits, plane.memory, tls, policy=policy)

    async def start(self, sock: socket.socket) -> None:
        """Listen on a bound socket; returns once connections are accepted."""
        await self.http.start(sock)

    def drain(self) -> None:
        """Stop accepting; every connection ends with its last answer."""
        self.http.drain()

    async def stop(self, grace_s: float) -> None:
        """Wait at most ``grace_s`` seconds for open requests, then end the remaining connections."""
        await self.http.stop(grace_s)
        self._application.stop()
