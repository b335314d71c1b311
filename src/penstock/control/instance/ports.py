"""Addresses and their reservation: the control process holds the ports, workers share them to listen."""

import errno
import ipaddress
import socket
from dataclasses import dataclass

LISTEN_BACKLOG = 2048

LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Hosts that stand for every interface, and the loopback address to call instead."""


def local_form(address: str) -> str:
    """Return a HOST:PORT that this machine can open: loopback in place of every interface."""
    host, _, port = address.rpartition(":")
    instead = LOOPBACK_OF.get(host.strip("[]"))
    return address if instead is None else f"[{instead}]:{port}" if ":" in instead else f"{instead}:{port}"


class PortUnavailable(Exception):
    """An address is unavailable; the text is one line. ``usage``: the host in the settings is invalid."""

    def __init__(self, message: str, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Address:
    """A numeric host and a port; the text form puts brackets around IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def resolve(host: str) -> str:
    """Return the numeric form of a host to listen on.

    Raises:
        PortUnavailable: the name means no address of this machine's.
    """
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        text = f"'{host}' is not a host name or address; choose another with --host"
        raise PortUnavailable(text, usage=True) from None
    return str(addresses[0][4][0])


def reserve(address: Address, option: str, shared_already: bool = False) -> socket.socket:
    """Return a bound socket that does not listen and lets this user's workers listen on its port (0 picks a free one).

    ``shared_already`` skips the search for strangers: our own workers listen there.

    Raises:
        PortUnavailable: somebody else uses the port, or the address is not ours.
    """
    try:
        if shared_already or not address.port:
            return _bound(address, socket.SO_REUSEPORT)
        _probe(address)
        return _bind(address)
    except OSError as error:
        raise describe_unavailable(address, option, error) from None


def listen(address: Address, option: str) -> socket.socket:
    """Return a listening socket of this process alone.

    Raises:
        PortUnavailable: as ``reserve``.
    """
    try:
        sock = _bound(address, socket.SO_REUSEADDR)
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        raise describe_unavailable(address, option, error) from None
    return sock


def share(address: Address) -> socket.socket:
    """Return a worker's socket on a reserved port, bound and not yet listening."""
    return _bound(address, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def describe_unavailable(address: Address, option: str, error: OSError) -> PortUnavailable:
    """Return the error line for an unavailable address."""
    if isinstance(error, PermissionError):
        return PortUnavailable(f"port {address.port} on {address.host} needs more rights; choose another with {option}")
    if error.errno == errno.EADDRNOTAVAIL:
        text = f"{address.host} is not an address of this machine; choose another with --host"
        return PortUnavailable(text, usage=True)
    return PortUnavailable(f"port {address.port} on {address.host} is in use; choose another with {option}")


def address_of(sock: socket.socket) -> Address:
    """Return the address of a socket."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def _probe(address: Address) -> None:
    """Fail if another process listens, or holds the port in the same way: sharing needs the consent of both sides."""
    _bound(address, socket.SO_REUSEADDR).close()


def _bind(address: Address) -> socket.socket:
    """Bind in a way that the probe of another gateway detects, unless closed connections of another program remain."""
    try:
        return _bound(address, socket.SO_REUSEPORT)
    except OSError:
        return share(address)


def _bound(address: Address, *options: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(resolve(host)).is_loopback
    except (ValueError, PortUnavailable):
        return False
