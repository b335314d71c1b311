"""Verifies the signature of MLflow's webhooks: an HMAC over delivery id, time and body, as in MLflow's
documentation."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from penstock.core.errors import InvalidInput

SIGNATURE, TIMESTAMP, DELIVERY = "x-mlflow-signature", "x-mlflow-timestamp", "x-mlflow-delivery-id"
TOLERANCE_S = 300.0
"""A call whose time differs more than this from the present may be a replayed one."""

_VERSION = "v1,"


def verify_mlflow(headers: Mapping[str, str], body: bytes, secret: bytes, now: float) -> None:
    """Verify that MLflow made this call recently; ``now`` is in seconds since the epoch.

    Raises:
        InvalidInput: it is not signed with the secret, or its time differs by more than ``TOLERANCE_S``.
    """
    stated, stamp, delivery = (headers.get(name, "") for name in (SIGNATURE, TIMESTAMP, DELIVERY))
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 16):
        raise InvalidInput("the webhook carries no time")
    signed = hmac.new(secret, f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
    expected = _VERSION + base64.b64encode(signed).decode()
    if not hmac.compare_digest(stated.encode(), expected.encode()):
        raise InvalidInput("the webhook is not signed with the configured secret")
    if abs(now - int(stamp)) > TOLERANCE_S:
        raise InvalidInput(
            f"the webhook's time is more than {TOLERANCE_S:.0f} s from this machine's; synchronise the clocks"
        )
