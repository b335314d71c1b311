"""What happened and who changed what, as one line of time: the events and the audit of the registry, newest first."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.audit.changes import cut, list_changes
from penstock.core.errors import InvalidInput
from penstock.registry.db import schema
from penstock.registry.db.model_patterns import match_models
from penstock.registry.records import Document
from penstock.registry.stores.connections import Connections

MOST_ENTRIES: Final = 200
MOST_DATA: Final = 40
"""The most fields of an event's data that an entry has."""

MOST_TEXT, MOST_PART, MOST_ITEMS = 500, 200, 20
"""The most characters of a field, and of a part of it, and the most parts of a list or an object in it."""

MOST_CHARACTERS: Final = 16_000
"""The most characters of an event's data; of a larger one the fields are cut as parts."""

_CURSOR: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_FIRST: Final = 10**18 - 1
EVENT, AUDIT = "event", "audit"


@dataclass(frozen=True, slots=True)
class TimelineFilter:
    """Which entries to return: of a ``model``, of a ``kind`` (the beginning of an event's type or of an action), by a
    ``person`` (the exact actor); "" for any. ``before`` is the ``next`` of an earlier answer."""

    model: str = ""
    kind: str = ""
    person: str = ""
    before: str = ""


class TimelineStore:
    """Reads of the events and the audit together; each blocks, and raises ``NotReady`` while the database cannot be
    reached. Archived entries of the audit are not among them."""

    def __init__(self, database: Connections) -> None:
        self._database = database

    def entries(self, wanted: TimelineFilter, limit: int, visible: ModelFilter = EVERY_MODEL) -> Document:
        """Return at most ``limit`` entries of visible models, newest first, and ``next`` to go on with (None: the end).

        Raises:
            InvalidInput: ``before`` is not the ``next`` of an answer.
        """
        most, (events_before, audit_before) = min(limit, MOST_ENTRIES), _read_cursor(wanted.before)
        with self._database.reading() as connection:
            events = connection.execute(_select_events(wanted, events_before, visible).limit(most + 1)).all()
            audit = connection.execute(_audit(wanted, audit_before, visible).limit(most + 1)).all()
        merged = sorted([*events, *audit], key=_read_time, reverse=True)
        shown = _in_order(merged, events, audit)[:most]
        is_all = len(shown) == len(events) + len(audit)
        following = _next_cursor(shown, events_before, audit_before)
        return {"entries": [_describe_entry(row) for row in shown], "next": None if is_all else following}

    def newest(self) -> dict[str, str]:
        """Return the numbers of the newest event and audit entry of each model ("": of none) as text. It looks at the
        last entries alone, so that it costs the same whatever the length of the tables."""
        with self._database.reading() as connection:
            events, audit = _read_newest(connection, schema.events), _read_newest(connection, schema.audit)
        return {model: f"{events.get(model, 0)}-{audit.get(model, 0)}" for model in events.keys() | audit.keys()}


def _read_newest(connection: sa.Connection, table: sa.Table) -> dict[str, int]:
    last = sa.select(table.c.model, table.c.seq).order_by(table.c.seq.desc()).limit(MOST_ENTRIES).subquery()
    query = sa.select(last.c.model, sa.func.max(last.c.seq)).group_by(last.c.model)
    return {str(model): int(number) for model, number in connection.execute(query)}


def _in_order(merged: Sequence[Any], events: Sequence[Any], audit: Sequence[Any]) -> list[Any]:
    """Return the merged rows, those of each table in the order of their numbers: a clock may have been set back, and a
    page goes on after the smallest number of the page before."""
    of_events, of_audit = iter(events), iter(audit)
    return [next(of_events if row.source == EVENT else of_audit) for row in merged]


def _read_time(row: Any) -> float:
    return datetime.fromisoformat(row.at).timestamp()


def _read_cursor(text: str) -> tuple[int, int]:
    """Return the numbers of events and of audit entries that an answer goes on before."""
    if not text:
        return _FIRST, _FIRST
    matched = _CURSOR.fullmatch(text)
    if matched is None:
        raise InvalidInput("'before' must be the 'next' of an earlier answer")
    return int(matched[1]), int(matched[2])


def _next_cursor(shown: Sequence[Any], events_before: int, audit_before: int) -> str:
    events = min([events_before, *(row.seq for row in shown if row.source == EVENT)])
    audit = min([audit_before, *(row.seq for row in shown if row.source == AUDIT)])
    return f"{events}-{audit}"


def _select_events(wanted: TimelineFilter, before: int, visible: ModelFilter) -> sa.Select[Any]:
    table = schema.events
    query = sa.select(sa.literal(EVENT).label("source"), table).where(table.c.seq < before)
    query = query.where(
        match_models(table.c.model, visible), *_of_model(table.c.model, wanted), *_select_wanted(table.c.type, wanted)
    )
    if wanted.person:
        query = query.where(table.c.data["actor"].as_string() == wanted.person)
    return query.order_by(table.c.seq.desc())


def _audit(wanted: TimelineFilter, before: int, visible: ModelFilter) -> sa.Select[Any]:
    table = schema.audit
    query = sa.select(sa.literal(AUDIT).label("source"), table).where(table.c.seq < before)
    query = query.where(match_models(table.c.model, visible), *_of_model(table.c.model, wanted))
    query = query.where(*_select_wanted(table.c.action, wanted))
    if wanted.person:
        query = query.where(table.c.actor == wanted.person)
    return query.order_by(table.c.seq.desc())


def _of_model(column: sa.Column[str], wanted: TimelineFilter) -> list[sa.ColumnElement[bool]]:
    return [column == wanted.model] if wanted.model else []


def _select_wanted(column: sa.Column[str], wanted: TimelineFilter) -> list[sa.ColumnElement[bool]]:
    return [sa.func.substr(column, 1, len(wanted.kind)) == wanted.kind] if wanted.kind else []


def _describe_entry(row: Any) -> Document:
    shared = {"source": row.source, "seq": row.seq, "at": row.at, "model": row.model, "subject": row.subject}
    if row.source == EVENT:
        data = _shorten(dict(list(row.data.items())[:MOST_DATA]))
        person, reason = data.get("actor"), data.get("reason")
        return {**shared, "kind": row.type, "person": person, "reason": reason, "id": row.id, "data": data}
    changes = list_changes(row.before, row.after)
    return {**shared, "kind": row.action, "person": row.actor, "reason": row.reason, "changes": changes}


def _shorten(data: Document) -> Document:
    """Return an event's data with long values cut; lists and objects keep their form as far as they are short."""
    shortened = {name: _shorten_field(value) for name, value in data.items()}
    if len(json.dumps(shortened)) <= MOST_CHARACTERS:
        return shortened
    return {name: cut(value, MOST_PART) for name, value in data.items()}


def _shorten_field(value: Any) -> Any:
    if isinstance(value, list):
        return [_shorten_parts(item) for item in value[:MOST_ITEMS]]
    return _shorten_parts(value) if isinstance(value, dict) else cut(value, MOST_TEXT)


def _shorten_parts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: cut(part, MOST_PART) for name, part in list(value.items())[:MOST_ITEMS]}
    return cut(value, MOST_PART)
