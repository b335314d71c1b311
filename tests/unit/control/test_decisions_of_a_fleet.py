"""The same requests, at one gateway or dealt out over three, are the same evidence: of a rollout, of drift and of what
retraining rules rest on. Decisions are functions of that evidence."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.control.delivery.observations import (
    EvidenceStep,
    Observation,
    arm_counts,
    find_evidence_step,
    last_of_stage,
    shadow_pairs,
)
from penstock.control.monitoring.fleet_evidence import region_counts
from penstock.control.monitoring.fleet_performance import FleetPerformance
from penstock.control.monitoring.label_batches import pack_rows
from penstock.control.monitoring.publication import CountsLayout, VersionCounts, layout_id, pack_counts, sum_published
from penstock.control.monitoring.version_document import version_document
from penstock.core.labels import OUTCOME_INDEX, PROTOCOL_NAMES, Route
from penstock.core.policies import MonitorPolicy
from penstock.monitor.answers import CLASS
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.performance import NO_LABELS
from penstock.monitor.rows import RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document
from penstock.registry.stores.evidence import LabelBatch
from tests.budgets import examples
from tests.counted import count_success
from tests.unit.control.test_monitoring import COLUMNS, exchange, trained

KEY = ("m", "1")
POLICY = MonitorPolicy(window_s=60, budget=10_000)
REFERENCE = trained(rows=4000)
SHAPE = CountsLayout(layout_id(REFERENCE.digest, ()), RegionLayout.of(REFERENCE))
CONTROL, CANARY = 1, 2
OBJECTIVES = {"latency_p99_ms": 20.0}

requests = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([CONTROL, CANARY]), st.booleans(), st.sampled_from([1, 3, 50, 900])),
    max_size=60,
)
"""Each at one of three gateways: the version, whether it was answered, and how long it took (ms)."""


class Gateways:
    """So many gateways: what their workers count of requests and of rows."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.slots = [Slot.in_process() for _ in range(number)]
        self.cells = [[np.zeros(SHAPE.size, np.uint64) for _ in range(3 // number)] for _ in range(number)]

    def answer(self, at: int, version: int, is_good: bool, ms: int) -> None:
        canary = version == CANARY
        block = self.slots[at % self.number].block(version)
        series = (Route.CANARY if canary else Route.STABLE) * len(PROTOCOL_NAMES)
        if is_good:
            count_success(block, series, 1, ms * 1_000_000, 1000, 0, ms * 500_000, 1000)
        else:
            block.count_failure(series, OUTCOME_INDEX["internal"], ms * 1_000_000, attributed=True)

    def count(self, worker: int, rows: int, shift: float, seed: int) -> None:
        """Rows at one of three workers, of which each gateway has its part."""
        cells = [item for gateway in self.cells for item in gateway][worker]
        RowCounter(REFERENCE, cells, COLUMNS, 1.0).count([exchange(np.random.default_rng(seed), rows, shift)])

    def looks(self) -> dict[str, Observation]:
        """What each tells of a trial."""
        found = {}
        for name, slot in enumerate(self.slots):
            canary, control = Totals.of([slot], CANARY), Totals.of([slot], CONTROL)
            found[str(name)] = {
                "stage": 7,
                "canary": arm_counts(canary, 1),
                "control": arm_counts(control, 1),
                "pairs": shadow_pairs(canary),
            }
        return found

    def sum(self) -> VersionCounts:
        """What the gateway that leads makes of what all have published."""
        published = []
        for name, (slot, cells) in enumerate(zip(self.slots, self.cells, strict=True)):
            counted = RegionCounts.of(REFERENCE, cells)
            counts = VersionCounts(SHAPE, counted.cells, counted.workers, Totals.of([slot], CONTROL).cells)
            published.append(pack_counts(KEY, str(name), counts))
        return sum_published(published, {KEY: SHAPE})[KEY]


@given(st.lists(requests, min_size=1, max_size=3))
def test_a_rollout_sees_the_same_of_one_gateway_and_of_three(stretches: list[list[tuple[int, int, bool, int]]]) -> None:
    found: list[list[EvidenceStep]] = []
    for gateways in (Gateways(1), Gateways(3)):
        before, steps = gateways.looks(), []
        for stretch in stretches:
            for request in stretch:
                gateways.answer(*request)
            now = gateways.looks()
            steps.append(find_evidence_step(before, now, 7))
            before = last_of_stage(before, now, 7)
        found.append(steps)
    assert found[0] == found[1]
    assert sum(sum(item.requests) for item in found[1]) == sum(map(len, stretches))


@pytest.mark.simulation
@settings(max_examples=examples(100))
@example([([(0, 3), (0, 80), (0, 80)], 0.0), ([(0, 61), (1, 80)], 0.0)], [])  # two of three gateways have no rows
@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 80)), max_size=6), st.sampled_from([0.0, 0.8])),
        min_size=2,
        max_size=8,
    ),
    requests,
)
def test_rules_see_the_same_of_one_gateway_and_of_three(
    looks: list[tuple[list[tuple[int, int]], float]], asked: list[tuple[int, int, bool, int]]
) -> None:
    """Drift, quality, latencies and objectives, to the digit; and the changes that are told."""
    found: list[list[object]] = []
    for gateways in (Gateways(1), Gateways(3)):
        for request in asked:
            gateways.answer(*request)
        monitor = VersionMonitor(REFERENCE, POLICY, region_counts(REFERENCE, POLICY, gateways.sum()), 0.0)
        reported: list[object] = []
        for number, (parts, shift) in enumerate(looks, 1):
            for index, (worker, rows) in enumerate(parts):
                gateways.count(worker, rows, shift, 10 * number + index)
            counts = gateways.sum()
            reported += monitor.evaluate(region_counts(REFERENCE, POLICY, counts), number * 5.0)
            reported.append(_shown(monitor, counts))
        found.append(reported)
    assert _first_difference(found[0], found[1]) is None


