"""Signatures of webhooks: Standard Webhooks, and Penstock's own header beside it.

Standard Webhooks (https://www.standardwebhooks.com) signs ``id.timestamp.body`` with HMAC-SHA256; several signatures,
one for each key, stand in one header while a key is replaced.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

ID, TIMESTAMP, SIGNATURE, BODY_SIGNATURE = (
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "penstock-signature",
)
_VERSION: Final = "v1"


def sign_webhook(message: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of a signed message; ``timestamp`` is in seconds since the epoch, and the first key is the
    present one.
    """
    content = f"{message}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(_compute_hmac(key, content)).decode() for key in keys]
    return {
        ID: message,
        TIMESTAMP: str(timestamp),
        SIGNATURE: " ".join(f"{_VERSION},{signature}" for signature in signatures),
        BODY_SIGNATURE: f"sha256={_compute_hmac(keys[0], body).hex()}",
    }


def bind_headers(event: str, headers: Mapping[str, str]) -> str:
    """Return the message id of an event whose attributes are in headers: the event's id, and a digest of the headers,
    so that the signature of the id covers them.
    """
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    return f"{event}_{hashlib.sha256(lines.encode()).hexdigest()}"


def _compute_hmac(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()
