"""The access table: what a process needs to know its callers. A change makes a new table, with the next epoch."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from penstock.core.access.permissions import ALL_MODELS, Grants, grants_of


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of one caller over all workers; 0 is no limit. Rates are per second, ``model_ms`` is time in the model."""

    requests: float = 0.0
    rows: float = 0.0
    model_ms: float = 0.0
    concurrent: int = 0
    body_bytes: int = 0


UNLIMITED: Final = Quota()


@dataclass(frozen=True, slots=True)
class Binding:
    """A role on the models of some patterns, for one caller or for the members of a group; the other is "". The
    ``quota`` of a group is one for all of its members together."""

    role: str
    caller: str = ""
    group: str = ""
    models: tuple[str, ...] = (ALL_MODELS,)
    quota: Quota = UNLIMITED


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as it is stored: never the key, only its SHA-256 (hexadecimal).

    ``id`` is the part of the key that may be shown; several keys may have one ``name``, as while one replaces another.
    ``expires_at`` is in seconds since the epoch, None for a key that does not expire.
    """

    id: str
    name: str
    digest: str
    roles: tuple[str, ...]
    models: tuple[str, ...] = (ALL_MODELS,)
    expires_at: float | None = None
    quota: Quota = Quota()


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer of signed tokens, and its public keys as a JSON Web Key Set (RFC 7517).

    A caller's name is ``username_prefix`` and the claim ``username_claim``, as in Kubernetes; its groups are the claim
    ``groups_claim``, each after ``groups_prefix``.
    """

    issuer: str
    audience: str
    jwks: str
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = "groups"
    groups_prefix: str = ""


@dataclass(frozen=True, slots=True)
class AccessTable:
    """``epoch`` grows with every change. ``enabled`` says whether callers need a credential at all; with ``dry_run``,
    what would be refused is only counted. Certificates are accepted where a client authority is set. ``addresses`` is
    the quota of each client address where callers need no credential."""

    epoch: int = 0
    enabled: bool = False
    dry_run: bool = False
    keys: tuple[KeyRecord, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    bindings: tuple[Binding, ...] = ()
    addresses: Quota = UNLIMITED


def bound_grants(bindings: Iterable[Binding], name: str, groups: Collection[str] = ()) -> Grants:
    """Return what the bindings grant to a caller of this name in these groups: the sum of all that name either."""
    return tuple(
        grant
        for binding in bindings
        if (binding.caller and binding.caller == name) or (binding.group and binding.group in groups)
        for grant in grants_of([binding.role], binding.models)
    )
