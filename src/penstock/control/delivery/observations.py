"""Turns the observations of gateways into the next batch of a trial's evidence: pure functions over plain values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.control.monitoring.label_comparisons import decode_stratum
from penstock.core.label_matching import Stratum
from penstock.core.rollouts.guard_evidence import EvidenceBatch, LabelledCounts
from penstock.monitor.counters.layout import OUTPUTS
from penstock.monitor.counters.totals import Totals
from penstock.monitor.outputs import NOT_FINITE

Document = Mapping[str, Any]
Arm = dict[str, Any]
Observation = dict[str, Any]

COUNTED = ("errors", "requests", "latency", "runs")
"""Counts of an arm to take differences of, in addition to its outputs."""

NOT_CONVERGED = -1
"""The stage of a gateway whose workers do not all have the present weights yet."""


def arm_counts(totals: Totals, outputs: int) -> Arm:
    """Return a version's counts on the split's requests; ``outputs`` is the number of its counted outputs."""
    bad, good = totals.split_outcomes()
    return {
        "errors": [bad, good],
        "requests": [totals.split_requests()],
        "latency": totals.split_latency(),
        "runs": totals.split_runs(),
        "outputs": [totals.output_bins(index) for index in range(min(outputs, OUTPUTS))],
    }


def shadow_pairs(totals: Totals) -> list[float]:
    """Return a shadow's pairs that differ, and the others."""
    shadow = totals.shadow()
    return [shadow["disagreements"], shadow["pairs"] - shadow["disagreements"]]


@dataclass(frozen=True, slots=True)
class EvidenceStep:
    """The difference between two observations: the counts of canary and control, and the requests of each."""

    batch: EvidenceBatch
    requests: tuple[int, int]

    @property
    def empty(self) -> bool:
        """Whether no guard could use it."""
        batch = self.batch
        return not any(self.requests) and not sum(batch.disagreements) and not batch.labelled and not batch.values


def find_evidence_step(
    before: Mapping[str, Document],
    now: Mapping[str, Document],
    stage: int,
    versions: tuple[str, str] = ("", ""),
    sticky: bool = False,
) -> EvidenceStep:
    """Return what the workers of all gateways did between two observations under the weights of ``stage``; ``versions``
    are the canary and the control, ``sticky`` says that units are split and not requests.

    A gateway counts only if both of its observations are of this stage. If its counters were reset, it counts from its
    next observation.
    """
    differences = [
        difference
        for gateway, later in now.items()
        if later["stage"] == stage and (earlier := before.get(gateway)) is not None and earlier["stage"] == stage
        if (difference := _subtract(earlier, later)) is not None
    ]
    canary = _total([difference["canary"] for difference in differences])
    control = _total([difference["control"] for difference in differences])
    agreed = _sum_rows([difference["pairs"] for difference in differences]) or [0, 0]
    batch = EvidenceBatch(
        errors=(canary["errors"], control["errors"]),
        latency=(canary["latency"], control["latency"]),
        runs=(canary["runs"], control["runs"]),
        outputs=_first_output(canary, control),
        quality=(_not_finite(canary), _not_finite(control)),
        labelled=_count_labelled(before, now, stage, versions),
        disagreements=agreed,
        copies=len(differences) if sticky else 0,
    )
    return EvidenceStep(batch, (int(sum(canary["requests"])), int(sum(control["requests"]))))


def last_of_stage(
    before: Mapping[str, Observation], now: Mapping[str, Observation], stage: int
) -> dict[str, Observation]:
    """Return each gateway's last observation of this stage, from which the next step begins.

    So nothing is lost when a gateway's control process or a worker is replaced.
    """
    return {
        gateway: without_strata(observation)
        for observed in (before, now)
        for gateway, observation in observed.items()
        if observation["stage"] == stage
    }


def stages_of(observed: Mapping[str, Document]) -> dict[str, int]:
    """Return the stage of each gateway's observation."""
    return {gateway: observation["stage"] for gateway, observation in observed.items()}


