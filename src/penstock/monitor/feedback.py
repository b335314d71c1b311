"""Values of feedback: what callers send about answers, and what joining it to the answers gives."""

from dataclasses import dataclass
from typing import Any

from penstock.monitor.answers import NUMBER


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row with its label: its version, the answer, the label, and the time ``at`` which the label became known.

    ``answered_at`` is the time of the answer and ``came_at`` the time when this fleet received the label (0: now); all
    times are seconds since the epoch. ``by_split`` says that the split chose the version at random.
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
        """Whether the answer equals the label; a probability stands for the class that it is nearer to."""
        return bool(self.label == self.answer or (self.is_probability and (self.answer >= 0.5) == (self.label >= 0.5)))

    @property
    def is_probability(self) -> bool:
        """Whether the answer is a single number that may be the probability of the label."""
        return self.form == NUMBER and 0 <= self.answer <= 1 and self.label in (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback on one request: its label or labels (one for each row, None for no label), a reward from 0 to 1, the
    time ``at`` which it became known and the time ``came_at`` when this fleet received it, by the clock that times the
    answers (seconds since the epoch, 0: now)."""

    id: str
    label: Any = None
    reward: float | None = None
    at: float = 0.0
    came_at: float = 0.0


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """The result that a caller gets: how many items match no remembered answer or one that is too old, and how many
    wait for the other gateways of the fleet."""

    unmatched: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class RewardedAnswer:
    """One answer with a reward: its version, the reward, the time of the answer (seconds since the epoch), whether the
    split chose the version at random, and when this fleet received the reward (0: now)."""

    version: str
    reward: float
    answered_at: float
    by_split: bool
    came_at: float = 0.0


@dataclass(slots=True)
class JoinResult:
    """The result of joining feedback to answers.

    It has the labelled rows, the rewarded answers, the versions of feedback that came too late, came twice or was no
    usable label, the feedback that matches no remembered answer, and the feedback that could not be stored.
    """

    joined: list[LabelledRow]
    rewards: list[RewardedAnswer]
    expired: list[str]
    duplicates: list[str]
    unusable: list[str]
    unknown: list[Feedback]
    failed: list[Feedback]

    @classmethod
    def empty(cls) -> "JoinResult":
        """Return a result without any item."""
        return cls([], [], [], [], [], [], [])

    def add(self, other: "JoinResult") -> None:
        """Append the items of another result."""
        self.joined += other.joined
        self.rewards += other.rewards
        self.expired += other.expired
        self.duplicates += other.duplicates
        self.unusable += other.unusable
        self.unknown += other.unknown
        self.failed += other.failed
