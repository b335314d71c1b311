"""Decides which files of remembered answers are deleted when they exceed their budget: models have fair shares."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerBudget:
    """Disk space of one gateway for remembered answers, in bytes: of each model, and of all models together."""

    model_bytes: int = 256 << 20
    total_bytes: int = 1 << 30


DEFAULT_BUDGET = AnswerBudget()
"""The budget if the settings state none."""


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A file of answers of a model, with its size on the disk in bytes."""

    name: str
    model: str
    size: int


def over_budget(oldest_first: Sequence[AnswerFile], budget: AnswerBudget) -> list[str]:
    """Return the names of the files to delete.

    A model over its budget loses its oldest file. While all models together are over theirs, the model that takes most
    loses one. So a model that takes less than an equal share loses nothing to a busy one (max-min fairness).
    """
    files: dict[str, deque[AnswerFile]] = {}
    for file in oldest_first:
        files.setdefault(file.model, deque()).append(file)
    sizes = {model: sum(file.size for file in own) for model, own in files.items()}
    deleted = []
    while sizes:
        largest = max(sizes, key=lambda model: (sizes[model], model))
        if sizes[largest] <= budget.model_bytes and sum(sizes.values()) <= budget.total_bytes:
            break
        oldest = files[largest].popleft()
        deleted.append(oldest.name)
        sizes[largest] -= oldest.size
        if not files[largest]:
            del sizes[largest]
    return deleted
