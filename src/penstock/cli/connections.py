"""Opens the HTTP connections of all verbs: to a port, with TLS or without, or to the unix socket of a gateway on this
machine."""

from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

from penstock.app.owner_socket import connect
from penstock.cli.credentials import read_authorization
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
        return AuthorisedTlsConnection(address.address, timeout=timeout_s, context=client_context(address))
    return AuthorisedConnection(address, timeout=timeout_s)


def describe(address: Address) -> str:
    """Return an address for messages."""
    return str(address)


class AuthorisedConnection(HTTPConnection):
    """HTTP/1.1 that sends the credential of the command with each request."""

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        """Begin a request; see ``HTTPConnection``."""
        super().putrequest(*arguments, **options)
        if (value := read_authorization()) is not None:
            self.putheader("authorization", value)


class AuthorisedTlsConnection(AuthorisedConnection, HTTPSConnection):
    """The same with TLS."""


class UnixConnection(AuthorisedConnection):
    """HTTP/1.1 by a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__(LOCAL, timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect to the socket; raises ``OSError``."""
        self.sock = connect(self._path, self._timeout_s)
