"""Remembers for a while what versions answered, so that labels and rewards can be counted when they come."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.tensors import Tensor
from penstock.monitor.counters import BlockWriter
from penstock.serving.calls import Call

MOST_KEPT = 100_000
"""Answers that one worker remembers; the oldest go first."""

MOST_ROWS = 1024
"""Rows of one answer that are remembered."""


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody says of an answer: its label or labels (one a row; None says nothing), and a reward from 0 to 1."""

    id: str
    label: Any = None
    reward: float | None = None


class Recent:
    """One worker's memory; lives on the event loop."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], tuple[BlockWriter, list[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def keep(self, call: Call) -> None:
        """Remember an answer."""
        identity = call.served.identity
        if len(self._answers) >= MOST_KEPT:
            self._answers.popitem(last=False)
        self._answers[identity.model, call.id] = call.served.block, predicted(call.outputs)

    def join(self, model: str, told: Sequence[Told]) -> list[Told]:
        """Count what can be joined to an answer that is remembered; the rest. An answer is told of once."""
        rest = []
        for one in told:
            known = self._answers.pop((model, one.id), None)
            if known is None:
                rest.append(one)
                continue
            block, answers = known
            if one.reward is not None:
                block.reward(one.reward)
            if one.label is not None:
                labels = one.label if isinstance(one.label, list) else [one.label]
                for label, answer in zip(labels, answers, strict=False):
                    block.label(_same(label, answer))
        return rest


class Rememberer:
    """Remembers every call it is told of; see ``calls.Follower``."""

    __slots__ = ("_recent",)

    def __init__(self, recent: Recent) -> None:
        self._recent = recent

    def offer(self, call: Call) -> None:
        """Remember a call."""
        self._recent.keep(call)


def predicted(outputs: Sequence[Tensor]) -> list[Any]:
    """What was predicted, one a row: the first output of labels or texts, else the class with the greatest score, else
    the first number."""
    labels = next((one for one in outputs if one.data.dtype.kind != "f" and one.data.size), None)
    if labels is not None:
        rows = labels.data.reshape(len(labels.data), -1)[:, 0] if labels.data.ndim else labels.data.reshape(1)
        return list(rows[:MOST_ROWS].tolist())
    scores = next((one.data for one in outputs if one.data.size), None)
    if scores is None:
        return []
    if scores.ndim > 1 and scores.shape[-1] > 1:
        return list(scores.reshape(-1, scores.shape[-1])[:MOST_ROWS].argmax(axis=1).tolist())
    return list(scores.reshape(-1)[:MOST_ROWS].tolist())


def _same(label: Any, answer: Any) -> bool:
    """Whether a label is what was predicted; a number may be told as a text."""
    return bool(label == answer) or str(label) == str(answer)
