"""Which hosts and addresses the sinks of policies may reach, and addresses without their secrets."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HIDDEN: Final = "***"
LEAST_FOUND: Final = 6
"""Least characters of a secret that is looked for in texts of libraries."""

TOKEN: Final = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9_=-]{16,}")
"""Parts of a path that look like a token."""

_DATABASES: Final = ("postgres", "sqlite")
_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_METADATA: Final = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "192.0.0.192")))
"""Addresses of cloud metadata services among the public ones (Azure, Oracle); the others are link-local or private."""

_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as networks with IPv6 only see them (NAT64, RFC 6052)."""

_EMBEDDING: Final = tuple(ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "2001::/32", "2002::/16"))
"""IPv6 forms with an IPv4 address inside that no public server needs: compatible, mapped, Teredo and 6to4."""


def is_public(address: IPAddress) -> bool:
    """Whether an address is one of the public Internet: not of this machine, a link, a private network, a metadata
    service, or an IPv4 address in another form.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(address in network for network in _EMBEDDING):
            return False
    return address.is_global and not address.is_multicast and address not in _METADATA


@dataclass(frozen=True, slots=True)
class HostList:
    """Hosts that the sinks of policies may reach: ``names``, all names below ``domains``, and addresses of
    ``networks``. Only addresses listed here may be others than public ones.
    """

    names: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def permits_host(self, host: str) -> bool:
        """Whether the host of a URL is listed."""
        address = _parse_address(host)
        if address is not None:
            return self._lists(address)
        name = host.lower().rstrip(".")
        return name in self.names or any(name.endswith(domain) for domain in self.domains)

    def permits_address(self, text: str) -> bool:
        """Whether a connection to this address of a listed host may be opened."""
        address = _parse_address(text)
        return address is not None and (is_public(address) or self._lists(address))

    def _lists(self, address: IPAddress) -> bool:
        return any(address in network for network in self.networks)


def parse_hosts(entries: Iterable[str]) -> HostList:
    """Parse a list of hosts: names, ``*.`` and a domain, addresses, and networks (``10.0.0.0/8``).

    Raises:
        ValueError: one is none of these.
    """
    names, domains, networks = set(), [], []
    for entry in entries:
        text = entry.lower().rstrip(".")
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            if not _NAME.fullmatch(text):
                raise ValueError("expected a host, *.DOMAIN, an address or a network") from None
            if text.startswith("*."):
                domains.append(text[1:])
            else:
                names.add(text)
    return HostList(frozenset(names), tuple(domains), tuple(networks))


def host_of(url: str) -> str:
    """Return the host of a URL, "" if it has none or cannot be parsed."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def hide_credentials(text: str) -> str:
    """Return a text for people; an address in it, a URL, is built anew without its user, password and query.

    Passwords may have any character, so an address whose parts cannot be separated for sure is not shown at all.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    place, mark, query = _split_once(rest, "?#")
    if not _SCHEME.fullmatch(scheme):
        return HIDDEN
    if "@" in query:
        return f"{scheme}://{HIDDEN}"
    user, at, host = place.rpartition("@")
    return f"{scheme}://{HIDDEN + at if user or at else ''}{host}{mark + HIDDEN if mark else ''}"


def find_credentials(text: str) -> frozenset[str]:
    """Return the secrets in an address, as they are and decoded: the user, the password and the values of the query;
    only those that are long enough to be found in other texts without a mistake.

    The user of a database is a name, and no secret. On the web, a token often stands in its place.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return frozenset()
    place, _, query = _split_once(rest, "?#")
    user = (rest if "@" in query else place).rpartition("@")[0]
    is_database = scheme.startswith(_DATABASES)
    found = (*_secrets_of_user(user, is_database), *_secrets_of_query(query, is_database))
    parts = [part for part in found if len(part) >= LEAST_FOUND]
    return frozenset(parts) | frozenset(map(unquote, parts))


def _secrets_of_user(user: str, is_database: bool) -> list[str]:
    """Return the secrets in the part before "@", in the pieces that a library could make of it."""
    return re.split("[:/@?#&]", user.partition(":")[2] if is_database else user)


def _secrets_of_query(query: str, is_database: bool) -> list[str]:
    """Return the values in a query; of a database's, most are options such as ``sslmode``."""
    pairs = [part.partition("=") for part in re.split("[&#]", query)]
    return [value or name for name, _, value in pairs if not is_database or "password" in name or "secret" in name]


def hide_tokens(path: str) -> str:
    """Return an address, or a path, without parts that look like a token, as in addresses of chat services."""
    return re.sub(r"[^/?#]+", lambda part: HIDDEN if TOKEN.fullmatch(part[0]) else part[0], path)


def _split_once(text: str, separators: str) -> tuple[str, str, str]:
    """Split a text at the first of several characters."""
    found = min((at for at in map(text.find, separators) if at >= 0), default=len(text))
    return text[:found], text[found : found + 1], text[found + 1 :]


def _parse_address(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
