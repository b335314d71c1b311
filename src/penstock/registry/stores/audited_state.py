"""Reads the rows that the audit states something about, as the audit states them."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from penstock.core.audit.state_comparison import (
    ALIAS_FIELDS,
    APPROVAL_FIELDS,
    KEY_FIELDS,
    REFERENCE_FIELDS,
    SIGNATURE_FIELDS,
    digest_of_document,
    digest_of_row,
    digest_of_trial,
    digest_of_version,
)
from penstock.core.routing import decode_stored_route, describe_route
from penstock.registry.db import schema
from penstock.registry.db.rows import UNKNOWN_FORM
from penstock.registry.model_settings import encode_settings
from penstock.registry.records import Document, ModelSettings

Part = tuple[str, Document]


def read_audited_state(connection: sa.Connection, stated: Collection[str]) -> dict[str, Document]:
    """Return what the registry has of each subject that the audit states; ``stated`` are the subjects that it does."""
    parts = (
        _read_versions,
        _read_aliases,
        _read_routes,
        _read_policies,
        _read_references,
        _read_signatures,
        _read_approvals,
        _read_trials,
        _read_keys,
    )
    state = dict(part for read in parts for part in read(connection))
    return {**_read_settings(connection, stated), **state}


def _read_rows(connection: sa.Connection, table: sa.Table) -> Iterator[Mapping[str, Any]]:
    return (dict(row) for row in connection.execute(sa.select(table)).mappings())


def _read_settings(connection: sa.Connection, stated: Collection[str]) -> dict[str, Document]:
    """Return the settings of each model; those that nobody has changed need no statement."""
    rows = connection.execute(sa.select(schema.models.c.name, schema.models.c.settings))
    settings = {f"models/{row.name}/settings": dict(row.settings) for row in rows}
    default = encode_settings(ModelSettings())
    return {subject: value for subject, value in settings.items() if subject in stated or value != default}


def _read_versions(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.versions):
        values = {"digest": row["digest"], "standing": row["standing"], "record": digest_of_version(row)}
        yield f"models/{row['model']}/versions/{row['version']}", values


def _read_aliases(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.aliases):
        values = {"version": row["version"], "record": digest_of_row(row, ALIAS_FIELDS)}
        yield f"models/{row['model']}/aliases/{row['alias']}", values


def _read_routes(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.routes):
        yield f"models/{row['model']}/route", _route(row["document"])


def _read_policies(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.policies):
        document = dict(row["document"])
        yield f"models/{row['model']}/policy", {**document, "record": digest_of_document(document)}


def _read_references(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.references):
        values = {"digest": row["digest"], "source": row["source"], "record": digest_of_row(row, REFERENCE_FIELDS)}
        yield f"models/{row['model']}/versions/{row['version']}/reference", values


def _read_signatures(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.signatures):
        digest = f"sha256:{hashlib.sha256(row['bundle'].encode()).hexdigest()}"
        values = {"digest": digest, "signers": row["signers"], "record": digest_of_row(row, SIGNATURE_FIELDS)}
        yield f"models/{row['model']}/versions/{row['version']}/signatures/{row['digest']}", values


def _read_approvals(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.approvals):
        values = {"digest": row["digest"], "reason": row["reason"], "record": digest_of_row(row, APPROVAL_FIELDS)}
        yield f"models/{row['model']}/versions/{row['version']}/approvals/{row['actor']}", values


def _read_trials(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.trials):
        values = {"open": row["open"], "record": digest_of_trial(row)}
        yield f"models/{row['model']}/{row['kind']}s/{row['id']}", values


def _read_keys(connection: sa.Connection) -> Iterator[Part]:
    for row in _read_rows(connection, schema.keys):
        values = {"record": digest_of_row(row, KEY_FIELDS), "expires_at": row["expires"]}
        shown = {name: row[name] for name in ("name", "roles", "models")}
        yield f"keys/{row['id']}", {**shown, **values, "revoked": row["revoked"] is not None}


def _route(document: Any) -> Document:
    """Return a route as the audit states it, without its split if the split is not what decides."""
    try:
        route = decode_stored_route(document)
        shares, begin = Counter[str](), 0
        for end, version in route.ranges:
            shares[version] += end - begin
            begin = end
        stated = describe_route(route)
    except UNKNOWN_FORM:
        return {}
    is_whole = not route.ranges or +shares == +Counter(route.split)
    return stated if is_whole else {**stated, "split": None}
