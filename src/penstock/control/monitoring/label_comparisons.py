"""Matches labels and rewards for open rollouts and experiments: what they may compare, as strata that close in time.

Times are taken from this machine's clock only, which also timed the answers, and are told as seconds since the workers
here had the weights in question: clocks of other gateways do not matter.
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
"""Strata of a trial that wait for the gateway that leads; of more, the oldest are given up."""


class Signal(StrEnum):
    """What is compared: wrong answers among those that were labelled, or rewards."""

    WRONG = "wrong"
    REWARD = "reward"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a trial compares: ``stage`` is a number of its own for each stretch whose answers are compared."""

    trial: str
    model: str
    signal: Signal
    stage: int
    versions: tuple[str, ...]


SET_BACK_S = 1.0
"""A clock that was set back by more moves the beginning along; by less, time stands still for as long."""


@dataclass(slots=True)
class _Comparison:
    """One trial's, of answers since ``began_at`` (seconds since the epoch, this machine's clock)."""

    terms: Terms
    began_at: float
    matching: LabelMatching
    strata: deque[Stratum] = field(default_factory=lambda: deque(maxlen=MOST_STRATA))
    given_up: int = 0

    def close(self, now: float) -> None:
        back_s = self.matching.closed_s - (now - self.began_at)
        if back_s > SET_BACK_S:  # else labels would wait until the clock is where it was
            self.began_at -= back_s
        closed = self.matching.close(now - self.began_at)
        self.given_up += max(0, len(self.strata) + len(closed) - MOST_STRATA)
        self.strata.extend(closed)

    def out(self) -> Document:
        strata = [asdict(one) for one in self.strata]
        kept = {"began_at": self.began_at, "matching": self.matching.export_state(), "strata": strata}
        return {"terms": asdict(self.terms), "given_up": self.given_up, **kept}


class LabelComparisons:
    """One gateway's; any thread may use it. ``clock`` is the one that answers are timed by."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._comparisons: dict[str, _Comparison] = {}

    def start(self, terms: Terms) -> None:
        """Compare answers from now on, unless the same is compared already."""
        with self._lock:
            known = self._comparisons.get(terms.trial)
            if known is None or known.terms != terms:
                self._comparisons[terms.trial] = _Comparison(terms, self._clock(), LabelMatching(terms.versions))

    def retain(self, signal: Signal, trials: Collection[str]) -> None:
        """Forget all trials of a kind but these."""
        with self._lock:
            over = [key for key, one in self._comparisons.items() if one.terms.signal is signal and key not in trials]
            for key in over:
                del self._comparisons[key]

    def take(self, model: str, rows: Sequence[LabelledRow], rewards: Sequence[RewardedAnswer]) -> None:
        """Note labels and rewards of answers that the split gave, at the age that they had when they came."""
        with self._lock:
            now = self._clock()
            for one in self._comparisons.values():
                if one.terms.model == model:
                    for version, answered_at, came_at, value in _values(one.terms.signal, rows, rewards):
                        age_s = (came_at or now) - answered_at
                        one.matching.add(version, answered_at - one.began_at, age_s, value)

    def look(self, trial: str, stage: int, known_s: float) -> Document | None:
        """What there is to compare in a stage beyond ``known_s``, for the gateway that leads; None if it is not that
        stage here."""
        with self._lock:
            one = self._comparisons.get(trial)
            if one is None or one.terms.stage != stage:
                return None
            one.close(self._clock())
            while one.strata and one.strata[0].closed_s <= known_s:
                one.strata.popleft()
            return {
                "stage": stage,
                "upto": one.matching.closed_s,
                "strata": [asdict(stratum) for stratum in one.strata],
                "waiting": one.matching.waiting(),
                "unmatched": one.matching.unmatched,
                "given_up": one.given_up,
            }

    def out(self) -> list[Document]:
        """Everything that has to outlive this process, as JSON values."""
        with self._lock:
            return [one.out() for one in self._comparisons.values()]

    def restore(self, kept: Sequence[Mapping[str, Any]]) -> None:
        """Go on with what was kept.

        Raises:
            KeyError: it is of another form (also ``TypeError`` and ``ValueError``).
        """
        for values in kept:
            said = values["terms"]
            terms = Terms(**{**said, "signal": Signal(said["signal"]), "versions": tuple(said["versions"])})
            one = _Comparison(terms, values["began_at"], LabelMatching.from_state(values["matching"]))
            one.strata.extend(stratum_in(stratum) for stratum in values["strata"])
            one.given_up = values["given_up"]
            self._comparisons[terms.trial] = one


def _values(
    signal: Signal, rows: Sequence[LabelledRow], rewards: Sequence[RewardedAnswer]
) -> Iterator[tuple[str, float, float, float]]:
    """Version, time of the answer, time of the label and value of what the split answered."""
    if signal is Signal.REWARD:
        yield from ((one.version, one.answered_at, one.came_at, one.reward) for one in rewards if one.by_split)
    else:
        yield from ((one.version, one.answered_at, one.came_at, float(not one.right)) for one in rows if one.by_split)


def stratum_in(values: Mapping[str, Any]) -> Stratum:
    """A stratum from its JSON values."""
    sums = {version: (int(count), total, squares) for version, (count, total, squares) in values["sums"].items()}
    return Stratum(values["closed_s"], values["age"], sums)
