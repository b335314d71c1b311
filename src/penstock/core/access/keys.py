"""API keys as texts: ``pk_ID_SECRET_CHECKSUM``. Only their SHA-256 is stored: 256 random bits need no slow hash."""

import hashlib
import re
import zlib
from typing import Final

PREFIX: Final = "pk"
"""What every key begins with, so that scanners for secrets find it."""

SECRET_BYTES: Final = 32
ID_CHARACTERS: Final = 12

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_CHARACTERS: Final = 43
_CHECKSUM_CHARACTERS: Final = 6
_KEY: Final = re.compile(
    rf"{PREFIX}_([0-9a-z]{{{ID_CHARACTERS}}})_([0-9A-Za-z]{{{_SECRET_CHARACTERS}}})_([0-9A-Za-z]{{{_CHECKSUM_CHARACTERS}}})",
    re.ASCII,
)


def write_key(key_id: str, secret: bytes) -> str:
    """Return the key of an id (lower-case letters and digits) and its random bytes."""
    body = f"{PREFIX}_{key_id}_{_encode_base62(int.from_bytes(secret), _SECRET_CHARACTERS)}"
    return f"{body}_{_compute_checksum(body)}"


def key_id_of(text: str) -> str | None:
    """Return the id in a key, None for a text that is none: its form or its checksum is wrong."""
    matched = _KEY.fullmatch(text)
    if matched is None or _compute_checksum(text.rpartition("_")[0]) != matched[3]:
        return None
    return matched[1]


def digest_of(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal, as it is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


def _compute_checksum(body: str) -> str:
    return _encode_base62(zlib.crc32(body.encode()), _CHECKSUM_CHARACTERS)


def _encode_base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
