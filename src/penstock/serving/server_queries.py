"""All other calls of the protocol: metadata, configuration, statistics, the index, loading and unloading, and
labels.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from penstock.core.batching import BATCHING
from penstock.core.desired import ReadyState
from penstock.core.errors import InvalidInput, NotFound, NotReady, OverBudget, Refused, Unauthorised
from penstock.core.frames.terms import ROWS, encode_terms
from penstock.core.signature import TensorSpec
from penstock.core.texts import shorten
from penstock.core.versions import sort_key
from penstock.monitor.counters.totals import ReadTotals, Totals
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.serving.access.request_author import RequestAuthor
from penstock.serving.routing_table import ModelEntry, RoutingTable
from penstock.serving.shared_memory import SharedRegions

SERVER_NAME: Final = "penstock"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
"""Protocol extensions that are always available."""

PLATFORM: Final = "onnxruntime_onnx"


CONTROL_OFF: Final = "models are not loaded or unloaded by this port; the setting repository_control allows it"


class ModelRepository(Protocol):
    """Loads and unloads models; the control plane does it for all workers."""

    async def load(self, model: str, config: str | None, author: RequestAuthor | None = None) -> None:
        """Load or reload a model; ``config`` is a model configuration in JSON that replaces its own, and ``author`` is
        recorded in the audit.

        Raises:
            NotFound: no such model.
            InvalidInput: it cannot be loaded, with the reason.
            OverBudget: there is no memory for it.
        """

    async def unload(self, model: str, author: RequestAuthor | None = None) -> None:
        """Stop serving a model.

        Raises:
            NotFound: no such model.
        """

    async def feedback(self, model: str, entries: Sequence[Feedback]) -> FeedbackResult:
        """Join feedback to stored answers; return the number of entries without one."""


class UncontrolledRepository:
    """A repository of which clients neither load nor unload models; labels are taken."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    async def load(self, model: str, config: str | None, author: RequestAuthor | None = None) -> None:
        """See ``ModelRepository``; raises ``Unauthorised``."""
        raise Unauthorised(CONTROL_OFF)

    async def unload(self, model: str, author: RequestAuthor | None = None) -> None:
        """See ``ModelRepository``; raises ``Unauthorised``."""
        raise Unauthorised(CONTROL_OFF)

    async def feedback(self, model: str, entries: Sequence[Feedback]) -> FeedbackResult:
        """See ``ModelRepository``."""
        return await self._repository.feedback(model, entries)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The response to the protocol's metadata call."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class VersionStatistics:
    """The counts of one version over all workers."""

    model: str
    version: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index; ``version`` and ``state`` are empty for a model without versions."""

    name: str
    version: str
    state: str
    reason: str


class ServerQueries:
    """Answers from the current routing table, the counters of all workers, and the control plane."""

    def __init__(self, totals: ReadTotals, repository: ModelRepository, regions: SharedRegions) -> None:
        self._totals = totals
        self._repository = repository
        self._regions = regions
        self._routing_table = RoutingTable()
        self._blocks: dict[tuple[str, str], int] = {}

    def publish(self, routing_table: RoutingTable, blocks: dict[tuple[str, str], int]) -> None:
        """Answer from this table from now on; ``blocks`` are the versions' counter blocks."""
        self._routing_table = routing_table
        self._blocks = blocks

    @property
    def extensions(self) -> tuple[str, ...]:
        """Return the available extensions of the protocol, on both transports; tools enable features by this list."""
        return (*EXTENSIONS, "system_shared_memory") if self._regions.is_enabled else EXTENSIONS

    def model_ready(self, model: str, version: str = "") -> bool:
        """Whether this model (and version) answers now.

        Raises:
            NotFound: no such model or version.
        """
        try:
            self._routing_table.find((model, version))
        except NotReady:
            return False
        return True

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Return names, shapes and datatypes of a model.

        Raises:
            NotFound: no such model or version.
            NotReady: it is not loaded.
        """
        loaded = self._routing_table.find((model, version))[0]
        signature = loaded.signature
        versions = (loaded.identity.version,) if version else self._routing_table.entry(model).ready
        refused = loaded.options.asks_for_batching and not loaded.sharing.shared
        stated = {BATCHING: loaded.sharing.text if refused else "", ROWS: encode_terms(loaded.row_terms)}
        properties = {name: text for name, text in stated.items() if text}
        return ModelMetadata(model, versions, PLATFORM, signature.inputs, signature.outputs, properties)

    def sharing(self, model: str, version: str) -> str:
        """Return whether requests share runs of a version, and why or why not; raises as ``metadata`` does."""
        return self._routing_table.find((model, version))[0].sharing.text

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """Return the model's configuration in protobuf JSON form; raises as ``metadata`` does."""
        return self._routing_table.find((model, version))[0].config

    def statistics(self, model: str = "", version: str = "") -> list[VersionStatistics]:
        """Return counts of every served version, or of one model, or of one version, over all workers.

        Raises:
            NotFound: no such model or version.
            NotReady: the version is not loaded.
        """
        if not model:
            return [statistic for entry in self._routing_table.models.values() for statistic in self._statistics(entry)]
        if not version:
            return list(self._statistics(self._routing_table.entry(model)))
        loaded = self._routing_table.find((model, version))[0]
        return [self._statistics_of(model, loaded.identity.version)]

    def index(self, ready_only: bool = False) -> list[IndexEntry]:
        """Return every known model and version with its state."""
        lines = [line for entry in self._routing_table.models.values() for line in _index_lines(entry)]
        return [line for line in lines if line.state == ReadyState.READY] if ready_only else lines

    async def load(self, model: str, config: str | None = None, author: RequestAuthor | None = None) -> None:
        """See ``ModelRepository.load``; the sentence of a refusal begins as clients of Triton expect."""
        try:
            await self._repository.load(model, config, author)
        except (InvalidInput, NotFound, OverBudget, Refused) as fault:
            raise type(fault)(f"failed to load '{shorten(model)}': {fault}") from None

    async def unload(self, model: str, author: RequestAuthor | None = None) -> None:
        """See ``ModelRepository.unload``; an unknown model counts as unloaded."""
        with suppress(NotFound):
            await self._repository.unload(model, author)

    async def feedback(self, model: str, entries: Sequence[Feedback]) -> tuple[int, FeedbackResult]:
        """Join labels and rewards to answers of any worker of any gateway; return how many were accepted, and how many
        of those have no stored answer or wait for other gateways.

        Raises:
            NotFound: no such model.
            NotReady: the process that remembers answers is away.
        """
        entry = self._routing_table.entry(model)
        for version in entry.ready:
            watch = self._routing_table.find((model, version))[0].sampler
            if watch is not None:
                watch.flush()  # feedback may come right after an answer
        return len(entries), await self._repository.feedback(model, entries) if entries else FeedbackResult()

    def _statistics(self, entry: ModelEntry) -> Iterator[VersionStatistics]:
        for version in entry.ready:
            yield self._statistics_of(entry.name, version)

    def _statistics_of(self, model: str, version: str) -> VersionStatistics:
        return VersionStatistics(model, version, self._totals(self._blocks[model, version]))


def _index_lines(entry: ModelEntry) -> Iterator[IndexEntry]:
    if not entry.statuses:
        yield IndexEntry(entry.name, "", "", "")
    for version in sorted(entry.statuses, key=sort_key):
        status = entry.statuses[version]
        yield IndexEntry(entry.name, version, status.state, status.reason)
