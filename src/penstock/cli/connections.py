"""Opens the HTTP connections of all verbs: to a port, with TLS or without, or to the unix socket of a gateway on this
machine."""

from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from penstock.app.owner_socket import connect
from penstock.cli.tls import TlsAddress, client_context

Address = str | Path | TlsAddress
"""HOST:PORT, the path of a unix socket, or a port with TLS."""

LOCAL = "localhost"
"""The host that requests by a unix socket name; it is always trusted."""


def open_connection(address: Address, timeout_s: float) -> HTTPConnection:
    """Return a connection that opens with its first request."""
    if isinstance(address, Path):
        return UnixConnection(address, timeout_s)
    if isinstance(address, TlsAddress):
        return HTTPSConnection(address.address, timeout=timeout_s, context=client_context(address))
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
