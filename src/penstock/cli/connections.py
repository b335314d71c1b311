"""Opens the HTTP connections of all verbs: to a port, or to the unix socket of a gateway on this machine."""

from http.client import HTTPConnection
from pathlib import Path

from penstock.app.owner_socket import connect

Address = str | Path
"""HOST:PORT, or the path of a unix socket."""

LOCAL = "localhost"
"""The host that requests by a unix socket name; it is always trusted."""


def open_connection(address: Address, timeout_s: float) -> HTTPConnection:
    """Return a connection that opens with its first request."""
    if isinstance(address, Path):
        return UnixConnection(address, timeout_s)
    return HTTPConnection(address, timeout=timeout_s)


def describe(address: Address) -> str:
    """Return an address for messages."""
    return str(address)


class UnixConnection(HTTPConnection):
    """HTTP/1.1 by a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__(LOCAL, timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect to the socket; raises ``OSError``."""
        self.sock = connect(self._path, self._timeout_s)
