"""Checks the gates of versions that gain traffic, within the transaction of the change.

Every move of an alias and every new route needs a ``PassedGates``, whoever asks for it: an operator, a rollout, a rule
or MLflow. A refused change leaves a line in the audit.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from penstock.core.errors import Refused
from penstock.core.version_gates import (
    Gate,
    GateResult,
    VersionFacts,
    VersionGates,
    evaluate_gates,
    parse_version_gates,
    refusal_text,
)
from penstock.registry.db import schema
from penstock.registry.records import Author, Document, ModelRecord, VersionRecord, VersionState
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal, PassedGates

GATES = "gates"
"""The section of a policy with the gates of its model's versions."""

Results = Mapping[str, list[GateResult]]


class GateRefused(Refused):
    """A version that would gain traffic does not pass its gates; ``results`` are those of all versions."""

    def __init__(self, message: str, model: str, results: list[Document]) -> None:
        super().__init__(message)
        self.model = model
        self.results = results


@dataclass(frozen=True, slots=True)
class _ModelGates:
    """The gates of a model, and the signatures of its versions."""

    gates: VersionGates
    bundles: Mapping[str, list[str]] = field(default_factory=dict)


class TrafficGates:
    """Evaluates the gates of versions, within a transaction of the caller."""

    def __init__(self, database: Connections) -> None:
        self._database = database

    def check(self, connection: sa.Connection, model: ModelRecord, gaining: Iterable[str]) -> PassedGates:
        """Check the versions that gain traffic.

        Raises:
            GateRefused: one of them does not pass.
        """
        results = self._evaluate(connection, model, sorted(gaining))
        if reasons := [text for version, items in results.items() if (text := refusal_text(version, items))]:
            raise GateRefused("; ".join(reasons), model.name, _encode_results(results))
        return PassedGates(_encode_results(results))

    def refusal(self, connection: sa.Connection, model: ModelRecord, version: str) -> str:
        """Return why a version may not gain traffic, "" if it may."""
        return refusal_text(version, self._evaluate(connection, model, [version])[version])

    def check_approvable(self, connection: sa.Connection, model: ModelRecord, version: VersionRecord) -> None:
        """Check that a version passes every gate but the number of approvals; raises ``GateRefused``."""
        known = self._known(connection, model.name)
        results = [item for item in self._results(known, version) if item.gate is not Gate.APPROVAL]
        if text := refusal_text(version.version, results):
            raise GateRefused(text, model.name, _encode_results({version.version: results}))

    def note(self, connection: sa.Connection, model: ModelRecord, returning: Iterable[str]) -> PassedGates:
        """Return the results of versions that answered before and do so again: the way back is never refused."""
        return PassedGates(_encode_results(self._evaluate(connection, model, sorted(returning))), enforced=False)

    def withheld(self, connection: sa.Connection, model: ModelRecord) -> tuple[str, ...]:
        """Return the versions that do not pass, so that they answer only calls that name them."""
        admitted = [name for name, record in model.versions.items() if record.state is VersionState.ADMITTED]
        results = self._evaluate(connection, model, sorted(admitted))
        return tuple(version for version, items in results.items() if refusal_text(version, items))

    def mark_withheld(self, connection: sa.Connection, models: list[ModelRecord]) -> list[ModelRecord]:
        """Return models with their versions that do not pass; only models with gates are evaluated."""
        table = schema.policies
        rows = connection.execute(sa.select(table.c.model, table.c.document)).all()
        gated = {row.model for row in rows if row.document.get(GATES)}
        return [
            replace(model, withheld=self.withheld(connection, model)) if model.name in gated else model
            for model in models
        ]

    def results(self, model: ModelRecord, version: str) -> list[Document]:
        """Return the results of all gates of a version as JSON values."""
        with self._database.reading() as connection:
            results = self._evaluate(connection, model, [version])
        return [result.to_document() for result in results[version]]

    def _evaluate(self, connection: sa.Connection, model: ModelRecord, versions: Iterable[str]) -> Results:
        known = self._known(connection, model.name)
        return {version: self._results(known, model.versions.get(version)) for version in versions}

    def _known(self, connection: sa.Connection, model: str) -> _ModelGates:
        return _ModelGates(read_gates(connection, model), self._bundles(connection, model))

    def _results(self, known: _ModelGates, record: VersionRecord | None) -> list[GateResult]:
        if record is None:  # of a watched folder: it has no record, and its signatures are checked where it is read
            return evaluate_gates(known.gates, VersionFacts())
        verdict, reason = self._database.signatures.verify(
            record.model, record.version, record.content.signed_files, known.bundles.get(record.version, [])
        )
        required = self._database.signatures.policy.is_required
        facts = VersionFacts(record.metadata, verdict.signers, reason if required else "", record.approvers, required)
        return evaluate_gates(known.gates, facts)

    def _bundles(self, connection: sa.Connection, model: str) -> dict[str, list[str]]:
        """Return the bundles of a model's versions, none where signatures are not checked."""
        bundles: dict[str, list[str]] = {}
        if self._database.signatures.policy.is_on:
            table = schema.signatures
            for row in connection.execute(sa.select(table.c.version, table.c.bundle).where(table.c.model == model)):
                bundles.setdefault(row.version, []).append(row.bundle)
        return bundles


def read_gates(connection: sa.Connection, model: str) -> VersionGates:
    """Return the gates in a model's policy, none without a policy."""
    table = schema.policies
    document = connection.execute(sa.select(table.c.document).where(table.c.model == model)).scalar()
    return parse_version_gates((document or {}).get(GATES, {}), GATES, [])


@contextmanager
def auditing_refusals(database: Connections, journal: Journal, by: Author) -> Iterator[None]:
    """Add a line to the audit if the change within the block is refused by gates; raises ``GateRefused`` on."""
    try:
        yield
    except GateRefused as refused:
        with database.writing() as connection:
            after = {"reason": str(refused), "versions": refused.results}
            journal.record_audit(connection, refused.model, "gates.refuse", GATES, by, None, after)
        raise


def _encode_results(results: Results) -> list[Document]:
    return [
        {"version": version, "results": [result.to_document() for result in items]}
        for version, items in results.items()
        if items
    ]
