"""What `rollout status` and `--watch` print of a rollout: its progress in words, and each change once it holds."""

from penstock.cli.client import Document

OPEN = ("running", "paused")
REPEAT_S = 5.0
"""Between two lines that differ in numbers only."""


def words(rollout: Document) -> str:
    """A rollout's progress as one line."""
    return "; ".join(rollout["progress"])


class Reporter:
    """Turns looks at a rollout into lines: each change at once, and how it goes on every ``REPEAT_S``."""

    def __init__(self) -> None:
        self._weight: int | None = None
        self._kinds: tuple[str, ...] = ()
        self._line = ""
        self._at = 0.0

    def lines(self, rollout: Document, now: float) -> list[str]:
        """What is new at a look; ``now`` is in monotonic seconds."""
        begun = self._begun(rollout)
        line, kinds = words(rollout), _kinds(rollout)
        if line == self._line or (kinds == self._kinds and not begun and now - self._at < REPEAT_S):
            return begun
        self._line, self._kinds, self._at = line, kinds, now
        return [*begun, line]

    def _begun(self, rollout: Document) -> list[str]:
        """That a weight has begun: every worker has it."""
        weight = rollout["weight"]
        if rollout["state"] not in OPEN or not rollout["in_place"] or weight == self._weight:
            return []
        first, self._weight = self._weight is None, weight
        return [] if first else [f"on to {weight / 100:g} %"]


def _kinds(rollout: Document) -> tuple[str, ...]:
    """What a line is about, whatever its numbers are."""
    verdicts = [f"{name}={one['verdict']}" for name, one in rollout["evidence"].items()]
    return rollout["state"], str(rollout["weight"]), str(rollout["in_place"]), *verdicts
