"""The listening sockets of the control process: the ops port, the owner's socket, and a health port if there is one."""

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.exposure import ops_policy
from penstock.app.owner_socket import OwnerSocket
from penstock.config.settings import Settings
from penstock.control.instance import ports
from penstock.control.instance.ports import Address
from penstock.core.access.exposure import Exposure

if TYPE_CHECKING:
    from penstock.api.admin.server import OpsServer

log = logging.getLogger("penstock.app")


class OpsListeners:
    """The sockets of a gateway on a ``home``; the ports are taken at once, the owner's socket at the start.

    Raises:
        PortUnavailable: a port is somebody else's, or a host is none.
    """

    def __init__(self, settings: Settings, exposure: Exposure, home: Path) -> None:
        self._settings = settings
        self._exposure = exposure
        self._owner = OwnerSocket(home)
        self._ops = ports.listen(Address(ports.resolve(settings.ops_host), settings.ops_port), "--ops-port")
        try:
            self._health = self._listen_for_probes()
        except BaseException:
            self._ops.close()
            raise

    def _listen_for_probes(self) -> socket.socket | None:
        settings = self._settings
        if settings.health_port is None:
            return None
        return ports.listen(Address(ports.resolve(settings.health_host), settings.health_port), "health_port")

    @property
    def address(self) -> str:
        """Return the address of the ops port (host:port)."""
        return str(ports.address_of(self._ops))

    def start(self, server: "OpsServer") -> None:
        """Serve them all; without an owner's socket, commands go by the ops port."""
        server.start(self._ops)
        try:
            server.start_owner(self._owner.listen())
        except OSError as error:
            log.warning("commands of this user go by the ops port: %s: %s", self._owner.path, error.strerror or error)
        if self._health is not None:
            server.start_health(self._health, ops_policy(self._settings, self._exposure, self._settings.health_host))

    def remove_owner(self) -> None:
        """Delete the owner's socket, as the gateway stops."""
        self._owner.remove()
