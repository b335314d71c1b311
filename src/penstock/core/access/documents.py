"""The access table as JSON values: for the channel to the workers, and for its copy on disk."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from penstock.core.access.table import AccessTable, Binding, Issuer, KeyRecord, Quota


def encode_table(table: AccessTable) -> dict[str, Any]:
    """Return a table as JSON values."""
    return asdict(table)


def decode_table(values: Mapping[str, Any]) -> AccessTable:
    """Return a table from its JSON values.

    Raises:
        KeyError, TypeError: they are not those of a table of this release.
    """
    return AccessTable(
        values["epoch"],
        values["enabled"],
        values["dry_run"],
        tuple(_key_in(item) for item in values["keys"]),
        tuple(Issuer(**item) for item in values["issuers"]),
        tuple(_decode_binding(item) for item in values["bindings"]),
        Quota(**values["addresses"]),
    )


def _decode_binding(values: Mapping[str, Any]) -> Binding:
    return Binding(**{**values, "models": tuple(values["models"]), "quota": Quota(**values["quota"])})


def _key_in(values: Mapping[str, Any]) -> KeyRecord:
    listed = {name: tuple(values[name]) for name in ("roles", "models")}
    return KeyRecord(**{**values, **listed, "quota": Quota(**values["quota"])})
