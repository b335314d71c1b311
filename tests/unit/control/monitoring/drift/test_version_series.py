"""The metrics of one version's monitor: one series for each column and bin, and counters that never fall."""

import json
from pathlib import Path

import numpy as np

from penstock.control.monitoring.drift.evidence_file import read_evidence
from penstock.control.monitoring.drift.version_series import (
    MOST_MEASURED,
    Carried,
    VersionSeries,
    decode_carried,
    encode_carried,
)
from penstock.core.policies import MonitorPolicy
from penstock.monitor.counters.layout import Cells
from penstock.monitor.reference import Reference
from penstock.monitor.rows import RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor
from penstock.telemetry import metrics
from penstock.telemetry.metric import Metric, MetricType
from penstock.telemetry.readings import PointBatch
from tests.unit.control.test_monitoring import COLUMNS, exchange, trained

KEY = ("m", "1")


class World:
    """A monitor, and the words that it reads."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.cells: Cells = np.zeros(RegionLayout.of(reference).size, np.uint64)
        self.monitor = VersionMonitor(reference, MonitorPolicy(), self._counted(), 0.0)

    def _counted(self) -> RegionCounts:
        return RegionCounts.of(self.reference, [self.cells])

    def count(self, rows: int) -> None:
        RowCounter(self.reference, self.cells, COLUMNS, 1.0).count([exchange(np.random.default_rng(1), rows)])
        self.monitor.evaluate(self._counted(), 1.0)

    def series(self, carried: Carried | None = None) -> VersionSeries:
        return VersionSeries(KEY, self.monitor, carried)


def reported(series: VersionSeries, metric: Metric) -> dict[tuple[str, ...], float]:
    """The values of one metric by what follows the version in their labels."""
    [found] = [reading for reading in series.readings() if reading.metric is metric and isinstance(reading, PointBatch)]
    assert all(labels[:2] == KEY for labels in found.labels)
    return {labels[2:]: value for labels, value in zip(found.labels, found.values, strict=True)}


def test_rows_are_reported_by_column_and_bin() -> None:
    world = World(trained(rows=2000))
    series = world.series()
    assert set(reported(series, metrics.FEATURE_BINS).values()) == {0}
    world.count(40)
    bins = reported(series, metrics.FEATURE_BINS)
    columns = {name for name, _ in bins}
    assert columns == {feature.bins.name for feature in world.reference.inputs}
    assert {sum(count for (name, _), count in bins.items() if name == column) for column in columns} == {40}
    assert reported(series, metrics.MONITOR_ROWS) == {(): 40}
    assert max(reported(series, metrics.FEATURE_BELOW).values()) == 40
    assert set(reported(series, metrics.DRIFT_STATE).values()) == {0}
    assert len({reading.metric for reading in series.readings()}) == len(list(series.readings()))


def test_counters_go_on_where_those_of_the_reference_before_ended_and_shares_do_not() -> None:
    before = World(trained(rows=2000))
    before.count(40)
    carried = decode_carried(encode_carried(before.series().carried()))
    after = World(trained(seed=5, rows=2000))
    series = after.series(carried)
    assert series.before == carried
    assert reported(series, metrics.MONITOR_ROWS) == {(): 40}
    after.count(10)
    assert reported(series, metrics.MONITOR_ROWS) == {(): 50}
    names = {metric for metric, _ in carried}
    kinds = {reading.metric.name: reading.metric.kind for reading in series.readings()}
    assert {kinds[name] for name in names} == {MetricType.COUNTER}
    now = series.carried()
    common = carried.keys() & now.keys()  # the other reference has other bins
    assert ("monitor_rows_total", KEY) in common
    assert all(now[key] >= carried[key] for key in common)


def test_the_verdict_of_all_gateways_takes_the_place_of_this_ones() -> None:
    world = World(trained(rows=2000))
    series = world.series()
    name = world.reference.inputs[0].bins.name
    series.summary = {"columns": {name: ("drift", 12.5)}, "alarms": 3}
    states, evidence = reported(series, metrics.DRIFT_STATE), reported(series, metrics.DRIFT_LOG_EVIDENCE)
    assert {column for (column,), state in states.items() if state} == {name}
    assert evidence[name,] == 12.5
    assert reported(series, metrics.DRIFT_ALARMS) == {(): 3}


def test_only_so_many_columns_are_reported() -> None:
    world = World(trained(rows=2000))
    assert len(reported(world.series(), metrics.DRIFT_STATE)) == len(world.reference.features) <= MOST_MEASURED


def test_evidence_of_a_release_without_events_is_read(tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps([{"model": "m", "version": "1", "digest": "d", "evidence": {"x": 1.5}}]))
    found = read_evidence(file)
    assert (set(found.versions), found.events) == ({KEY}, ())
    assert found.versions[KEY].digest == "d"
