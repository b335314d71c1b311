"""The lines that `rollout start --watch` prints: a rollout's progress, and each weight once every worker has it."""

from penstock.cli.client import Document

OPEN = ("running", "paused")
REPEAT_S = 5.0
"""Seconds between two lines that differ in numbers only."""


def progress_line(rollout: Document) -> str:
    """Return a rollout's progress as one line."""
    return "; ".join(rollout["progress"])


class Reporter:
    """Turns successive states of a rollout into lines: a change at once, other progress every ``REPEAT_S``."""

    def __init__(self) -> None:
        self._weight: int | None = None
        self._kinds: tuple[str, ...] = ()
        self._line = ""
        self._at = 0.0

    def lines(self, rollout: Document, now: float) -> list[str]:
        """Return the lines to print for this state; ``now`` is in monotonic seconds."""
        started = self._started_weight(rollout)
        line, kinds = progress_line(rollout), _find_subjects(rollout)
        if line == self._line or (kinds == self._kinds and not started and now - self._at < REPEAT_S):
            return started
        self._line, self._kinds, self._at = line, kinds, now
        return [*started, line]

    def _started_weight(self, rollout: Document) -> list[str]:
        """Return a line when every worker has a new weight."""
        weight = rollout["weight"]
        if rollout["state"] not in OPEN or not rollout["in_place"] or weight == self._weight:
            return []
        first, self._weight = self._weight is None, weight
        return [] if first else [f"weight is now {weight / 100:g} %"]


def _find_subjects(rollout: Document) -> tuple[str, ...]:
    """Return what a line is about, without its numbers."""
    verdicts = [f"{name}={item['verdict']}" for name, item in rollout["evidence"].items()]
    return rollout["state"], str(rollout["weight"]), str(rollout["in_place"]), *verdicts
