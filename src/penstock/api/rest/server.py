"""The REST server of one worker: its data plane's paths on an HTTP/1.1 listener."""

import socket
from collections.abc import Sequence

from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.server import Http1Server
from penstock.api.rest.app import build_app
from penstock.api.rest.application import RestApplication
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.infer_handler import InferHandler
from penstock.serving.data_plane import DataPlane


class RestServer:
    """Serves one data plane on one listening socket, with TLS if there is a ``certificate`` (files of chain and key);
    ``start``, then ``drain``, then ``stop``. Pages of the ``origins`` may ask it."""

    def __init__(
        self,
        plane: DataPlane,
        version: str,
        limits: HttpLimits,
        certificate: tuple[str, str] | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        cors = CorsPolicy(origins)
        infer = InferHandler(plane, cors)
        self._application = RestApplication(infer, build_app(plane, version), cors)
        self.http = Http1Server(self._application, limits, plane.memory, certificate)

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