def without_strata(observation: Observation) -> Observation:
    """Return an observation as it is stored: with the time until which its labels are known, without the labels."""
    labels = observation.get("labels")
    return observation if labels is None else {**observation, "labels": {**labels, "strata": []}}


def known_until(observation: Document | None, stage: int) -> float:
    """Return until when the labels of a stage are known, in seconds since a gateway had its weights."""
    labels = None if observation is None else observation.get("labels")
    return labels["upto"] if labels is not None and labels["stage"] == stage else -1.0


def new_strata(before: Mapping[str, Document], now: Mapping[str, Document], stage: int) -> list[Stratum]:
    """Return the strata of a stage that closed between two observations, over all gateways; a stratum belongs to one
    gateway, which joins the labels of its own answers."""
    strata = []
    for gateway, observation in sorted(now.items()):
        known_s, labels = known_until(before.get(gateway), stage), observation.get("labels")
        if labels is not None and labels["stage"] == stage:
            strata += [decode_stratum(stratum) for stratum in labels["strata"] if stratum["closed_s"] > known_s]
    return strata


def describe_waiting_labels(observed: Mapping[str, Document]) -> dict[str, Any]:
    """Return the labels that are not evidence yet, over all gateways: how many of each version wait for those of the
    others or for their time, and how many found none.
    """
    reported = [labels for observation in observed.values() if (labels := observation.get("labels")) is not None]
    waiting: Counter[str] = Counter()
    for labels in reported:
        waiting.update(labels["waiting"])
    return {"waiting": dict(waiting), "unmatched": sum(labels["unmatched"] for labels in reported)}


def _count_labelled(
    before: Mapping[str, Document], now: Mapping[str, Document], stage: int, versions: tuple[str, str]
) -> tuple[LabelledCounts, ...]:
    current = {gateway: observation for gateway, observation in now.items() if observation["stage"] == stage}
    strata = new_strata(before, current, stage)
    return tuple(
        LabelledCounts(stratum.age, *(_wrong_and_right(stratum, version) for version in versions)) for stratum in strata
    )


def _wrong_and_right(stratum: Stratum, version: str) -> tuple[float, float]:
    count, wrong, _ = stratum.sums[version]
    return wrong, count - wrong


def _first_output(canary: Arm, control: Arm) -> tuple[Sequence[float], Sequence[float]]:
    if not canary["outputs"] or not control["outputs"]:
        return (), ()
    return canary["outputs"][0], control["outputs"][0]


def _not_finite(arm: Arm) -> tuple[float, float]:
    """Return the rows of the last counted output (the scores, if the first is a label) that were not finite, and the
    others.
    """
    if not arm["outputs"]:
        return 0, 0
    bins = arm["outputs"][-1]
    return bins[NOT_FINITE], sum(bins) - bins[NOT_FINITE]


def _subtract(before: Document, now: Document) -> dict[str, Any] | None:
    difference: dict[str, Any] = {}
    for side in ("canary", "control"):
        old, new = before[side], now[side]
        numbers = {name: _diff_counts(new[name], old[name]) for name in COUNTED}
        outputs = [_diff_counts(later, earlier) for later, earlier in zip(new["outputs"], old["outputs"], strict=False)]
        if any(value < 0 for values in (*numbers.values(), *outputs) for value in values):
            return None
        difference[side] = {**numbers, "outputs": outputs}
    difference["pairs"] = _diff_counts(now["pairs"], before["pairs"])
    return None if min(difference["pairs"]) < 0 else difference


def _diff_counts(now: Sequence[float], before: Sequence[float]) -> list[float]:
    return [later - earlier for later, earlier in zip(now, before, strict=True)]


def _total(arms: Sequence[Arm]) -> Arm:
    total: Arm = {name: _sum_rows([arm[name] for arm in arms]) for name in COUNTED}
    total["errors"] = total["errors"] or [0, 0]
    many = min((len(arm["outputs"]) for arm in arms), default=0)
    total["outputs"] = [_sum_rows([arm["outputs"][index] for arm in arms]) for index in range(many)]
    return total


def _sum_rows(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]
