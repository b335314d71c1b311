"""The watched repositories: each is read by itself, and one that is unreachable stops none of the others."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from penstock.control.periodic import ProblemLog
from penstock.core.errors import Fault, InvalidInput, NotReady
from penstock.core.versions import is_model_name
from penstock.registry.repository.layout import FoundModel, find_models, one_model, unpacked_model
from penstock.registry.repository.tree import FileTree, join_path
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

_NOT_YET = "it has not been read yet"


UNPACKED: Final = "model"
"""The folder of an unpacked archive, in the folder of its model."""


class RequestedModels:
    """The models of a repository that clients have asked for; the others are neither read nor offered.

    A model NAME lies in the folder NAME/model, as SageMaker unpacks the archives of an endpoint with many models. It is
    forgotten when its folder is gone. Of any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: set[str] = set()

    def add(self, model: str) -> None:
        """Offer a model from now on; a text that is not a model name is ignored, so that no other path is ever read."""
        if is_model_name(model):
            with self._lock:
                self._names.add(model)

    def read(self, tree: FileTree) -> list[FoundModel]:
        """Read the models; raises ``NotReady``. A repository that does not exist yet holds none."""
        with self._lock:
            asked = sorted(self._names)
        try:
            tree.refresh()
        except InvalidInput:
            return []
        present = [name for name in asked if tree.entries(join_path(name, UNPACKED))]
        with self._lock:
            self._names -= set(asked) - set(present)
        return [unpacked_model(tree, name, join_path(name, UNPACKED)) for name in present]


@dataclass(frozen=True, slots=True)
class SourceRepository:
    """One repository; ``model`` is the model's name if the repository is one model ("" = it holds many), ``file`` the
    graph if it is a bare file. With ``requested``, only models that were asked for are offered."""

    tree: FileTree
    model: str = ""
    file: str = ""
    requested: RequestedModels | None = None

    def models(self) -> list[FoundModel]:
        """Read the models; raises ``InvalidInput`` or ``NotReady``."""
        if self.requested is not None:
            return self.requested.read(self.tree)
        return [one_model(self.tree, self.model, self.file)] if self.model else find_models(self.tree)


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """The result of the last read of a repository: its number of known models, and why it could not be read ("" = it
    could). The reason is the full one, for operators."""

    name: str
    models: int
    reason: str


@dataclass(frozen=True, slots=True)
class RepositoryModels:
    """The models of one repository: the present ones, or, if it could not be ``read``, the last known ones."""

    tree: FileTree
    models: Sequence[FoundModel]
    read: bool


class Repositories:
    """Reads several repositories and remembers their models. ``read`` blocks; ``states`` may be read on any thread."""

    def __init__(self, repositories: Sequence[SourceRepository]) -> None:
        self._repositories = repositories
        self._last: dict[str, list[FoundModel]] = {}
        self._problem_log = ProblemLog()
        self.faults: dict[str, Fault] = {}
        self.states = [RepositoryState(repository.tree.name, 0, _NOT_YET) for repository in repositories]

    @property
    def ever_read(self) -> bool:
        """Whether any of them could be read so far."""
        return bool(self._last)

    def request(self, model: str) -> None:
        """Offer a model from now on where only requested models are offered."""
        for repository in self._repositories:
            if repository.requested is not None:
                repository.requested.add(model)

    def read(self) -> list[RepositoryModels]:
        """Read each of them.

        Raises:
            InvalidInput: none can be read: it is missing, or holds no model.
            NotReady: none can be read: it is unreachable.
        """
        faults: dict[str, Fault] = {}
        holdings = [self._read_one(repository, faults) for repository in self._repositories]
        self.faults = faults
        self.states = [self._state(holding) for holding in holdings]
        if not any(holding.read for holding in holdings):
            raise next(iter(faults.values()))
        self._log_problems()
        return holdings

    def _read_one(self, repository: SourceRepository, faults: dict[str, Fault]) -> RepositoryModels:
        name = repository.tree.name
        try:
            models = self._last[name] = repository.models()
        except (InvalidInput, NotReady) as fault:
            faults[name] = fault
            return RepositoryModels(repository.tree, self._last.get(name, []), read=False)
        return RepositoryModels(repository.tree, models, read=True)

    def _state(self, holding: RepositoryModels) -> RepositoryState:
        name = holding.tree.name
        return RepositoryState(name, len(holding.models), self.faults[name].full_text if name in self.faults else "")

    def _log_problems(self) -> None:
        """Log which of them cannot be read, each once until it changes."""
        self._problem_log.retain(self.faults)
        for name, fault in self.faults.items():
            self._problem_log.report(
                name,
                f"repository {name} cannot be read, and what is served of it stays as it is: {fault.full_text}",
                fault,
            )


def readings(states: Iterable[RepositoryState]) -> Iterator[Reading]:
    """Whether each repository could be read."""
    for state in states:
        yield Point(metrics.REPOSITORY_UP, (state.name,), not state.reason)
