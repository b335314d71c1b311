"""The records of trials, which are rollouts and experiments, and how they are read."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.core.errors import NotFound
from penstock.core.routing import RouteSpec
from penstock.registry.db import schema
from penstock.registry.records import AuditEntry, Document
from penstock.registry.stores.events import TrialEvent


@dataclass(frozen=True, slots=True)
class Trial:
    """A stored rollout or experiment; the content of ``document`` belongs to the component that runs it."""

    id: str
    model: str
    kind: str
    open: bool
    revision: int
    created_at: str
    created_by: str
    document: Document


@dataclass(frozen=True, slots=True)
class TrialChange:
    """The changes of one step of a trial: its document, the model's route (``keep_route`` leaves it as it is), the
    champion (the expected version and the new one), and an event.

    ``answers`` is the version that answers now without a route, where that is known. The step ``returns`` to the
    traffic before the trial, which gates never refuse.
    """

    document: Document
    open: bool = True
    route: RouteSpec | None = None
    keep_route: bool = False
    champion: tuple[str | None, str] | None = None
    event: TrialEvent | None = None
    answers: str | None = None
    returns: bool = False


def read_open_trial(connection: sa.Connection, model: str) -> Trial | None:
    """Return the open trial of a model, None without one."""
    table = schema.trials
    row = connection.execute(sa.select(table).where(table.c.model == model, table.c.open)).first()
    return None if row is None else decode_trial(row)


def read_trial(connection: sa.Connection, model: str, kind: str, trial_id: str) -> Trial:
    """Return one trial; raises ``NotFound``."""
    table = schema.trials
    where = (table.c.id == trial_id, table.c.model == model, table.c.kind == kind)
    row = connection.execute(sa.select(table).where(*where)).first()
    if row is None:
        raise NotFound(f"model '{model}' has no {kind} '{trial_id[:64]}'")
    return decode_trial(row)


def trial_row(trial: Trial) -> dict[str, Any]:
    """Return the columns of a trial."""
    return {name: getattr(trial, name) for name in Trial.__slots__}


def decode_trial(row: Any) -> Trial:
    """Return the trial of a row."""
    return Trial(
        row.id, row.model, row.kind, bool(row.open), row.revision, row.created_at, row.created_by, row.document
    )


def read_changes(connection: sa.Connection, trial: Trial, most: int) -> list[AuditEntry]:
    """Return the newest changes of a trial that the audit has, oldest first."""
    table = schema.audit
    columns = [column for column in table.columns if column.name != "model"]
    about = table.c.subject == f"models/{trial.model}/{trial.kind}s/{trial.id}"
    query = sa.select(*columns).where(about).order_by(table.c.at.desc(), table.c.seq.desc())
    rows = connection.execute(query.limit(most)).mappings().all()
    return [AuditEntry(**row) for row in reversed(rows)]
