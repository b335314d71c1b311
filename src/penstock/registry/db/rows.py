"""Rows of the registry's tables to records and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from penstock.core.errors import NotFound
from penstock.core.routing import RouteSpec, stored_in
from penstock.registry.db import schema
from penstock.registry.model_settings import settings_in
from penstock.registry.records import AliasRecord, Content, FileRecord, ModelRecord, Report, VersionRecord, VersionState


def read_models(connection: sa.Connection) -> list[ModelRecord]:
    """Every model."""
    versions: dict[str, dict[str, VersionRecord]] = {}
    for record in read_versions(connection):
        versions.setdefault(record.model, {})[record.version] = record
    aliases: dict[str, dict[str, AliasRecord]] = {}
    for row in connection.execute(sa.select(schema.aliases)):
        aliases.setdefault(row.model, {})[row.alias] = AliasRecord(row.alias, row.version, tuple(row.before))
    routes = {row.model: stored_in(row.document) for row in connection.execute(sa.select(schema.routes))}
    return [
        ModelRecord(
            row.name,
            row.revision,
            versions.get(row.name, {}),
            aliases.get(row.name, {}),
            settings_in(row.settings),
            routes.get(row.name),
        )
        for row in connection.execute(sa.select(schema.models).order_by(schema.models.c.name))
    ]


def read_model(connection: sa.Connection, name: str) -> ModelRecord:
    """One model.

    Raises:
        NotFound: no such model.
    """
    row = connection.execute(sa.select(schema.models).where(schema.models.c.name == name)).first()
    if row is None:
        raise NotFound(f"unknown model '{name}'")
    aliases = connection.execute(sa.select(schema.aliases).where(schema.aliases.c.model == name)).all()
    return ModelRecord(
        name,
        row.revision,
        {record.version: record for record in read_versions(connection, name)},
        {one.alias: AliasRecord(one.alias, one.version, tuple(one.before)) for one in aliases},
        settings_in(row.settings),
        read_route(connection, name),
    )


def read_model_or_new(connection: sa.Connection, name: str) -> ModelRecord:
    """One model, an empty one if it is not known yet."""
    try:
        return read_model(connection, name)
    except NotFound:
        return ModelRecord(name, 0)


def read_route(connection: sa.Connection, model: str) -> RouteSpec | None:
    """A model's route, None if it has none."""
    table = schema.routes
    document = connection.execute(sa.select(table.c.document).where(table.c.model == model)).scalar()
    return None if document is None else stored_in(document)


def read_versions(
    connection: sa.Connection, model: str | None = None, version: str | None = None
) -> list[VersionRecord]:
    """Versions: all, those of a model, or one."""
    table = schema.versions
    query = sa.select(table)
    if model is not None:
        query = query.where(table.c.model == model)
    if version is not None:
        query = query.where(table.c.version == version)
    return [_version_in(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - its public name


def version_out(record: VersionRecord) -> dict[str, Any]:
    """A version's row."""
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
        "standing": record.standing.value,
        "metadata": record.metadata,
        "reason": record.report.reason,
        "facts": record.report.facts,
    }


def _version_in(row: Mapping[Any, Any]) -> VersionRecord:
    files = tuple(FileRecord(**file) for file in row["files"])
    return VersionRecord(
        row["model"],
        row["version"],
        Content(row["digest"], row["size"], row["form"], files, row["graph"], row["config"]),
        row["created_at"],
        row["created_by"],
        VersionState(row["standing"]),
        row["metadata"],
        Report(row["reason"], row["facts"]),
    )
