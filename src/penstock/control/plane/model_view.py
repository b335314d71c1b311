"""The models as one gateway shows them: the registry's records joined with what the workers serve."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from penstock.control.calls.blocking import BlockingPool
from penstock.control.reconcile.reconciler import Reconciler
from penstock.core.batching import BATCHING
from penstock.core.desired import ReadyState, VersionStatus, serving_version
from penstock.core.errors import NotFound, NotReady, Refused, unknown_model
from penstock.core.versions import sort_key
from penstock.registry.documents import VersionDisplay, model_document
from penstock.registry.records import Document, ModelRecord
from penstock.registry.registry import usable_versions
from penstock.registry.stores.snapshot import RegistrySnapshot


class ServingState(Protocol):
    """What the gateway knows of the versions that it serves."""

    def statuses(self) -> list[VersionStatus]:
        """Return every version of every model."""

    def signature(self, model: str, version: str) -> Mapping[str, Any] | None:
        """Return a version's inputs and outputs, None until a worker has reported them."""

    async def serve_changes(self) -> bool:
        """Publish stored changes to the workers; return whether all have applied them."""


class ModelView:
    """The models of one gateway; ``reads`` runs the queries; ``in_folder``: folders or buckets are served, whose models
    are known without the database.
    """

    def __init__(
        self,
        snapshot: RegistrySnapshot,
        reconciler: Reconciler,
        serving: ServingState,
        reads: BlockingPool,
        in_folder: bool,
    ) -> None:
        self._snapshot = snapshot
        self._reconciler = reconciler
        self._serving = serving
        self._reads = reads
        self._in_folder = in_folder
        self._mlflow_problems: Callable[[str], Sequence[str]] = lambda _: ()
        self._features: Callable[[str, str], Sequence[str]] = lambda *_: ()

    def show_mlflow_problems(self, problems: Callable[[str], Sequence[str]]) -> None:
        """Show from now on which versions of a model could not be copied from MLflow."""
        self._mlflow_problems = problems

    def show_features(self, features: Callable[[str, str], Sequence[str]]) -> None:
        """Show from now on the features of a version, by model and version, in the order of its input."""
        self._features = features

    async def models(self) -> list[Document]:
        """Return every model, as the admin API shows it."""
        records = {record.name: record for record in await self.records()}
        statuses = self._statuses()
        return [
            self._document(name, records.get(name), statuses.get(name, {})) for name in sorted({*records, *statuses})
        ]

    async def model(self, name: str) -> Document:
        """Return one model, with the features of its versions.

        Raises:
            NotFound: no such model.
        """
        record = next((item for item in await self.records() if item.name == name), None)
        statuses = self._statuses().get(name)
        if record is None and statuses is None:
            raise unknown_model(name)
        document = self._document(name, record, statuses or {})
        for version in document["versions"]:
            version["features"] = [*self._features(name, version["version"])]
        return document

    async def records(self) -> list[ModelRecord]:
        """Return every model as the database has it; while that is unreachable, as it was last read."""
        try:
            return await self._reads.call(self._snapshot.models)
        except NotReady as fault:
            if (records := self._snapshot.last_known(str(fault))) is not None:
                return records
            if not self._in_folder:
                raise
            return []  # a folder's models are known without the database

    def _statuses(self) -> dict[str, dict[str, VersionStatus]]:
        statuses_of: dict[str, dict[str, VersionStatus]] = {}
        for status in self._serving.statuses():
            statuses_of.setdefault(status.model, {})[status.version] = status
        return statuses_of

    def before_newest(self, model: str) -> str | None:
        """Return the newest ready version before the newest one, even while that is being loaded.

        Raises:
            NotFound: no such model.
        """
        ready = self.ready(model)
        newest = serving_version(None, None, self._statuses()[model].values())
        before = [version for version in ready if newest is not None and sort_key(version) < sort_key(newest)]
        return before[-1] if before else None

    def ready(self, model: str) -> list[str]:
        """Return the ready versions of a model, oldest first; raises ``NotFound``."""
        statuses = self._statuses().get(model)
        if statuses is None:
            raise unknown_model(model)
        ready = [status.version for status in statuses.values() if status.state is ReadyState.READY]
        return sorted(ready, key=sort_key)

    async def loadable(self, model: str) -> list[str]:
        """Return versions that are not loaded now and could be."""
        usable = [item for record in await self.records() if record.name == model for item in usable_versions(record)]
        unavailable = self._statuses().get(model, {})
        return [version for version in usable if version not in unavailable]

    def refuse_unready(self, model: str, version: str) -> None:
        """Refuse a version that does not answer.

        Raises:
            NotFound: no such model or version.
            Refused: it is not ready.
        """
        statuses = self._statuses().get(model)
        if statuses is None:
            raise unknown_model(model)
        if version not in statuses:
            raise NotFound(f"model '{model}' serves no version '{version}'")
        status = statuses[version]
        if status.state is not ReadyState.READY:
            because = status.reason or status.state.lower()
            raise Refused(f"version '{version}' of model '{model}' is not ready: {because}")

    def _document(self, name: str, record: ModelRecord | None, statuses: Mapping[str, VersionStatus]) -> Document:
        displays = {version: self._display(status) for version, status in statuses.items() if version}
        problem = (self._reconciler.detail(name, "") or statuses[""].reason) if "" in statuses else ""
        document = model_document(record or ModelRecord(name, 0), displays, problem)
        if (untaken := self._mlflow_problems(name)) and "problem" not in document:
            document["problem"] = f"not taken over from MLflow: {'; '.join(untaken)}"
        return document

    def _full_reason(self, status: VersionStatus) -> str:
        """Return the full reason of a status, for operators."""
        if not status.reason:
            return ""
        return self._reconciler.detail(status.model, status.version) or status.detail or status.reason

    def _display(self, status: VersionStatus) -> VersionDisplay:
        placed = self._reconciler.materialized_version(status.model, status.version)
        signature = dict(self._serving.signature(status.model, status.version) or {})
        batching = signature.pop(BATCHING, None)
        return VersionDisplay(
            status.state.value,
            self._reconciler.rejection_reason(status.model, status.version) or self._full_reason(status),
            signature or None,
            placed.digest if placed else "",
            placed.report if placed else None,
            batching,
        )
