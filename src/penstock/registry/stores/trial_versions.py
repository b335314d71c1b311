"""The versions that open rollouts and experiments need, read from their documents."""

from collections.abc import Iterator

import sqlalchemy as sa

from penstock.registry.db import schema
from penstock.registry.records import Document


def needed_by_trials(connection: sa.Connection, model: str) -> dict[str, str]:
    """Return every version that an open trial of the model needs, with a sentence that names the trial."""
    table = schema.trials
    query = sa.select(table.c.id, table.c.kind, table.c.document).where(table.c.model == model, table.c.open)
    return {
        version: f"{row.kind} {row.id} of '{model}' needs version '{version}'"
        for row in connection.execute(query)
        for version in find_versions(row.document)
    }


def find_versions(document: Document) -> Iterator[str]:
    """Yield the versions that a trial compares, and those of the route that it returns to."""
    rollout = document.get("rollout", {}).get("spec", {})
    yield from (rollout[side] for side in ("to", "from") if rollout.get(side))
    yield from document.get("experiment", {}).get("spec", {}).get("arms", {})
    base = document.get("base") or {}
    yield from base.get("split", {})
    yield from (item["version"] for part in ("rules", "shadow") for item in base.get(part, ()))
    yield from (item for item in (base.get("stable"), document.get("champion"), document.get("stable")) if item)
