"""Delegated credentials: by these the control process asks its own data ports for a prediction on a caller's behalf.

Such a credential states who the caller is, allows predictions of one model and nothing else, and ends after a minute or
two. Its HMAC-SHA-256 is by a key that the control process makes at each start and gives to its workers alone, so it is
worth nothing at another gateway, or at the ops port.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from penstock.core.access.callers import Caller, CallerKind
from penstock.core.access.permissions import Grant, Permission
from penstock.core.access.refusals import RefusalReason, make_unauthenticated

PREFIX: Final = "pd_"
"""What every delegated credential begins with."""

KEY_BYTES: Final = 32
LIFE_S: Final = 60
"""A credential lasts for one to two of these, in seconds; all that are made meanwhile for one caller and one model are
the same text, so that workers remember few."""


def write_delegation(key: bytes, caller: Caller, model: str, now: float) -> str:
    """Return the credential by which ``caller`` may ask ``model`` for predictions; ``now`` is in seconds since the
    epoch."""
    ends_at = (int(now) // LIFE_S + 2) * LIFE_S
    claims = [caller.name, caller.kind.value, caller.key_id, model, ends_at]
    payload = _encode(json.dumps(claims, separators=(",", ":")).encode())
    return f"{PREFIX}{payload}.{_sign(key, payload)}"


def read_delegation(key: bytes, text: str) -> Caller:
    """Return the caller that a credential states, with the end of the credential; whether it is over is for the reader
    to see.

    Raises:
        Unauthenticated: it was not made with this key ("" for a process without one).
    """
    payload, _, signature = text.removeprefix(PREFIX).partition(".")
    if not key or not hmac.compare_digest(signature.encode(), _sign(key, payload).encode()):
        raise make_unauthenticated(RefusalReason.INVALID_TOKEN)
    name, kind, key_id, model, ends_at = _decode(payload)
    grants = (Grant(frozenset({Permission.PREDICT}), model),)
    return Caller(name, CallerKind(kind), grants, key_id=key_id, expires_at=float(ends_at))


def _sign(key: bytes, payload: str) -> str:
    return _encode(hmac.digest(key, payload.encode(), "sha256"))


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _decode(payload: str) -> list[Any]:
    claims: list[Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
