"""Converts rows of the registry's tables to records and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from penstock.core.errors import Fault, NotFound, NotReady, unknown_model
from penstock.core.routing import decode_stored_route
from penstock.registry.db import schema
from penstock.registry.model_settings import decode_settings
from penstock.registry.records import (
    AdmissionReport,
    AliasRecord,
    ApprovalRecord,
    Content,
    FileRecord,
    ModelRecord,
    SignatureRecord,
    VersionRecord,
    VersionState,
)

Row = sa.Row[Any]

_SIGNATURES = [column for column in schema.signatures.c if column.name != "bundle"]
"""The columns of signatures that belong to a record; bundles are read where they are needed."""

_PARTS = (
    sa.select(schema.versions),
    sa.select(schema.aliases),
    sa.select(schema.routes),
    sa.select(*_SIGNATURES),
    sa.select(schema.approvals),
)
"""The parts of a model beside its own row."""

UNKNOWN_FORM = (KeyError, TypeError, ValueError, AttributeError, Fault)
"""Exceptions for a row whose form this release does not know, such as one of a newer release."""


def read_models(connection: sa.Connection) -> list[ModelRecord]:
    """Return every model; one that cannot be read has only a ``problem``, and does not affect the others."""
    parts = [_by_model(connection, query) for query in _PARTS]
    read = []
    for row in connection.execute(sa.select(schema.models).order_by(schema.models.c.name)):
        try:
            read.append(_decode_model(row, *(rows.get(row.name, ()) for rows in parts)))
        except UNKNOWN_FORM as error:
            read.append(ModelRecord(row.name, row.revision, problem=_describe_error(error)))
    return read


def _by_model(connection: sa.Connection, query: sa.Select[Any]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in connection.execute(query):
        grouped.setdefault(row.model, []).append(row)
    return grouped


def _decode_model(
    row: Row,
    versions: Sequence[Row],
    aliases: Sequence[Row],
    routes: Sequence[Row],
    signatures: Sequence[Row],
    approvals: Sequence[Row],
) -> ModelRecord:
    records = [
        replace(
            _decode_version(version._mapping),  # noqa: SLF001 - its public name
            signatures=tuple(_decode_signature(item) for item in signatures if item.version == version.version),
            approvals=tuple(_decode_approval(item) for item in approvals if item.version == version.version),
        )
        for version in versions
    ]
    return ModelRecord(
        row.name,
        row.revision,
        {record.version: record for record in records},
        {alias.alias: AliasRecord(alias.alias, alias.version, tuple(alias.before)) for alias in aliases},
        decode_settings(row.settings),
        decode_stored_route(routes[0].document) if routes else None,
    )


def _decode_signature(row: Row) -> SignatureRecord:
    return SignatureRecord(row.digest, tuple(row.signers), row.added_at, row.added_by)


def _decode_approval(row: Row) -> ApprovalRecord:
    return ApprovalRecord(row.actor, row.digest, row.at, row.reason)


def _describe_error(error: Exception) -> str:
    return f"its records have a form that this release does not know ({type(error).__name__}: {error})"


def read_model(connection: sa.Connection, name: str, record: ModelRecord | None = None) -> ModelRecord:
    """Return one model, or ``known`` itself if the model is still at its revision.

    Raises:
        NotFound: there is no such model.
        NotReady: it cannot be read.
    """
    row = connection.execute(sa.select(schema.models).where(schema.models.c.name == name)).first()
    if row is None:
        raise unknown_model(name)
    if record is not None and record.revision == row.revision:
        return record
    try:
        return _decode_model(row, *(_rows_of(connection, query, name) for query in _PARTS))
    except UNKNOWN_FORM as error:
        raise NotReady(f"model '{name}' cannot be read: {_describe_error(error)}") from None


def _rows_of(connection: sa.Connection, query: sa.Select[Any], name: str) -> Sequence[Row]:
    return connection.execute(query.where(query.selected_columns.model == name)).all()


def read_model_or_new(connection: sa.Connection, name: str) -> ModelRecord:
    """Return one model, an empty one if there is none of this name."""
    try:
        return read_model(connection, name)
    except NotFound:
        return ModelRecord(name, 0)


def read_versions(
    connection: sa.Connection, model: str | None = None, version: str | None = None
) -> list[VersionRecord]:
    """Return all versions, those of a model, or one."""
    table = schema.versions
    query = sa.select(table)
    if model is not None:
        query = query.where(table.c.model == model)
    if version is not None:
        query = query.where(table.c.version == version)
    return [_decode_version(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - its public name


def encode_version(record: VersionRecord) -> dict[str, Any]:
    """Return the row of a version."""
    content = record.content
    return {
        "model": record.model,
        "version": record.version,
        "digest": content.digest,
        "size": content.size,
        "form": content.form,
        "files": [asdict(file) for file in content.files],
        "graph": content.graph,
        "config": content.config,
        "created_at": record.created_at,
        "created_by": record.created_by,
        "standing": record.state.value,
        "metadata": record.metadata,
        "reason": record.report.reason,
        "facts": record.report.facts,
    }


def _decode_version(row: Mapping[Any, Any]) -> VersionRecord:
    files = tuple(FileRecord(**file) for file in row["files"])
    metadata, facts = dict(row["metadata"]), dict(row["facts"])
    return VersionRecord(
        row["model"],
        row["version"],
        Content(row["digest"], row["size"], row["form"], files, row["graph"], row["config"]),
        row["created_at"],
        row["created_by"],
        VersionState(row["standing"]),
        metadata,
        AdmissionReport(row["reason"], facts),
    )
