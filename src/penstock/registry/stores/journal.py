"""The journal of the registry: every change adds a line to the audit in its own transaction, and raises revisions."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from penstock.core.audit.chain import canonical_form, first_link, next_link, normalise
from penstock.core.audit.state_comparison import ALIAS_FIELDS, digest_of_row
from penstock.core.errors import Conflict, InvalidInput
from penstock.core.texts import is_readable
from penstock.registry.db import schema
from penstock.registry.model_settings import encode_settings
from penstock.registry.records import AliasMove, AliasRecord, Author, Document, ModelRecord, ModelSettings

LONGEST_REASON = 2000


@dataclass(frozen=True, slots=True)
class PassedGates:
    """The results of the gates of versions that gain traffic, as JSON values; only ``TrafficGates`` makes one.

    They are not ``enforced`` where a version answers again that did before.
    """

    results: list[Document]
    enforced: bool = True


class Journal:
    """Writes within the caller's transaction; ``clock`` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def move_alias(
        self,
        connection: sa.Connection,
        model: str,
        present: AliasRecord | None,
        alias: AliasRecord,
        action: str,
        by: Author,
        passed: PassedGates,
    ) -> AliasMove:
        """Point an alias at another version, which has ``passed`` its gates."""
        self.record_gates(connection, model, action, by, passed)
        table = schema.aliases
        values = {"version": alias.version, "before": list(alias.before)}
        if present is None:
            connection.execute(table.insert().values(model=model, alias=alias.alias, **values))
        else:
            where = (table.c.model == model, table.c.alias == alias.alias)
            connection.execute(table.update().where(*where).values(**values))
        before = None if present is None else present.version
        old = None if before is None else {"version": before}
        subject = f"aliases/{alias.alias}"
        record = digest_of_row({"model": model, "alias": alias.alias, **values}, ALIAS_FIELDS)
        after = {"version": alias.version, "record": record}
        revision = self.record_change(connection, model, action, subject, by, old, after)
        return AliasMove(revision, before, alias.version)

    def record_gates(self, connection: sa.Connection, model: str, action: str, by: Author, passed: PassedGates) -> None:
        """Add a line to the audit with the results of gates, if there are any."""
        if passed.results:
            after = {"change": action, "enforced": passed.enforced, "versions": passed.results}
            self.record_audit(connection, model, "gates.evaluate", "gates", by, None, after)

    def record_change(
        self,
        connection: sa.Connection,
        model: str,
        action: str,
        subject: str,
        by: Author,
        before: Document | None,
        after: Document | None,
    ) -> int:
        """Add a line to the audit and raise the revisions; return the model's new revision.

        Raises:
            InvalidInput: as ``record_audit``.
        """
        revision = self.record_general_change(connection, action, subject, by, before, after, model)
        table = schema.models
        if not connection.execute(table.update().where(table.c.name == model).values(revision=revision)).rowcount:
            settings = encode_settings(ModelSettings())
            connection.execute(table.insert().values(name=model, revision=revision, settings=settings))
        return revision

    def record_general_change(
        self,
        connection: sa.Connection,
        action: str,
        subject: str,
        by: Author,
        before: Document | None,
        after: Document | None,
        model: str = "",
    ) -> int:
        """Add a line to the audit and raise the registry's revision, which is returned; by default, the change is of no
        model.

        Raises:
            InvalidInput: as ``record_audit``.
        """
        self.record_audit(connection, model, action, subject, by, before, after)
        connection.execute(schema.registry.update().values(revision=schema.registry.c.revision + 1))
        return int(connection.execute(sa.select(schema.registry.c.revision)).scalar_one())

    def record_audit(
        self,
        connection: sa.Connection,
        model: str,
        action: str,
        subject: str,
        by: Author,
        before: Document | None,
        after: Document | None,
    ) -> None:
        """Add a line to the audit, with the hash that binds it to the lines before it. With a model the subject is one
        of the model's; without ("") it stands as it is. Only within ``writing()``, which lets one change at a time.

        Raises:
            InvalidInput: the actor or the reason is not readable, or the reason is too long.
        """
        if len(by.reason) > LONGEST_REASON:
            raise InvalidInput(f"the reason is longer than {LONGEST_REASON} characters")
        if not is_readable(by.reason) or not is_readable(by.actor):
            raise InvalidInput("the actor and the reason of a change must be readable characters")
        last, link = read_last_link(connection)
        entry: Document = {
            "seq": last + 1,
            "at": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
            "actor": by.actor,
            "action": action,
            "model": model,
            "subject": f"models/{model}/{subject}" if model else subject,
            "reason": by.reason,
            "before": normalise(before),
            "after": normalise(after),
            **_origin_of(by),
        }
        entry["hash"] = next_link(link, canonical_form(entry)).hex()
        connection.execute(schema.audit.insert().values(**entry))


def _origin_of(by: Author) -> dict[str, str]:
    """Return how a change came, each field within the length of its column and readable."""
    lengths = {"method": 16, "key_id": 64, "address": 64, "request_id": 128, "on_behalf_of": 128}
    stated = {name: str(getattr(by, name))[:length] for name, length in lengths.items()}
    return {name: text if is_readable(text) else "" for name, text in stated.items()}


def read_last_link(connection: sa.Connection) -> tuple[int, bytes]:
    """Return the number and the hash of the last entry of the audit, in the database or in an archive."""
    table, archives = schema.audit, schema.audit_archives
    last = connection.execute(sa.select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).first()
    if last is None:
        query = sa.select(archives.c.last, archives.c.link).order_by(archives.c.last.desc()).limit(1)
        last = connection.execute(query).first()
    if last is not None and last[1]:
        return last[0], bytes.fromhex(last[1])
    registry_id = connection.execute(sa.select(schema.registry.c.id)).scalar_one()
    return (0 if last is None else last[0]), first_link(registry_id)


def compare_revision(model: ModelRecord, expected: int | None) -> None:
    """Refuse a change that was made for another revision of the model than the present one; None allows any.

    Raises:
        Conflict: the model is at another revision.
    """
    if expected is not None and expected != model.revision:
        raise Conflict(f"model '{model.name}' is at revision {model.revision}, not {expected}; read it again")
