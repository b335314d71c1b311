"""Which remembered answers go when there is no room for all: models have fair shares and give up their own oldest."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerBudget:
    """Bytes of one gateway's disk for remembered answers: of one model, and of all models together."""

    model_bytes: int = 256 << 20
    total_bytes: int = 1 << 30


DEFAULT_BUDGET = AnswerBudget()
"""The room there is unless settings say otherwise."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of answers of a model, with what it takes on the disk in bytes."""

    name: str
    model: str
    size: int


def over_budget(oldest_first: Sequence[File], room: AnswerBudget) -> list[str]:
    """The names of the files that go.

    A model beyond its room gives up its oldest file; while all of them together are beyond theirs, the model that takes
    most does. So a model that takes less than an equal share loses nothing to a busy one (max-min fairness).
    """
    files: dict[str, deque[File]] = {}
    for file in oldest_first:
        files.setdefault(file.model, deque()).append(file)
    taken = {model: sum(one.size for one in own) for model, own in files.items()}
    gone = []
    while taken:
        model = max(taken, key=lambda one: (taken[one], one))
        if taken[model] <= room.model_bytes and sum(taken.values()) <= room.total_bytes:
            break
        oldest = files[model].popleft()
        gone.append(oldest.name)
        taken[model] -= oldest.size
        if not files[model]:
            del taken[model]
    return gone
