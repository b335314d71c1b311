"""Columns that are watched together: one drift for one change, batches after a gap, and what outlives a process."""

import json

import numpy as np
import pytest

from penstock.core.policies import MonitorPolicy
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.column_panel import ColumnChange, ColumnPanel, EvaluationTerms
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.reference import TRAINING, Reference
from penstock.monitor.reference_builder import build
from penstock.monitor.rows import RegionCounts, RegionLayout, RowCounter
from penstock.monitor.threshold_widening import widening_reasons
from penstock.monitor.verdicts import VersionMonitor

USUAL = [np.full(10, 1000.0), np.full(10, 1000.0)]
LOOK = EvaluationTerms(1.0, 1.0, 100_000.0)


def highest_evidence(daily: float) -> float:
    """Of two columns after 400 rows like the reference in 400 seconds, by a policy of so many false alarms a day."""
    generator = np.random.default_rng(5)
    sides = input_columns([TensorSpec("x", "FP64", (-1, 2))], True), output_columns((), True)
    given = sides[0]([Tensor("x", "FP64", generator.standard_normal((1000, 2)))])
    assert given is not None
    reference = build(([*sides[0].numbers], []), given, None, TRAINING)
    cells = np.zeros(RegionLayout.of(reference).size, np.uint64)
    counter = RowCounter(reference, cells, sides, 1.0)
    monitor = VersionMonitor(reference, MonitorPolicy(daily=daily), RegionCounts.of(reference, [cells]), 0.0)
    for now in range(50, 401, 50):
        counter.count([([Tensor("x", "FP64", generator.standard_normal((50, 2)))], [])])
        monitor.evaluate(RegionCounts.of(reference, [cells]), float(now))
    return float(monitor._drift.detector.log_m.max())


def batch(rows: int, moved: float) -> list[np.ndarray]:
    shares = np.full(10, 0.1) + moved * np.linspace(-0.1, 0.1, 10)
    return [shares * rows, np.full(10, rows / 10)]


@pytest.mark.parametrize("rows", [2000, 20_000])
def test_the_first_batch_after_a_gap_is_evidence(rows: int) -> None:
    """What came while nobody looked is one batch, and its rows teach about each other."""
    panel = ColumnPanel(USUAL, [0.007, 0.007])
    assert panel.evaluate(batch(200, 0.0), LOOK) == []
    assert [(change.index, change.begins) for change in panel.evaluate(batch(rows, 0.8), LOOK)] == [(0, True)]
    tolerant = ColumnPanel(USUAL, [0.007, 0.007])
    assert tolerant.evaluate(batch(rows, 0.0), LOOK) == []


def test_a_successor_goes_on_with_drifts_and_the_evidence_that_they_are_over() -> None:
    panel = ColumnPanel(USUAL, [0.007, 0.007])
    panel.evaluate(batch(2000, 0.8), LOOK)
    for _ in range(8):
        assert panel.evaluate(batch(50, 0.0), LOOK) == []
    successor = ColumnPanel(USUAL, [0.007, 0.007])
    successor.restore_state(json.loads(json.dumps(panel.export_state())))
    assert successor.changed() == [0]
    found: list[list[ColumnChange]] = [[], []]
    for _ in range(100):
        found = [item.evaluate(batch(50, 0.0), LOOK) for item in (panel, successor)]
        if found[0]:
            break
    assert [item.begins for item in found[1]] == [False]


def test_false_alarms_a_day_bound_where_changes_may_begin() -> None:
    """At 50 rows in 50 seconds one alarm a day asks for more evidence than one in 100,000 rows does."""
    evidence = [highest_evidence(daily) for daily in (0.0, 1e6, 0.01)]
    assert evidence[1] == pytest.approx(evidence[0])
    assert evidence[2] == pytest.approx(evidence[0] + np.log(0.01 / 86_400 * 100_000), abs=1e-6)


def test_what_makes_thresholds_wider_is_said() -> None:
    small, large = Reference("training", 300, (), ()), Reference("training", 50_000, (), ())
    assert "300 rows" in widening_reasons(small, [0.05], [0.0], 1.0)[0]["why"]
    assert "19.0 of them" in widening_reasons(large, [0.001], [0.0], 19.0)[0]["why"]
    assert "differ" in widening_reasons(large, [0.001], [0.1], 1.0)[0]["why"]
    assert widening_reasons(large, [0.001], [0.0], 1.0) == []
