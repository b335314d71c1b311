"""Policies as people may see them: what can be a secret in addresses and commands is replaced by its HMAC.

The same secret has the same HMAC, so that a change shows; without the key, nobody can try values. A policy that was
read can be set again: a masked value stands for the stored one.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from penstock.core.addresses import TOKEN
from penstock.core.errors import InvalidInput

Document = Mapping[str, Any]

PREFIX: Final = "hmac-sha256:"
_DIGITS: Final = 32

_PLAIN_ARGUMENT: Final = re.compile(
    r"-[A-Za-z]|--[a-z][a-z-]*|[\w./-]*\.(?:py|sh|R|ipynb|jar|js|yaml|yml|json|toml|csv|parquet|onnx)"
)
"""Arguments of commands that are shown: names of options, and files of programs and data."""


class SecretMask:
    """Masks with one ``key`` (bytes, secret); by default a new one, whose masks nobody can compare."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)

    def policy(self, document: Document) -> dict[str, Any]:
        """Return a policy with masked sinks."""
        sinks = document.get("sinks")
        if not isinstance(sinks, dict):
            return dict(document)
        return {**document, "sinks": {name: self._sink(stated) for name, stated in sinks.items()}}

    def restore(self, document: Document, stored: Document) -> dict[str, Any]:
        """Return a policy with the values of the ``stored`` one where it has their masks.

        Raises:
            InvalidInput: a mask is not that of the stored value at the same place.
        """
        sinks, before = document.get("sinks"), stored.get("sinks") or {}
        if not isinstance(sinks, dict):
            return dict(document)
        restored = {name: self._restored(stated, before.get(name)) for name, stated in sinks.items()}
        faults = [
            f"'sinks.{name}' has a masked value ({PREFIX}...) that is not the stored one's; give the value itself"
            for name, stated in restored.items()
            if _has_mask(stated)
        ]
        if faults:
            raise InvalidInput("; ".join(faults))
        return {**document, "sinks": restored}

    def _restored(self, stated: Any, stored: Any) -> Any:
        """Return a value, with what is stored where it is the mask of that."""
        if not _has_mask(stated):
            return stated
        if (
            isinstance(stored, dict)
            and isinstance(stated, dict)
            and len(stored) == 1
            and stored.keys() == stated.keys()
        ):
            [(kind, values)], masked = stored.items(), self._sink(stored)
            same = isinstance(values, dict) and isinstance(stated[kind], dict)
            return {kind: self._restored_values(stated[kind], values, masked[kind])} if same else stated
        return stated

    def _restored_values(self, stated: Document, stored: Document, masked: Document) -> dict[str, Any]:
        return {
            name: stored[name] if name in stored and value == masked[name] else value for name, value in stated.items()
        }

    def _sink(self, stated: Any) -> Any:
        """Return a sink with masked settings; what is not a sink is masked whole."""
        if not isinstance(stated, dict):
            return self._mask(str(stated))
        return {
            kind: {name: self._value(name, value) for name, value in values.items()}
            if isinstance(values, dict)
            else self._mask(str(values))
            for kind, values in stated.items()
        }

    def _value(self, name: str, value: Any) -> Any:
        if name == "argv" and isinstance(value, list):
            return [*value[:1], *map(self._argument, value[1:])]
        return self._address(value) if isinstance(value, str) and "://" in value else value

    def _argument(self, text: Any) -> str:
        return text if isinstance(text, str) and _PLAIN_ARGUMENT.fullmatch(text) else self._mask(str(text))

    def _address(self, url: str) -> str:
        """Return an address, built anew with masks for a user, the values of its query, and tokens in its path."""
        try:
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")
        except ValueError:
            return self._mask(url)
        if "@" in url[len(parts.scheme) + 3 + len(parts.netloc) :]:
            return f"{parts.scheme}://{self._mask(url)}"  # of a password with a slash: nothing can be separated
        path = "/".join(self._mask(part) if TOKEN.fullmatch(part) else part for part in parts.path.split("/"))
        query = "&".join(map(self._parameter, parts.query.split("&"))) if parts.query else ""
        user = f"{self._mask(host[0])}@" if host[1] else ""
        fragment = f"#{self._mask(parts.fragment)}" if parts.fragment else ""
        return f"{parts.scheme}://{user}{host[2]}{path}{'?' + query if query else ''}{fragment}"

    def _parameter(self, text: str) -> str:
        name, separator, value = text.partition("=")
        return f"{name}={self._mask(value)}" if separator else self._mask(text)

    def _mask(self, text: str) -> str:
        digest = hmac.new(self._key, text.encode(errors="surrogatepass"), hashlib.sha256)
        return f"{PREFIX}{digest.hexdigest()[:_DIGITS]}"


def _has_mask(value: Any) -> bool:
    if isinstance(value, str):
        return PREFIX in value
    if isinstance(value, dict):
        return any(map(_has_mask, value.values()))
    return isinstance(value, list) and any(map(_has_mask, value))
