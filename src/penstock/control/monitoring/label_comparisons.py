"""Matches labels and rewards for open rollouts and experiments, as strata that close in time.

All times come from this machine's clock, which also timed the answers. They are reported as seconds since the workers
here received the weights in question, so clocks of other gateways do not matter.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Any

from penstock.core.label_matching import LabelMatching, Stratum
from penstock.monitor.feedback import LabelledRow, RewardedAnswer
from penstock.registry.records import Document

MOST_STRATA = 1024
"""The most strata of a trial that wait for the leader; beyond it the oldest are dropped."""


class ComparedSignal(StrEnum):
    """The compared values: wrong answers among the labelled ones, or rewards."""

    WRONG = "wrong"
    REWARD = "reward"


@dataclass(frozen=True, slots=True)
class ComparisonTerms:
    """What a trial compares; ``stage`` is a new number for each period whose answers are compared."""

    trial: str
    model: str
    signal: ComparedSignal
    stage: int
    versions: tuple[str, ...]


SET_BACK_S = 1.0
"""If the clock is set back by more than this, the start moves with it; by less, time stands still until then."""


@dataclass(slots=True)
class _Comparison:
    """The comparison of one trial, of answers since ``began_at`` (seconds since the epoch, this machine's clock)."""

    terms: ComparisonTerms
    began_at: float
    matching: LabelMatching
    strata: deque[Stratum] = field(default_factory=lambda: deque(maxlen=MOST_STRATA))
    given_up: int = 0

    def close(self, now: float) -> None:
        back_s = self.matching.closed_s - (now - self.began_at)
        if back_s > SET_BACK_S:  # else labels would wait until the clock has caught up
            self.began_at -= back_s
        closed = self.matching.close(now - self.began_at)
        self.given_up += max(0, len(self.strata) + len(closed) - MOST_STRATA)
        self.strata.extend(closed)

    def out(self) -> Document:
        strata = [asdict(stratum) for stratum in self.strata]
        document = {"began_at": self.began_at, "matching": self.matching.export_state(), "strata": strata}
        return {"terms": asdict(self.terms), "given_up": self.given_up, **document}


class LabelComparisons:
    """The comparisons of one gateway; any thread may use it. ``clock`` is the clock of the answers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._comparisons: dict[str, _Comparison] = {}

    def start(self, terms: ComparisonTerms) -> None:
        """Compare answers from now on, unless the same terms are being compared."""
        with self._lock:
            comparison = self._comparisons.get(terms.trial)
            if comparison is None or comparison.terms != terms:
                self._comparisons[terms.trial] = _Comparison(terms, self._clock(), LabelMatching(terms.versions))

    def retain(self, signal: ComparedSignal, trials: Collection[str]) -> None:
        """Forget all other trials of a signal."""
        with self._lock:
            over = [
                key
                for key, comparison in self._comparisons.items()
                if comparison.terms.signal is signal and key not in trials
            ]
            for key in over:
                del self._comparisons[key]

    def take(self, model: str, rows: Sequence[LabelledRow], rewards: Sequence[RewardedAnswer]) -> None:
        """Add labels and rewards of answers that the split gave, with their age on arrival."""
        with self._lock:
            now = self._clock()
            for comparison in self._comparisons.values():
                if comparison.terms.model == model:
                    for version, answered_at, came_at, value in _iterate_values(comparison.terms.signal, rows, rewards):
                        age_s = (came_at or now) - answered_at
                        comparison.matching.add(version, answered_at - comparison.began_at, age_s, value)

    def closed_strata(self, trial: str, stage: int, known_s: float) -> Document | None:
        """Return the strata of a stage that closed after ``known_s``, for the leader; None if the stage is another."""
        with self._lock:
            item = self._comparisons.get(trial)
            if item is None or item.terms.stage != stage:
                return None
            item.close(self._clock())
            while item.strata and item.strata[0].closed_s <= known_s:
                item.strata.popleft()
            return {
                "stage": stage,
                "upto": item.matching.closed_s,
                "strata": [asdict(stratum) for stratum in item.strata],
                "waiting": item.matching.waiting(),
                "unmatched": item.matching.unmatched,
                "given_up": item.given_up,
            }

    def out(self) -> list[Document]:
        """Return the state that must outlive this process, as JSON values."""
        with self._lock:
            return [comparison.out() for comparison in self._comparisons.values()]

    def restore(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Continue with the values of ``out``.

        Raises:
            KeyError: the format is unknown (also ``TypeError`` and ``ValueError``).
        """
        for values in documents:
            saved = values["terms"]
            terms = ComparisonTerms(
                **{**saved, "signal": ComparedSignal(saved["signal"]), "versions": tuple(saved["versions"])}
            )
            item = _Comparison(terms, values["began_at"], LabelMatching.from_state(values["matching"]))
            item.strata.extend(decode_stratum(stratum) for stratum in values["strata"])
            item.given_up = values["given_up"]
            self._comparisons[terms.trial] = item


def _iterate_values(
    signal: ComparedSignal, rows: Sequence[LabelledRow], rewards: Sequence[RewardedAnswer]
) -> Iterator[tuple[str, float, float, float]]:
    """Yield version, answer time, label time and value of the answers that the split gave."""
    if signal is ComparedSignal.REWARD:
        yield from (
            (reward.version, reward.answered_at, reward.came_at, reward.reward) for reward in rewards if reward.by_split
        )
    else:
        yield from ((row.version, row.answered_at, row.came_at, float(not row.right)) for row in rows if row.by_split)


def decode_stratum(values: Mapping[str, Any]) -> Stratum:
    """Read a stratum from its JSON values."""
    sums = {version: (int(count), total, squares) for version, (count, total, squares) in values["sums"].items()}
    return Stratum(values["closed_s"], values["age"], sums)
