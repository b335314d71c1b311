"""Decides which hosts and origins a request may state, so that pages of other sites cannot use a gateway.

Two attacks by way of a browser are refused. By DNS rebinding, a page has its own host name resolve to this machine, and
is then of the same origin as the gateway: only the ``Host`` field shows it, for every method. By cross-site request
forgery, a page sends requests to the gateway's own address: ``Origin`` (RFC 6454) and ``Sec-Fetch-Site`` (Fetch
Metadata) show it, and unsafe methods (RFC 9110 section 9.2.1) are refused.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from penstock.core.access.refusals import RefusalReason

ANY: Final = "*"
"""In the trusted hosts: every host. In the origins: every origin."""

MISDIRECTED: Final = 421
FORBIDDEN: Final = 403
"""The HTTP statuses for a wrong host and for a foreign origin."""

SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
MAX_KNOWN: Final = 256
"""Maximum number of hosts in the cache of each policy; clients choose them."""

HOST_REFUSED: Final = (
    "the request is for a host that is not trusted; use localhost or a loopback address, or add the host to the "
    "setting trusted_hosts"
)
ORIGIN_REFUSED: Final = (
    "requests from pages of another origin are refused; the setting cors.origins allows an origin to use the REST port"
)

Fields = Mapping[bytes, bytes]

_AUTHORITY: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]@/]+))(?::[0-9]*)?")
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""The first bytes of an IPv6 address that stands for an IPv4 one (RFC 4291 section 2.5.5.2)."""


@dataclass(frozen=True, slots=True)
class OriginRefusal:
    """Why a request is refused: an HTTP status and a sentence for the caller, and the reason for operators."""

    status: int
    message: str
    reason: RefusalReason


_WRONG_HOST: Final = OriginRefusal(MISDIRECTED, HOST_REFUSED, RefusalReason.UNTRUSTED_HOST)
_FOREIGN: Final = OriginRefusal(FORBIDDEN, ORIGIN_REFUSED, RefusalReason.FOREIGN_ORIGIN)


class OriginPolicy:
    """The hosts that requests may name and the origins whose pages may send them, for one port.

    Loopback addresses and ``localhost`` are always trusted; ``trusted_hosts`` adds names (``*.example.com`` those below
    a domain, ``*`` all). A port that is reached by ``any_address`` of the machine trusts all IP addresses: a page that
    rebinds a name cannot have one as its host. Pages of ``origins`` may use unsafe methods.
    """

    def __init__(
        self, trusted_hosts: Collection[str] = (), origins: Collection[str] = (), *, any_address: bool = False
    ) -> None:
        names = {host.lower().strip("[]").removesuffix(".") for host in trusted_hosts}
        self._trusts_all = ANY in names
        self._names = frozenset({"localhost", *(name for name in names if not name.startswith("*."))})
        self._domains = tuple(name[1:] for name in names if name.startswith("*."))
        self._any_address = any_address
        self.origins = tuple(origins)
        self._origins = frozenset(origin.encode() for origin in origins)
        self._takes_any_origin = ANY in origins
        self._known: set[bytes] = set()

    def refusal(self, method: bytes, authority: bytes, fields: Fields) -> OriginRefusal | None:
        """Return why a request is refused, None if it is not.

        ``authority`` is the host (and port) that the request is for; a ``host`` field that differs is checked as well.
        A request without both (HTTP/1.0) is not a browser's: load balancers check servers so.
        """
        host = fields.get(b"host")
        if (authority or host is not None) and not self._is_trusted(authority):
            return _WRONG_HOST
        if host is not None and host != authority and not self._is_trusted(host):
            return _WRONG_HOST
        return _FOREIGN if method not in SAFE_METHODS and self._is_foreign(authority, fields) else None

    def _is_trusted(self, authority: bytes) -> bool:
        if self._trusts_all or authority in self._known:
            return True
        is_trusted = self._trusts(host_of(authority))
        if is_trusted:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known.add(authority)
        return is_trusted

    def _trusts(self, host: str) -> bool:
        if not host:
            return False
        if host in self._names or (self._domains and host.endswith(self._domains)):
            return True
        address = address_bytes(host)
        return address is not None and (self._any_address or is_loopback_address(address))

    def _is_foreign(self, authority: bytes, fields: Fields) -> bool:
        """Whether a browser sends the request for a page of another origin that is not allowed.

        The scheme is not compared: a proxy in front may add TLS.
        """
        origin = fields.get(b"origin")
        if origin is not None and (self._takes_any_origin or origin in self._origins):
            return False
        if fields.get(b"sec-fetch-site", b"none").lower() not in (b"none", b"same-origin"):
            return True
        return origin is not None and origin.partition(b"://")[2].lower() != authority.lower()


def host_of(authority: bytes) -> str:
    """Return the host of ``host:port`` in lower case, without brackets and a dot at its end; "" if it has none."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return ""
    return (match[1] or match[2]).decode("latin-1").lower().removesuffix(".")


def address_bytes(host: str) -> bytes | None:
    """Return an IP address (4 or 16 bytes); None for a name. Numbers in other forms than dotted decimals are names."""
    try:
        return inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return None


def is_loopback_address(address: bytes) -> bool:
    """Whether an IP address (4 or 16 bytes) is a loopback address."""
    if address[:12] == _MAPPED:
        address = address[12:]
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"
