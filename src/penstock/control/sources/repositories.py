"""The repositories that are watched: each is looked at by itself, and one that is away stops none of the others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from penstock.control.periodic import Complaints
from penstock.core.errors import Fault, InvalidInput, NotReady
from penstock.registry.repository.layout import FoundModel, models_in, one_model
from penstock.registry.repository.tree import Tree
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

_NOT_YET = "it has not been looked at yet"


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository; ``model`` is the name of the model that it is as a whole, if it is one ("" = it holds many), and
    ``file`` the graph where it is no folder."""

    tree: Tree
    model: str = ""
    file: str = ""

    def models(self) -> list[FoundModel]:
        """What is there now; raises ``InvalidInput`` or ``NotReady``."""
        return [one_model(self.tree, self.model, self.file)] if self.model else models_in(self.tree)


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """How the last look at a repository ended: the models that are known of it, and why it could not be read ("" = it
    could). The reason is the whole one, for operators."""

    name: str
    models: int
    reason: str


@dataclass(frozen=True, slots=True)
class Holding:
    """What is known of one repository: its models now, or, where it could not be ``read``, as they were."""

    tree: Tree
    models: Sequence[FoundModel]
    read: bool


class Repositories:
    """Looks at several repositories, and remembers what was in each. ``look`` blocks; ``states`` is for any thread."""

    def __init__(self, repositories: Sequence[Repository]) -> None:
        self._repositories = repositories
        self._last: dict[str, list[FoundModel]] = {}
        self._complaints = Complaints()
        self.faults: dict[str, Fault] = {}
        self.states = [RepositoryState(one.tree.name, 0, _NOT_YET) for one in repositories]

    @property
    def ever_read(self) -> bool:
        """Whether any of them could be read so far."""
        return bool(self._last)

    def look(self) -> list[Holding]:
        """What each of them holds.

        Raises:
            InvalidInput: none can be read, as it is not there or nothing in it looks like a model.
            NotReady: none can be read, as it cannot be reached.
        """
        faults: dict[str, Fault] = {}
        holdings = [self._held(repository, faults) for repository in self._repositories]
        self.faults = faults
        self.states = [self._state(holding) for holding in holdings]
        if not any(holding.read for holding in holdings):
            raise next(iter(faults.values()))
        self._complain()
        return holdings

    def _held(self, repository: Repository, faults: dict[str, Fault]) -> Holding:
        name = repository.tree.name
        try:
            models = self._last[name] = repository.models()
        except (InvalidInput, NotReady) as fault:
            faults[name] = fault
            return Holding(repository.tree, self._last.get(name, []), read=False)
        return Holding(repository.tree, models, read=True)

    def _state(self, holding: Holding) -> RepositoryState:
        name = holding.tree.name
        return RepositoryState(name, len(holding.models), self.faults[name].whole if name in self.faults else "")

    def _complain(self) -> None:
        """Log which of them cannot be read, each once for as long as it is so."""
        self._complaints.retain(self.faults)
        for name, fault in self.faults.items():
            self._complaints.tell(name, f"{name}: what is served of it stays as it is: {fault.whole}", fault)


def readings(states: Iterable[RepositoryState]) -> Iterator[Reading]:
    """Whether each repository could be read."""
    for state in states:
        yield Point(metrics.REPOSITORY_UP, (state.name,), not state.reason)
