"""The importance of features by the attributions of live rows: means by window, drift within the budget, and state."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from penstock.core.policies import MonitorPolicy
from penstock.monitor.alarm_shares import COLUMNS_SHARE, QUALITY_SHARE, SLICES_SHARE, columns_share
from penstock.monitor.attributions import LEARNED_ROWS, AttributionMonitor, AttributionSource
from penstock.monitor.drift_changes import DriftChange

NAMES = ("age", "income", "unused")
SOURCE = AttributionSource("sha256:1", NAMES, "y", "tree", "margin")
POLICY = MonitorPolicy(explained_rate=8.0)


def sizes(generator: np.random.Generator, rows: int, factor: float = 1.0) -> NDArray[np.float64]:
    """The sizes of attributions of rows: of ``age`` twice that of ``income``, and nothing of the third, up to
    rounding."""
    normal = np.abs(generator.normal(size=(rows, 3))) * np.array([2.0 * factor, 1.0, 0.0])
    return np.asarray(normal + np.array([0.0, 0.0, 1.0]) * generator.random((rows, 3)) * 1e-15, float)


def run(
    monitor: AttributionMonitor, generator: np.random.Generator, looks: int, start: float, factor: float = 1.0
) -> list[DriftChange]:
    """Look every second, at eight rows each time."""
    changes: list[DriftChange] = []
    for look in range(looks):
        monitor.take(sizes(generator, 8, factor))
        changes += monitor.evaluate(POLICY, 0.0, start + look)
    return changes


def learned(seed: int = 1) -> tuple[AttributionMonitor, np.random.Generator]:
    generator = np.random.default_rng(seed)
    monitor = AttributionMonitor(SOURCE, 0.0)
    run(monitor, generator, LEARNED_ROWS // 8, 1.0)
    assert monitor.is_learned
    return monitor, generator


def test_importance_is_the_mean_size_in_the_window_and_the_greatest_comes_first() -> None:
    monitor, generator = learned()
    run(monitor, generator, 400, 200.0, factor=0.25)
    found = monitor.document(POLICY, 0.0)
    assert [item["name"] for item in found["features"]] == ["income", "age", "unused"]
    first, second, unused = found["features"]
    assert first["importance"] == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)
    assert second["importance"] == pytest.approx(0.5 * np.sqrt(2 / np.pi), rel=0.05)
    assert second["reference"] == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.1)
    assert unused["share"] == 0.0
    assert 2300 <= found["window"]["rows"] <= 2500


def test_before_enough_rows_there_are_means_and_no_columns() -> None:
    monitor = AttributionMonitor(SOURCE, 0.0)
    assert [item["importance"] for item in monitor.document(POLICY, 0.0)["features"]] == [0.0, 0.0, 0.0]
    run(monitor, np.random.default_rng(1), 10, 1.0)
    found = monitor.document(POLICY, 0.0)
    assert (found["learned"], found["columns"]) == ({"rows": 80, "of": LEARNED_ROWS}, [])
    assert "state" not in found["features"][0] and found["features"][0]["importance"] > 0
    assert (monitor.states(), monitor.evidence(), monitor.drifting()) == ([], [], [])
    assert monitor.export_state() is None


def test_a_changed_attribution_is_a_drift_of_its_column_alone_until_it_is_over() -> None:
    monitor, generator = learned()
    assert run(monitor, generator, 30, 200.0) == []
    (change,) = run(monitor, generator, 60, 230.0, factor=0.25)
    assert (change.about, change.feature, change.begins) == ("drift", "attribution:age", True)
    assert change.evidence["log_e"] >= change.evidence["log_e_threshold"] == pytest.approx(14.509)
    assert change.evidence["since"] >= 229.0
    assert (monitor.drifting(), monitor.states()) == (["attribution:age"], [1, 0, 0])
    found = monitor.document(POLICY, 0.0)
    assert (found["drifting"], found["columns"][0]["name"]) == (1, "attribution:age")
    over = run(monitor, generator, 300, 300.0)
    assert [item.begins for item in over] == [False] and monitor.drifting() == []


def test_a_successor_goes_on_with_bins_and_evidence() -> None:
    monitor, generator = learned()
    run(monitor, generator, 3, 200.0, factor=0.25)
    saved = json.loads(json.dumps(monitor.export_state()))
    successor = AttributionMonitor.restored(saved, 203.0)
    assert successor.source == SOURCE and successor.rows == monitor.rows
    assert successor.evidence() == pytest.approx(monitor.evidence())
    following = sizes(generator, 80, 0.25)
    for item in (monitor, successor):
        item.take(following)
    assert successor.evaluate(POLICY, 0.0, 210.0)[0].feature == monitor.evaluate(POLICY, 0.0, 210.0)[0].feature
    assert successor.document(POLICY, 0.0)["window"]["rows"] == 80


def test_looks_without_rows_and_a_clock_that_was_set_back_change_nothing() -> None:
    monitor, generator = learned()
    assert monitor.evaluate(POLICY, 0.0, 200.0) == []
    assert run(monitor, generator, 3, 10.0) == []
    assert monitor.document(POLICY, 0.0)["window"]["rows"] <= monitor.rows


def test_the_parts_of_the_budget_are_never_more_than_all_of_it() -> None:
    """Expected numbers of false alarms add up: so do the shares."""
    assert columns_share(MonitorPolicy()) + QUALITY_SHARE + SLICES_SHARE == pytest.approx(1.0)
    assert columns_share(POLICY) == pytest.approx(COLUMNS_SHARE - 0.05)


def count_alarms(seeds: range, looks: int, policy: MonitorPolicy, alike: float = 0.0) -> tuple[int, int]:
    """Return the alarms and the tested rows of monitors that see no change; neighbouring rows correlate so."""
    alarms = rows = 0
    for seed in seeds:
        generator, monitor, last = np.random.default_rng(seed), AttributionMonitor(SOURCE, 0.0), np.zeros(3)
        for look in range(looks + LEARNED_ROWS // 8):
            batch = []
            for _ in range(8):
                last = alike * last + np.sqrt(1 - alike**2) * generator.normal(size=3)
                batch.append(np.abs(last) * np.array([2.0, 1.0, 0.0]))
            monitor.take(np.array(batch))
            alarms += sum(change.begins for change in monitor.evaluate(policy, alike, float(look)))
        rows += 8 * looks
    return alarms, rows


EAGER = MonitorPolicy(budget=100.0, explained_rate=8.0)
"""One alarm of attributions in 2,000 rows at most."""


def test_without_a_change_alarms_keep_to_the_budget() -> None:
    alarms, rows = count_alarms(range(3), 250, EAGER)
    assert alarms <= 2 * rows / 2000


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_over_many_references_alarms_keep_to_the_budget(alike: float) -> None:
    """30 references, 240,000 rows: at most one alarm in 2,000."""
    alarms, rows = count_alarms(range(30), 1000, EAGER, alike)
    assert alarms <= rows / 2000
