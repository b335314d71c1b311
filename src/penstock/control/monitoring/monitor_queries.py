"""Answers what people and rules ask about watched versions, by the counts of the fleet or of this gateway."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from penstock.control.monitoring.answering import answering_shares
from penstock.control.monitoring.attributions import AttributionDrift
from penstock.control.monitoring.drift.detection import DriftDetection
from penstock.control.monitoring.fleet_evidence import FleetEvidence
from penstock.control.monitoring.watched_versions import WatchedVersions
from penstock.control.monitoring.workers import MonitoredWorkers
from penstock.core.errors import InvalidInput, NotFound, NotReady, unknown_model
from penstock.core.versions import VersionKey
from penstock.monitor.evidence_history import ColumnHistories
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns, limit_columns
from penstock.registry.records import Document
from penstock.registry.stores.evidence import VersionVerdict

FLEET, GATEWAY = "fleet", "gateway"
"""The scope of a document: the counts of all gateways, or of this one."""


class MonitorQueries:
    """The queries of one gateway, on its event loop. ``evidence`` is the fleet's, None for a gateway of its own;
    ``problems`` says why a version is not watched as its policy says, and ``attributions`` how much its features move
    its answers."""

    def __init__(
        self,
        workers: MonitoredWorkers,
        versions: WatchedVersions,
        detection: DriftDetection,
        evidence: FleetEvidence | None,
        problems: Callable[[VersionKey], list[str]],
        attributions: AttributionDrift,
    ) -> None:
        self._workers = workers
        self._versions = versions
        self._detection = detection
        self._evidence = evidence
        self._problems = problems
        self._attributions = attributions

    async def document(
        self, model: str, version: str | None, scope: str = FLEET, shown: ShownColumns = ALL_COLUMNS
    ) -> Document:
        """Return the monitor document of a version, by default of the one that answers most requests.

        ``answers`` has each version's share of the requests. Without ``version`` and with all columns, ``versions`` has
        the documents of all versions. The scope ``FLEET`` uses the counts of all gateways as far as they are known,
        ``GATEWAY`` those of this one.

        Raises:
            InvalidInput: the scope is unknown.
            NotFound: the model or version is unknown.
        """
        served, answers = self._known_versions(model, version, scope), self.answers(model)
        if version is not None:
            documents = await self._documents(model, [version], scope, shown)
            return {"model": model, "version": version, "answers": answers, **documents[version]}
        first = next((name for name in answers if name in served), None)
        if shown.most is not None:
            documents = await self._documents(model, [] if first is None else [first], scope, shown)
            return {"model": model, "version": first, "answers": answers, **documents.get(first or "", {})}
        documents = await self._documents(model, served, scope, shown)
        chosen = {} if first is None else documents[first]
        return {"model": model, "version": first, "answers": answers, **chosen, "versions": documents}

    async def column(self, model: str, version: str | None, name: str, scope: str = FLEET) -> Document:
        """Return one column of a version, by default of the one that answers most requests.

        Its evidence over time is up to ten seconds old where the leader's last verdict is read; ``history`` is None if
        an older release has written that.

        Raises:
            InvalidInput: the scope is unknown.
            NotFound: the model, version or column is unknown.
        """
        served = self._known_versions(model, version, scope)
        first = version or next((item for item in self.answers(model) if item in served), served[0])
        scope, found = await self._column((model, first), name, scope)
        if found is None:
            raise NotFound(f"the monitor of model '{model}' version '{first}' has no column '{name[:64]}'")
        return {"model": model, "version": first, "scope": scope, **found}

    async def importance(self, model: str, version: str | None) -> Document:
        """Return how much the features of a version move its answers, by live rows of this gateway; by default of the
        version that answers most requests.

        Raises:
            NotFound: the model or version is unknown.
        """
        served = self._known_versions(model, version, GATEWAY)
        first = version or next((item for item in self.answers(model) if item in served), served[0])
        return {"model": model, "version": first, "scope": GATEWAY, **self._attributions.document((model, first))}

    async def _column(self, key: VersionKey, name: str, scope: str) -> tuple[str, Document | None]:
        """Return a column, and by which counts it is."""
        if (found := self._attributions.column(key, name)) is not None:
            return GATEWAY, found
        if self._evidence is not None and scope == FLEET:
            leading = self._evidence.monitor(key)
            if leading is not None:
                return FLEET, leading.column(name)
            with suppress(NotReady):
                if (verdict := await self._evidence.verdict(key)) is not None:
                    return FLEET, _find_column(verdict, name)
        monitor = self._detection.monitor(key)
        return GATEWAY, None if monitor is None else monitor.column(name)

    def describe(self, model: str, version: str) -> Document:
        """Return the document of a version: by the counts of all gateways if this one leads, else by its own."""
        key = (model, version)
        of_fleet = None if self._evidence is None else self._evidence.describe(key)
        return of_fleet or self._of_gateway(key, ALL_COLUMNS)

    def _known_versions(self, model: str, version: str | None, scope: str) -> list[str]:
        """Return the served versions of a model; raises as ``document``."""
        served = self.versions_of(model)
        if not served:
            raise unknown_model(model)
        if version is not None and version not in served:
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        if scope not in (FLEET, GATEWAY):
            raise InvalidInput(f"scope is {FLEET} or {GATEWAY}")
        return served

    def versions_of(self, model: str) -> list[str]:
        """Return the versions of a model that this gateway knows."""
        return [status.version for status in self._workers.statuses() if status.model == model and status.version]

    def answers(self, model: str) -> dict[str, float]:
        """Return each version's share of the requests, the greatest first."""
        spec = next((item for item in self._workers.desired.models if item.name == model), None)
        return {} if spec is None else answering_shares(spec, self._workers.statuses())

    async def _documents(
        self, model: str, versions: Sequence[str], scope: str, shown: ShownColumns
    ) -> dict[str, Document]:
        documents = {}
        for key in ((model, version) for version in versions):
            of_fleet = None
            if self._evidence is not None and scope == FLEET:
                try:
                    of_fleet = await self._evidence.document(key, shown)
                except NotReady:
                    scope = GATEWAY  # try an unreachable database once, not for each version
            documents[key[1]] = self._with_scope(key, of_fleet, shown)
        return documents

    def _with_scope(self, key: VersionKey, of_fleet: Document | None, shown: ShownColumns) -> Document:
        problem = {"problem": "; ".join(problems)} if (problems := self._problems(key)) else {}
        if of_fleet is not None:
            document = {"scope": FLEET, **problem, **limit_columns(of_fleet, shown)}
        else:
            document = {"scope": GATEWAY, **problem, **self._of_gateway(key, shown)}
        return self._attributions.add_to(document, key)

    def _of_gateway(self, key: VersionKey, shown: ShownColumns) -> Document:
        """Return the document of a version by the counts of this gateway."""
        totals = self._workers.totals(*key)
        return self._versions.document_of(key, self._detection.monitor(key), totals, shown=shown)


def _find_column(verdict: VersionVerdict, name: str) -> Document | None:
    """Return a column of a stored verdict, with its evidence over time."""
    document = verdict.document
    joint = document.get("joint")
    columns = [*document["features"], *document["outputs"], *([joint] if joint else [])]
    index = next((place for place, item in enumerate(columns) if item["name"] == name), None)
    if index is None:
        return None
    stored = (verdict.evidence.get("rows") or {}).get("history")
    history = None if stored is None else ColumnHistories.restored(stored, len(columns)).document(index)
    threshold = document.get("log_e_threshold")
    return {"column": columns[index], "log_e_threshold": threshold, "history": history, "slices": {}}
