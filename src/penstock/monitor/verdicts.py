"""One version's monitor: what was counted, the detectors' evidence, the window, and what is said of it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.bins import Kind
from penstock.core.drift import (
    Detector,
    Scores,
    Standing,
    State,
    alarm,
    allowance,
    judged,
    scores,
    shares,
    thinning_of,
    watch,
)
from penstock.core.policies import MonitorPolicy
from penstock.monitor.reference import Feature, Reference
from penstock.monitor.rows import Counted, correlations

LOOKS = 60
"""Looks that a window is made of."""

UNSCORED = Scores(0, 0.0, float("inf"), 0.0, 0.0, 0.0, 0.0)
ALIKE_KEPT = 0.9
"""How much of the measured likeness of neighbours is kept from one look to the next."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that has changed: a feature that began to drift, or is over it."""

    feature: str
    drifts: bool
    evidence: Document


class VersionMonitor:
    """Watches one version against one reference; ``look`` is told what all its workers have counted."""

    def __init__(self, reference: Reference, policy: MonitorPolicy, first: Counted, now: float) -> None:
        self.reference = reference
        self.policy = policy
        self._features = reference.features
        self._shares = [shares(feature.counts) for feature in self._features]
        self._forgiven = [allowance(feature.counts) for feature in self._features]
        self._detectors = [Detector() for _ in self._features]
        self._standings = [Standing() for _ in self._features]
        self._alike = np.zeros(first.sums.shape[1])
        self._start = self._last = first
        self._window: deque[tuple[float, Counted]] = deque([(now, first)])
        self.alarms = 0

    def look(self, counted: Counted, now: float) -> list[Turn]:
        """Take what has been counted so far; what has changed by it."""
        last, self._last = self._last, counted
        rows = counted.head["counted"] - last.head["counted"]
        self._slide(counted, now)
        if rows <= 0:
            return []
        thinning = thinning_of(float(self._alike.max(initial=0.0)))  # from earlier looks only
        found = correlations(last, counted)
        self._alike = ALIKE_KEPT * self._alike + (1 - ALIKE_KEPT) * np.maximum(found, 0.0)
        self._detectors = [
            watch(one, share, forgiven, np.subtract(after, before).astype(float), thinning, now)
            for one, share, forgiven, after, before in zip(
                self._detectors, self._shares, self._forgiven, counted.counts, last.counts, strict=True
            )
        ]
        alarmed = set(alarm(self._detectors, self.policy.budget))
        since = [one.since for one in self._detectors]
        evidence = [one.log_m for one in self._detectors]
        if alarmed:
            self.alarms += 1
            self._detectors = [Detector() for _ in self._detectors]
        return self._judge(alarmed, since, evidence)

    def _slide(self, counted: Counted, now: float) -> None:
        span = self.policy.window_s
        if now - self._window[-1][0] >= span / LOOKS:
            self._window.append((now, counted))
        while len(self._window) > 1 and self._window[1][0] <= now - span:
            self._window.popleft()

    def _judge(self, alarmed: set[int], since: Sequence[float], evidence: Sequence[float]) -> list[Turn]:
        turns = []
        for index, feature in enumerate(self._features):
            before = self._standings[index]
            drifts = before.state is State.DRIFT and index not in alarmed
            found = self._score(index) if drifts else UNSCORED  # only the end of a drift depends on it
            total = sum(self._last.counts[index]) - sum(self._start.counts[index])
            after = judged(before, total, found, index in alarmed, since[index])
            self._standings[index] = after
            if (before.state is State.DRIFT) != (after.state is State.DRIFT):
                told = {**self._shown(index), "log_e": round(evidence[index], 3)}
                turns.append(Turn(feature.bins.name, after.state is State.DRIFT, told))
        return turns

    def _score(self, index: int) -> Scores:
        feature = self._features[index]
        window = np.subtract(self._last.counts[index], self._window[0][1].counts[index])
        return scores(feature.counts, window.tolist(), feature.bins.edges, feature.std)

    def document(self) -> Document:
        """The version's monitor as the admin API shows it; outputs first in what people read."""
        inputs, outputs = len(self.reference.inputs), len(self.reference.outputs)
        shown = [self._shown(index) for index in range(len(self._features))]
        head = self._last.head
        return {
            "reference": {
                "source": self.reference.source,
                "digest": self.reference.digest,
                "rows": self.reference.rows,
                "small": self.reference.is_small,
            },
            "window": {
                "seconds": self.policy.window_s,
                "rows": head["counted"] - self._window[0][1].head["counted"],
            },
            "outputs": shown[inputs : inputs + outputs],
            "features": shown[:inputs],
            "joint": shown[inputs + outputs] if len(shown) > inputs + outputs else None,
            "rows": dict(head),
            "rows_between_false_alarms": self.policy.budget,
            "thinning": round(thinning_of(float(self._alike.max(initial=0.0))), 3),
            "alarms": self.alarms,
            "quality": self._quality(),
        }

    def _shown(self, index: int) -> Document:
        feature, found, standing = self._features[index], self._score(index), self._standings[index]
        counts = np.subtract(self._last.counts[index], self._window[0][1].counts[index]).tolist()
        bins, labels = feature.bins, feature.bins.labels()
        log_m = self._detectors[index].log_m
        return {
            "name": bins.name,
            "kind": bins.kind.value,
            "state": standing.state.value,
            "since": standing.since or None,
            "log_e": round(max(0.0, log_m), 3),
            "psi": round(found.psi, 6),
            "psi_threshold": round(found.psi_threshold, 6) if np.isfinite(found.psi_threshold) else None,
            "js": round(found.js, 6),
            "hellinger": round(found.hellinger, 6),
            "ks": round(found.ks, 6),
            "wasserstein": round(found.wasserstein, 6),
            "rows": int(sum(counts)),
            "missing": int(counts[bins.missing]),
            "out_of_range": int(sum(counts[place] for place in bins.out_of_range)),
            "infinite": int(sum(counts[place] for place in bins.infinite)),
            "unseen": int(sum(counts[place] for place in bins.unseen)),
            "moved": [{"bin": labels[place], "change": round(change, 4)} for place, change in found.moved],
            "bins": labels,
            "counts": counts,
            "reference_counts": list(feature.counts),
        }

    def _quality(self) -> Document:
        """Rows of the window that were not sound, by what was wrong with them."""
        base = self._window[0][1]
        wrong = {"missing": 0, "non_finite": 0, "out_of_range": 0, "unseen": 0}
        rows = 0
        for feature, counts, before in zip(self._features, self._last.counts, base.counts, strict=True):
            if feature not in self.reference.inputs:
                continue
            for kind, number in violations(feature, np.subtract(counts, before).tolist()).items():
                wrong[kind] += number
            rows = max(rows, sum(counts) - sum(before))
        return {"rows": rows, "violations": wrong, "odd_requests": self._last.head["odd"] - base.head["odd"]}

    def totals(self, most: int) -> list[tuple[Feature, tuple[int, ...], Standing, Scores, float]]:
        """Each feature with all that was counted of it, for metrics: outputs first, so many at most."""
        inputs = len(self.reference.inputs)
        order = [*range(inputs, len(self._features)), *range(inputs)][:most]
        return [
            (
                self._features[index],
                self._last.counts[index],
                self._standings[index],
                self._score(index),
                max(0.0, self._detectors[index].log_m),
            )
            for index in order
        ]

    @property
    def head(self) -> dict[str, int]:
        """Rows seen, counted, dropped, and requests that were not as expected."""
        return dict(self._last.head)


def violations(feature: Feature, counts: Sequence[int]) -> dict[str, int]:
    """How many values of a feature were not sound, by what was wrong with them."""
    bins = feature.bins
    return {
        "missing": counts[bins.missing],
        "non_finite": sum(counts[place] for place in bins.infinite),
        "out_of_range": sum(counts[place] for place in bins.out_of_range),
        "unseen": sum(counts[place] for place in bins.unseen) if bins.kind is Kind.CATEGORICAL else 0,
    }
