"""A client connection that carries one prebuilt request at a time and never blocks: opening, TLS, output and input."""

import errno
import os
import socket
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final, Protocol

READ: Final = 1 << 18
MOST_ANSWER: Final = 64 << 20
"""Bytes of an answer that is kept; a longer one ends its connection."""

LOST: Final = -1
"""The outcome of a request whose connection ended."""

TIMED_OUT: Final = -2
UNSENT: Final = -3
"""The outcome of a request for which no connection was free before its time was over."""


class Requests(Protocol):
    """The prebuilt requests of connections by their numbers; a list is one."""

    def __getitem__(self, number: int, /) -> bytes:
        """Return a request."""


class BrokenWire(Exception):
    """The gateway closed a connection, refused it, or spoke another protocol than expected."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where connections lead: a resolved socket address, the name for the request and for TLS, and the TLS context."""

    family: int
    address: Any
    authority: str
    tls: ssl.SSLContext | None = None
    server_name: str = ""


def resolve(host_and_port: str, tls: ssl.SSLContext | None = None) -> Endpoint:
    """Return the endpoint of a HOST:PORT; raises ``OSError`` where the host has no address."""
    host, _, port = host_and_port.rpartition(":")
    plain_host = host.strip("[]")
    family, _, _, _, address = socket.getaddrinfo(plain_host, int(port), type=socket.SOCK_STREAM)[0]
    return Endpoint(family, address, host_and_port, tls, plain_host)


class Wire(ABC):
    """One connection. ``is_open`` is whether it is ready for requests, ``has_ended`` whether it takes no
    further ones, ``outcome`` what the last answer was, ``wants_output`` whether it waits until the socket takes more.

    ``answer`` is what came with the last answer, if the caller sets ``keeps_answers``.

    ``freed`` (the moment since which it could carry a request), ``request`` (the number of the present one, -1 without)
    and ``watched`` belong to the caller. Every method raises ``BrokenWire`` where the connection ends.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._socket: socket.socket = socket.socket(endpoint.family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._out = bytearray()
        self._in = bytearray()
        self._connected = False
        self.is_open = False
        self.has_ended = False
        self.wants_output = True
        self.outcome = LOST
        self.keeps_answers = False
        self.answer = b""
        self.freed = 0.0
        self.request = -1
        self.watched = True
        refused = self._socket.connect_ex(endpoint.address)
        if refused not in (0, errno.EINPROGRESS):
            self._socket.close()
            raise BrokenWire(os.strerror(refused))

    def fileno(self) -> int:
        """Return the number of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def open_further(self) -> None:
        """Go on with opening, when the socket is ready for it."""
        if not self._connected:
            self._begin_session()
        if isinstance(self._socket, ssl.SSLSocket) and not self._shake_hands(self._socket):
            return
        self.is_open, self.wants_output = True, False
        self._start()

    def _begin_session(self) -> None:
        refused = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            raise BrokenWire(os.strerror(refused))
        self._connected = True
        if (context := self._endpoint.tls) is not None:
            self._socket = context.wrap_socket(
                self._socket, server_hostname=self._endpoint.server_name, do_handshake_on_connect=False
            )

    def _shake_hands(self, wire: ssl.SSLSocket) -> bool:
        """Go on with the handshake of TLS; whether it is complete."""
        try:
            wire.do_handshake()
        except ssl.SSLWantReadError:
            self.wants_output = False
            return False
        except ssl.SSLWantWriteError:
            self.wants_output = True
            return False
        except OSError as error:
            raise BrokenWire(str(error)) from error
        return True

    @abstractmethod
    def _start(self) -> None:
        """Begin the protocol on the open connection."""

    @abstractmethod
    def send(self, number: int) -> None:
        """Send one of the prebuilt requests."""

    @abstractmethod
    def receive(self) -> bool:
        """Read what came; whether that completes the answer, whose ``outcome`` is known then."""

    def flush(self) -> None:
        """Send what is left, as far as the socket takes it."""
        if self._out:
            del self._out[: self._write(self._out)]
        self.wants_output = bool(self._out)

    def _put(self, data: bytes) -> None:
        """Send, or keep what the socket does not take."""
        taken = 0 if self._out else self._write(data)
        if taken < len(data):
            self._out += data[taken:]
        self.wants_output = bool(self._out)

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            raise BrokenWire(str(error)) from error

    def _read(self) -> None:
        """Read what is there: with TLS until nothing is left, for what is decrypted wakes nobody.

        Where the connection ends after an answer, the answer counts.
        """
        before = len(self._in)
        try:
            while self._read_part() and self._endpoint.tls is not None:
                pass
        except BrokenWire:
            if len(self._in) == before:
                raise
            self.has_ended = True

    def _read_part(self) -> bool:
        """Read once; whether something came."""
        try:
            data = self._socket.recv(READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise BrokenWire(str(error)) from error
        if not data:
            raise BrokenWire("the gateway closed a connection")
        self._in += data
        return True
