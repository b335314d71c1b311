"""Secrets: values that never print, and the keys that sign webhooks."""

import base64
import binascii
import hmac
from typing import Final, NoReturn

LEAST_KEY_BYTES: Final = 24
"""Least bytes of a key that signs webhooks, as Standard Webhooks asks for (192 bits)."""

ENCODED: Final = b"whsec_"
"""What a secret of Standard Webhooks begins with; the rest is the key in base64."""


class SecretFault(Exception):
    """A secret cannot be used; the text says why, and never has the value."""


class MissingSecret(SecretFault):
    """A secret is not there: it is not configured, or its file or variable does not exist on this machine."""


class Secret:
    """A secret value and its name. Only ``reveal``, ``token`` and ``text`` return the value: texts, errors and dumps
    have the name, and copies in other forms (pickle, ``copy``) are refused.
    """

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: bytes) -> None:
        self.name: Final = name
        self._value: Final = value

    def reveal(self) -> bytes:
        """Return the value."""
        return self._value

    def token(self) -> str:
        """Return the value as the text of a bearer token.

        Raises:
            SecretFault: it is empty, or has other characters than visible ones of ASCII.
        """
        if not self._value or not all(0x20 < byte < 0x7F for byte in self._value):
            raise SecretFault(
                f"the secret '{self.name}' is not a token: it is empty, or has spaces or other characters"
            )
        return self._value.decode()

    def text(self) -> str:
        """Return the value as the text of an environment variable.

        Raises:
            SecretFault: it cannot be one.
        """
        try:
            text = self._value.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise SecretFault(f"the secret '{self.name}' is not text")
        return text

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(Secret)  # nothing of the value

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied")


def signing_key(secret: Secret) -> bytes:
    """Return the key that a secret stands for: its bytes, or what follows ``whsec_`` in base64.

    Raises:
        SecretFault: it is empty, shorter than ``LEAST_KEY_BYTES``, or not base64.
    """
    key = secret.reveal()
    if key.startswith(ENCODED):
        try:
            key = base64.b64decode(key[len(ENCODED) :], validate=True)
        except binascii.Error:
            raise SecretFault(f"the secret '{secret.name}' has no base64 after whsec_") from None
    if not key:
        raise SecretFault(f"the secret '{secret.name}' is empty")
    if len(key) < LEAST_KEY_BYTES:
        raise SecretFault(
            f"the secret '{secret.name}' is too short to sign with: at least {LEAST_KEY_BYTES} bytes are needed, "
            "such as those of: openssl rand -base64 32"
        )
    return key
