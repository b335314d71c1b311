"""The journal of the registry: every change adds a line to the audit and raises the revisions."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from penstock.core.errors import Conflict, InvalidInput
from penstock.core.texts import is_readable
from penstock.registry.db import schema
from penstock.registry.model_settings import settings_out
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
        revision = self.record_change(connection, model, action, subject, by, old, {"version": alias.version})
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
            settings = settings_out(ModelSettings())
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
        """Add a line to the audit.

        Raises:
            InvalidInput: the actor or the reason is not readable, or the reason is too long.
        """
        if len(by.reason) > LONGEST_REASON:
            raise InvalidInput(f"the reason is longer than {LONGEST_REASON} characters")
        if not is_readable(by.reason) or not is_readable(by.actor):
            raise InvalidInput("the actor and the reason of a change must be readable characters")
        connection.execute(
            schema.audit.insert().values(
                at=datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds"),
                actor=by.actor,
                action=action,
                model=model,
                subject=f"models/{model}/{subject}" if model else subject,
                reason=by.reason,
                before=before,
                after=after,
            )
        )


def compare_revision(model: ModelRecord, expected: int | None) -> None:
    """Refuse a change that was made for another revision of the model than the present one; None allows any.

    Raises:
        Conflict: the model is at another revision.
    """
    if expected is not None and expected != model.revision:
        raise Conflict(f"model '{model.name}' is at revision {model.revision}, not {expected}; read it again")
