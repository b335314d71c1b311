"""From what gateways have counted to the next batch of a trial's evidence: pure functions over plain values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.control.monitoring.label_comparisons import stratum_in
from penstock.core.label_matching import Stratum
from penstock.core.rollouts.guard_evidence import EvidenceBatch, LabelledCounts
from penstock.monitor.counters.layout import OUTPUTS
from penstock.monitor.counters.totals import Totals
from penstock.monitor.outputs import NOT_FINITE

Document = Mapping[str, Any]
Arm = dict[str, Any]
Observation = dict[str, Any]

COUNTED = ("errors", "requests", "latency", "runs")
"""Counts of an arm that differences are taken of, beside its outputs."""

NOT_CONVERGED = -1
"""The stage of a gateway whose workers do not all have the present weights yet."""


def arm_counts(totals: Totals, outputs: int) -> Arm:
    """What a version did on the split's requests; ``outputs`` is how many of its outputs are counted."""
    bad, good = totals.split_outcomes()
    return {
        "errors": [bad, good],
        "requests": [totals.split_requests()],
        "latency": totals.split_latency(),
        "runs": totals.split_runs(),
        "outputs": [totals.output_bins(index) for index in range(min(outputs, OUTPUTS))],
    }


def shadow_pairs(totals: Totals) -> list[float]:
    """A shadow's pairs that differ, and the others."""
    shadow = totals.shadow()
    return [shadow["disagreements"], shadow["pairs"] - shadow["disagreements"]]


@dataclass(frozen=True, slots=True)
class EvidenceStep:
    """The difference between two looks: what canary and control did, and each one's requests."""

    batch: EvidenceBatch
    requests: tuple[int, int]

    @property
    def empty(self) -> bool:
        """Whether nothing happened that a guard could use."""
        batch = self.batch
        return not any(self.requests) and not sum(batch.disagreements) and not batch.labelled and not batch.values


def evidence_step(
    before: Mapping[str, Document],
    now: Mapping[str, Document],
    stage: int,
    versions: tuple[str, str] = ("", ""),
    sticky: bool = False,
) -> EvidenceStep:
    """What the gateways' workers did between two looks under the weights of ``stage``, over all gateways; ``versions``
    are the canary and the control, ``sticky`` says that units are split and not requests.

    A gateway counts only where both looks are of this stage; one whose counters began anew counts from the next look.
    """
    differences = [
        found
        for gateway, later in now.items()
        if later["stage"] == stage and (earlier := before.get(gateway)) is not None and earlier["stage"] == stage
        if (found := _difference(earlier, later)) is not None
    ]
    canary = _total([one["canary"] for one in differences])
    control = _total([one["control"] for one in differences])
    agreed = _sums([one["pairs"] for one in differences]) or [0, 0]
    batch = EvidenceBatch(
        errors=(canary["errors"], control["errors"]),
        latency=(canary["latency"], control["latency"]),
        runs=(canary["runs"], control["runs"]),
        outputs=_first_output(canary, control),
        quality=(_not_finite(canary), _not_finite(control)),
        labelled=_labelled(before, now, stage, versions),
        disagreements=agreed,
        copies=len(differences) if sticky else 0,
    )
    return EvidenceStep(batch, (int(sum(canary["requests"])), int(sum(control["requests"]))))


def last_of_stage(
    before: Mapping[str, Observation], now: Mapping[str, Observation], stage: int
) -> dict[str, Observation]:
    """The looks that the next step begins from: each gateway's last one of this stage.

    So a gateway whose control process or worker is replaced loses nothing of what was counted meanwhile.
    """
    return {
        gateway: without_strata(look)
        for looks in (before, now)
        for gateway, look in looks.items()
        if look["stage"] == stage
    }


def stages_of(looks: Mapping[str, Document]) -> dict[str, int]:
    """The stage of each gateway's look."""
    return {gateway: look["stage"] for gateway, look in looks.items()}


def without_strata(look: Observation) -> Observation:
    """A look as it is remembered: until when its labels are known, and not what they said."""
    labels = look.get("labels")
    return look if labels is None else {**look, "labels": {**labels, "strata": []}}


def known_until(look: Document | None, stage: int) -> float:
    """Until when the labels of a stage are known, in seconds since a gateway had its weights."""
    labels = None if look is None else look.get("labels")
    return labels["upto"] if labels is not None and labels["stage"] == stage else -1.0


def new_strata(before: Mapping[str, Document], now: Mapping[str, Document], stage: int) -> list[Stratum]:
    """The strata of labels of a stage that have closed between two looks, over all gateways; a stratum belongs to one
    gateway, which joins the labels of its own answers."""
    found = []
    for gateway, look in sorted(now.items()):
        known_s, labels = known_until(before.get(gateway), stage), look.get("labels")
        if labels is not None and labels["stage"] == stage:
            found += [stratum_in(one) for one in labels["strata"] if one["closed_s"] > known_s]
    return found


def waiting_labels_out(looks: Mapping[str, Document]) -> dict[str, Any]:
    """Labels that are no evidence yet, over all gateways, as people are shown them: how many of each version wait for
    those of the others or for their time, and how many found none."""
    known = [labels for look in looks.values() if (labels := look.get("labels")) is not None]
    waiting: Counter[str] = Counter()
    for labels in known:
        waiting.update(labels["waiting"])
    return {"waiting": dict(waiting), "unmatched": sum(labels["unmatched"] for labels in known)}


def _labelled(
    before: Mapping[str, Document], now: Mapping[str, Document], stage: int, versions: tuple[str, str]
) -> tuple[LabelledCounts, ...]:
    current = {gateway: look for gateway, look in now.items() if look["stage"] == stage}
    strata = new_strata(before, current, stage)
    return tuple(LabelledCounts(one.age, *(_wrong_and_right(one, version) for version in versions)) for one in strata)


def _wrong_and_right(stratum: Stratum, version: str) -> tuple[float, float]:
    count, wrong, _ = stratum.sums[version]
    return wrong, count - wrong


def _first_output(canary: Arm, control: Arm) -> tuple[Sequence[float], Sequence[float]]:
    if not canary["outputs"] or not control["outputs"]:
        return (), ()
    return canary["outputs"][0], control["outputs"][0]


def _not_finite(one: Arm) -> tuple[float, float]:
    """Rows of the last counted output (scores, where the first is a label) that were not finite, and the others."""
    if not one["outputs"]:
        return 0, 0
    bins = one["outputs"][-1]
    return bins[NOT_FINITE], sum(bins) - bins[NOT_FINITE]


def _difference(before: Document, now: Document) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for side in ("canary", "control"):
        old, new = before[side], now[side]
        numbers = {name: _minus(new[name], old[name]) for name in COUNTED}
        outputs = [_minus(later, earlier) for later, earlier in zip(new["outputs"], old["outputs"], strict=False)]
        if any(value < 0 for values in (*numbers.values(), *outputs) for value in values):
            return None
        found[side] = {**numbers, "outputs": outputs}
    found["pairs"] = _minus(now["pairs"], before["pairs"])
    return None if min(found["pairs"]) < 0 else found


def _minus(now: Sequence[float], before: Sequence[float]) -> list[float]:
    return [later - earlier for later, earlier in zip(now, before, strict=True)]


def _total(arms: Sequence[Arm]) -> Arm:
    total: Arm = {name: _sums([one[name] for one in arms]) for name in COUNTED}
    total["errors"] = total["errors"] or [0, 0]
    many = min((len(one["outputs"]) for one in arms), default=0)
    total["outputs"] = [_sums([one["outputs"][index] for one in arms]) for index in range(many)]
    return total


def _sums(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]
