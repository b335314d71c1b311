"""The hash chain of the audit: the canonical form of an entry, and the hash that binds it to the entries before it.

The hash of an entry is SHA-256(hash of the entry before ‖ canonical form); the first one follows ``first_link``.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

FIELDS: Final = (
    "seq",
    "at",
    "actor",
    "action",
    "model",
    "subject",
    "reason",
    "before",
    "after",
    "method",
    "key_id",
    "address",
    "request_id",
    "on_behalf_of",
)
"""The fields of an entry that its hash covers."""

_SCHEME: Final = "penstock"


def origin_of(registry_id: str) -> str:
    """Return the origin of a registry's checkpoints, which is also the name of the keys that sign them."""
    return f"{_SCHEME}/{registry_id}"


def first_link(registry_id: str) -> bytes:
    """Return the hash that the first entry of a registry follows; it binds the chain to this registry."""
    return hashlib.sha256(origin_of(registry_id).encode()).digest()


def normalise(document: Any) -> Any:
    """Return a JSON value as it is read back from the database: lists for tuples, texts for keys."""
    return json.loads(json.dumps(document))


def canonical_form(entry: Mapping[str, Any]) -> bytes:
    """Return the canonical form of an entry: JSON in ASCII with sorted keys, no spaces, and no empty field.

    Because empty fields are left out, a field that a later release adds does not change the hashes of older entries.
    """
    stated = {name: entry.get(name) for name in FIELDS}
    filled = {name: value for name, value in stated.items() if value is not None and value != ""}
    return json.dumps(filled, sort_keys=True, separators=(",", ":")).encode()


def next_link(previous: bytes, canonical: bytes) -> bytes:
    """Return the hash of an entry from the hash of the entry before it."""
    return hashlib.sha256(previous + canonical).digest()
