"""Series of a version: they go on over references and processes, and end with the version."""

from penstock.control.monitoring.drift.series import MonitorSeries
from penstock.core.policies import MonitorPolicy
from penstock.monitor.rows import RegionCounts
from penstock.monitor.verdicts import VersionMonitor
from tests.unit.control.test_monitoring import trained

KEY = ("m", "1")


def monitor() -> VersionMonitor:
    reference = trained(rows=2000)
    return VersionMonitor(reference, MonitorPolicy(), RegionCounts.of(reference, []), 0.0)


def test_one_monitor_has_one_series_and_another_carries_on() -> None:
    series = MonitorSeries({})
    first = monitor()
    known = series.of(KEY, first)
    assert series.of(KEY, first) is known
    assert series.is_unsaved
    series.is_unsaved = False
    assert series.of(KEY, first) is known
    assert not series.is_unsaved
    after = series.of(KEY, monitor())
    assert after is not known
    assert series.is_unsaved
    assert series.before(KEY) == known.carried()


def test_what_the_process_before_carried_is_where_counters_begin() -> None:
    first = MonitorSeries({})
    first.of(KEY, monitor())
    carried = first.of(KEY, monitor()).carried()
    second = MonitorSeries({KEY: carried})
    assert second.before(KEY) == carried
    second.of(KEY, monitor())
    assert second.before(KEY) == carried
    second.retain([])
    assert second.before(KEY) == {}
