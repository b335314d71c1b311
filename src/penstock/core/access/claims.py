"""What a signed token (JWT, RFC 7519) must state so that it proves its caller: issuer, audience and time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock.core.access.refusals import RefusalReason, make_unauthenticated
from penstock.core.access.table import Issuer

LEEWAY_S: Final = 30.0
"""How far the clock of an issuer may be from this one."""

MOST_GROUPS: Final = 256

HEADERS: Final = frozenset({"alg", "kid", "typ", "cty", "x5t", "x5t#S256"})
"""Header parameters that a token may have: none of them names a key or an extension (``jwk``, ``jku``, ``crit``)."""

TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token proves: the caller's name and groups, and the end of its time (seconds since the epoch)."""

    name: str
    groups: frozenset[str]
    expires_at: float


def read_key_id(header: Mapping[str, Any]) -> str:
    """Return the key id in a token's header; raises ``Unauthenticated`` for a header that no token may have."""
    kid, kind = header.get("kid"), header.get("typ", "JWT")
    if not isinstance(kid, str) or not kid or header.keys() - HEADERS:
        raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
    return kid


def is_meant_for(issuer: Issuer, claims: Mapping[str, Any]) -> bool:
    """Whether a token says that it is of this issuer and for this audience."""
    return claims.get("iss") == issuer.issuer and issuer.audience in _read_texts(claims.get("aud"))


def check_claims(issuer: Issuer, claims: Mapping[str, Any], now: float) -> VerifiedToken:
    """Return what the claims of a token prove, whose signature is that of the issuer; ``now`` is seconds since the
    epoch.

    Raises:
        Unauthenticated: it is of another issuer, for another audience, not valid yet, expired, or without one of these
            claims or the caller's name.
    """
    if not is_meant_for(issuer, claims):
        raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
    expires_at = _read_time(claims.get("exp")) + LEEWAY_S
    if expires_at <= now:
        raise make_unauthenticated(RefusalReason.EXPIRED)
    for earliest in ("nbf", "iat"):
        if earliest in claims and _read_time(claims[earliest]) > now + LEEWAY_S:
            raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
    name = claims.get(issuer.username_claim)
    if not isinstance(name, str) or not name:
        raise make_unauthenticated(RefusalReason.INVALID_NAME)
    if issuer.username_claim == "email" and claims.get("email_verified", True) is not True:
        raise make_unauthenticated(RefusalReason.INVALID_NAME)
    groups = [issuer.groups_prefix + group for group in _read_texts(claims.get(issuer.groups_claim))[:MOST_GROUPS]]
    return VerifiedToken(issuer.username_prefix + name, frozenset(groups), expires_at)


def _read_texts(value: Any) -> list[str]:
    """Return a claim that is one text or a list of texts as a list; anything else is none."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _read_time(value: Any) -> float:
    """Return a NumericDate; raises ``Unauthenticated`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
    return float(value)
