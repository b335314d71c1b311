"""The REST server of one worker: its data plane's paths on an HTTP/1.1 listener."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.server import Http1Server
from penstock.api.rest.app import build_app
from penstock.api.rest.application import RestApplication
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.infer_handler import InferHandler
from penstock.api.tls import ContextSource
from penstock.core.access.origins import OriginPolicy
from penstock.serving.data_plane import DataPlane

if TYPE_CHECKING:
    from penstock.api.rest.dialects.table import DialectTable


@dataclass(frozen=True, slots=True)
class DialectOptions:
    """The ``names`` of the dialects that are on, in order, the ``default_model`` of paths that name none ("": the only
    model served), and the ``options`` of each dialect by its name."""

    names: tuple[str, ...] = ()
    default_model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


NO_DIALECTS: Final = DialectOptions()


class RestServer:
    """Serves one data plane on one listening socket, with TLS if there is a source of contexts (``tls``); ``start``,
    then ``drain``, then ``stop``. The ``policy`` decides which hosts and origins requests may state; pages of its
    origins may read the answers. ``dialects`` are the other protocols that it speaks.
    """

    def __init__(
        self,
        plane: DataPlane,
        version: str,
        limits: HttpLimits,
        tls: ContextSource | None = None,
        policy: OriginPolicy | None = None,
        dialects: DialectOptions = NO_DIALECTS,
    ) -> None:
        policy = policy or OriginPolicy()
        cors = CorsPolicy(policy.origins)
        infer = InferHandler(plane, cors)
        table = _dialect_table(plane, version, dialects, cors) if dialects.names else None
        app = build_app(plane, version, {} if table is None else table.endpoints())
        self._application = RestApplication(infer, app, cors, table)
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


def _dialect_table(plane: DataPlane, version: str, options: DialectOptions, cors: CorsPolicy) -> "DialectTable":
    from penstock.api.rest.dialects.base import DialectSetup  # noqa: PLC0415 - only where a dialect is on
    from penstock.api.rest.dialects.table import DialectTable  # noqa: PLC0415 - the same

    setup = DialectSetup(plane, options.names, options.default_model, version, options.options)
    return DialectTable(setup, cors)
