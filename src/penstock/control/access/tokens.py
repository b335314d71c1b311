"""Verifies signed tokens (JWT) with the public keys of their issuers; imported only where an issuer is configured."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from penstock.core.access.claims import VerifiedToken, check_claims, is_meant_for, read_key_id
from penstock.core.access.refusals import RefusalReason, make_unauthenticated
from penstock.core.access.table import Issuer

VerifyingKey = RSAKey | ECKey | OKPKey

ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("Ed25519",),
}
"""The signatures of each kind of key (of each curve): public keys only, so that no public key is taken for a secret."""

MOST_KEYS: Final = 100
SHORTEST_RSA: Final = 2048
"""Bits of a modulus; shorter ones can be factored."""

_UNUSABLE: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError)


class InvalidKeySet(ValueError):
    """A text is not a JSON Web Key Set with a usable public key; says what was expected."""


class JwtVerifier:
    """Verifies tokens of these issuers. Any thread may use it.

    An issuer whose keys cannot be read has none: its tokens are refused.
    """

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._issuers = [(issuer, _keys_or_none(issuer.jwks)) for issuer in issuers]

    def verify(self, token: str, now: float) -> VerifiedToken:
        """Return what a token proves; raises ``Unauthenticated``."""
        header, claims = _read_part(token, 0), _read_part(token, 1)
        kid, reason = read_key_id(header), RefusalReason.INVALID_TOKEN
        for issuer, keys in self._issuers:
            if is_meant_for(issuer, claims):
                if kid in keys:
                    _check_signature(token, keys[kid])
                    return check_claims(issuer, claims, now)
                reason = RefusalReason.UNKNOWN_SIGNING_KEY
        raise make_unauthenticated(reason)


def read_key_set(text: str) -> dict[str, VerifyingKey]:
    """Return the public keys of a JSON Web Key Set (RFC 7517) by their ids; others in it are left out.

    Raises:
        InvalidKeySet: it is not a key set, or has no key for signatures with an id.
    """
    try:
        listed = json.loads(text)["keys"]
        if not isinstance(listed, list) or len(listed) > MOST_KEYS:
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidKeySet(f"expected a JSON Web Key Set with at most {MOST_KEYS} keys") from None
    keys: dict[str, VerifyingKey] = {}
    for values in listed:
        key = _import(values)
        if key is not None:
            keys.setdefault(str(values["kid"]), key)
    if not keys:
        raise InvalidKeySet("expected at least one public key with an id ('kid') for signatures: RSA, EC or Ed25519")
    return keys


def _keys_or_none(text: str) -> dict[str, VerifyingKey]:
    try:
        return read_key_set(text)
    except InvalidKeySet:
        return {}


def _import(values: Any) -> VerifyingKey | None:
    """Return one key of a set, None for one that cannot verify tokens, such as a secret or a short RSA key."""
    if not isinstance(values, dict) or not isinstance(values.get("kid"), str) or values.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key(values)
    except (*_UNUSABLE, Warning):  # warnings are errors in tests; the size is checked below
        return None
    if isinstance(key, RSAKey) and key.public_key.key_size < SHORTEST_RSA:
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) and _algorithms_of(key) else None


def _algorithms_of(key: VerifyingKey) -> tuple[str, ...]:
    """Return the signatures that a key may have: those of its kind, or the one that it states."""
    kind = "RSA" if isinstance(key, RSAKey) else key.curve_name
    usual, stated = ALGORITHMS.get(kind, ()), key.get("alg")
    return tuple(name for name in usual if stated in (None, name))


def _check_signature(token: str, key: VerifyingKey) -> None:
    try:
        jws.deserialize_compact(token, key, algorithms=_algorithms_of(key))
    except _UNUSABLE:
        raise make_unauthenticated(RefusalReason.INVALID_TOKEN) from None


def _read_part(token: str, index: int) -> dict[str, Any]:
    """Return a part of a token, which is not verified by that."""
    part = token.split(".")[index]
    try:
        values = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
    return values


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that occurs twice: two readers could see two values."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError
    return values
