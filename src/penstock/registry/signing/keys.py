"""Keys of signatures: reads PEM files, signs and verifies. ``cryptography`` is imported when it is first needed.

Elliptic curve keys sign with ECDSA and the hash of the curve's size, as Sigstore's key details state: P-256 with
SHA-256, P-384 with SHA-384, P-521 with SHA-512. Ed25519 keys sign the data itself (RFC 8032).
"""

import hashlib
from typing import Any

from penstock.core.errors import InvalidInput

Key = Any
"""A key of ``cryptography``; its types would import the library at the start."""

CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The curves of the model signing format, each with its hash."""

_EXPECTED = "expected a PEM file with an elliptic curve key (P-256, P-384 or P-521)"


def load_private_key(pem: bytes, password: bytes | None = None) -> Key:
    """Return the private key in a PEM file.

    Raises:
        InvalidInput: it is not a supported key, or needs another password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - see above

    try:
        key = load_pem_private_key(pem, password or None)
    except TypeError:
        raise InvalidInput("the key has a password, or a password was stated and it has none") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"the private key cannot be read; {_EXPECTED}") from None
    _check(key.public_key())
    return key


def load_public_key(pem: bytes) -> Key:
    """Return the public key in a PEM file.

    Raises:
        InvalidInput: it is not a supported key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - see above

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"the public key cannot be read; {_EXPECTED}") from None
    _check(key)
    return key


def _check(key: Key) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - see above

    if not isinstance(key, Ed25519PublicKey) and _find_curve(key) not in CURVES:
        raise InvalidInput(f"the key is of another kind; {_EXPECTED}")


def _find_curve(key: Key) -> str:
    return str(getattr(getattr(key, "curve", None), "name", ""))


def sign(key: Key, data: bytes) -> bytes:
    """Return the signature of a private key over data."""
    if not _find_curve(key):
        return bytes(key.sign(data))
    return bytes(key.sign(data, _make_ecdsa(key)))


def verify(key: Key, signature: bytes, data: bytes) -> bool:
    """Whether a signature over data was made with the private key of this public key."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - see above

    try:
        key.verify(signature, data, *([_make_ecdsa(key)] if _find_curve(key) else []))
    except InvalidSignature:
        return False
    return True


def _make_ecdsa(key: Key) -> Any:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415 - see above

    return ECDSA(getattr(hashes, CURVES[_find_curve(key)])())


def public_pem(key: Key) -> str:
    """Return a public key, or that of a private key, as PEM (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - see above

    public = key.public_key() if hasattr(key, "public_key") else key
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def compute_fingerprint(key: Key) -> str:
    """Return the SHA-256 (hex) of a key's PEM form: the hint that bundles state."""
    return hashlib.sha256(public_pem(key).encode()).hexdigest()
