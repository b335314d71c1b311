"""What people say of answers, and what became of it: values that the store of answers takes and gives."""

from dataclasses import dataclass
from typing import Any

from penstock.monitor.answers import NUMBER


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row that was labelled: its version, what was answered, what was told, and ``at`` which time that was known.

    ``answered_at`` is the time of the answer (seconds since the epoch); ``by_split`` says that chance chose the
    version, and ``came_at`` is when its label came to this fleet, 0 for now.
    """

    version: str
    form: int
    answer: float
    scores: tuple[float, ...]
    label: float
    at: float
    answered_at: float = 0.0
    by_split: bool = False
    came_at: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the answer was the label; a probability counts as the class it is nearer to."""
        return bool(self.label == self.answer or (self.is_chance and (self.answer >= 0.5) == (self.label >= 0.5)))

    @property
    def is_chance(self) -> bool:
        """Whether a single number may be the probability of what the label says."""
        return self.form == NUMBER and 0 <= self.answer <= 1 and self.label in (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody says of an answer: its label or labels (one a row; None says nothing), a reward from 0 to 1, and
    when it became known (seconds since the epoch, 0 for now). ``came_at`` is when it came to this fleet, by the clock
    that answers are timed by; 0 for now."""

    id: str
    label: Any = None
    reward: float | None = None
    at: float = 0.0
    came_at: float = 0.0


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """What became of feedback as a caller is told: how many belong to no answer that is remembered here or to one that
    is too old, and how many wait for the other gateways."""

    unmatched: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class RewardedAnswer:
    """One answer that was rewarded: its version, the reward, the time of the answer (seconds since the epoch), whether
    chance chose the version, and when the reward came to this fleet (0 for now)."""

    version: str
    reward: float
    answered_at: float
    by_split: bool
    came_at: float = 0.0


@dataclass(slots=True)
class JoinResult:
    """What became of what was told: rows that were joined, answers that were rewarded, versions of what came too late,
    was told of before, or could not be a label, what belongs to no answer that is remembered, and what could not be
    written down."""

    joined: list[LabelledRow]
    rewards: list[RewardedAnswer]
    too_late: list[str]
    duplicates: list[str]
    unusable: list[str]
    unknown: list[Feedback]
    failed: list[Feedback]

    @classmethod
    def nothing(cls) -> "JoinResult":
        """Nothing yet."""
        return cls([], [], [], [], [], [], [])

    def add(self, other: "JoinResult") -> None:
        """Count what became of other things that were told, too."""
        self.joined += other.joined
        self.rewards += other.rewards
        self.too_late += other.too_late
        self.duplicates += other.duplicates
        self.unusable += other.unusable
        self.unknown += other.unknown
        self.failed += other.failed
