"""Callers: who sent a request, how that is known, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from penstock.core.access import permissions
from penstock.core.access.permissions import EVERYTHING, Grants, Permission


class CallerKind(StrEnum):
    """How a caller's name is known."""

    ANONYMOUS = "anonymous"
    """Not at all: the gateway has no authentication, and listens on loopback only."""

    OWNER = "unix"
    """By the unix socket: the process runs as the gateway's user, or as root."""

    KEY = "key"
    """By an API key."""

    OIDC = "oidc"
    """By a signed token (JWT) of a trusted issuer."""

    CERTIFICATE = "mtls"
    """By a client certificate of the trusted authority."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request; ``key_id`` names the API key, if one was used (never the key itself).

    ``expires_at`` is the end of the credential in seconds since the epoch (None: it has none).
    """

    name: str
    kind: CallerKind
    grants: Grants = ()
    groups: frozenset[str] = frozenset()
    key_id: str = ""
    expires_at: float | None = None

    def may(self, permission: Permission, model: str) -> bool:
        """Whether the caller may do something with a model."""
        return permissions.is_allowed(self.grants, permission, model)

    def may_anywhere(self, permission: Permission) -> bool:
        """Whether the caller may do something with some model."""
        return permissions.may_anywhere(self.grants, permission)

    def may_everywhere(self, permission: Permission) -> bool:
        """Whether the caller may do something with all models, and with what belongs to no model."""
        return permissions.may_everywhere(self.grants, permission)

    @property
    def is_proven(self) -> bool:
        """Whether the caller's name is proven; what runs code, reads files or opens addresses requires it."""
        return self.kind is not CallerKind.ANONYMOUS


ANONYMOUS: Final = Caller("anonymous", CallerKind.ANONYMOUS, EVERYTHING)
"""The caller of every request where authentication is off."""

OWNER: Final = Caller("owner", CallerKind.OWNER, EVERYTHING)
"""The gateway's own user, by the unix socket."""