def _first_difference(first: object, second: object, at: str = "") -> str | None:
    """Where two documents are not the same: a comparison of all of both, as a failed assertion makes it, takes
    gigabytes."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return next(filter(None, (_first_difference(first[key], second[key], f"{at}.{key}") for key in first)), None)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        both = enumerate(zip(first, second, strict=True))
        return next(filter(None, (_first_difference(*pair, f"{at}[{index}]") for index, pair in both)), None)
    return None if first == second else f"{at}: {first!r:.200}, {second!r:.200}"


def _shown(monitor: VersionMonitor, counts: VersionCounts) -> Document:
    return version_document(monitor, counts.totals, NO_LABELS, OBJECTIVES, {})


@pytest.mark.simulation
@settings(max_examples=examples(50))
@given(st.lists(st.sampled_from([0.02, 0.5]), min_size=2, max_size=5), st.integers(0, 99))
def test_performance_is_the_same_of_one_gateway_and_of_three(wrong: list[float], seed: int) -> None:
    """Labels come at any gateway: accuracy, and the changes that are told as ``performance.degraded``."""
    found = []
    for gateways in (1, 3):
        generator, performance, reported, seq = np.random.default_rng(seed), FleetPerformance(), [], 0
        for number, share in enumerate(wrong):
            rows: list[list[LabelledRow]] = [[] for _ in range(gateways)]
            for at in range(300):
                is_right, where = float(generator.random() >= share), int(generator.integers(3))
                row = LabelledRow("1", CLASS, 1.0, (), is_right, 300.0 * number + at, 300.0 * number + at - 1, True)
                rows[where % gateways].append(row)
            batches = []
            for index, part in enumerate(rows):
                seq += 1
                batches.append(LabelBatch(seq, str(seq), *KEY, str(index), len(part), pack_rows(part)))
            reported += performance.learn(batches, None, POLICY, 60.0 * number)
        found.append((reported, performance.document))
    assert found[0] == found[1]
