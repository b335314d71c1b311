"""Drift of the rows that this gateway counted: found, told once, and gone on with by the next control process."""

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from penstock.control.monitoring.drift.detection import FIRST_HISTORY_S, HISTORY_S, KEEP_S, DriftDetection
from penstock.control.periodic import PeriodicTask
from penstock.core.policies import MonitorPolicy
from penstock.monitor.counters.layout import Cells
from penstock.monitor.rows import RowCounter
from tests.unit.control.test_monitoring import COLUMNS, POLICY, Watcher, exchange, trained
from tests.unit.control.trials import ME, World

KEY = ("m", "1")


async def _nothing() -> None:
    """What the task of a test does."""


class Gateway:
    """A monitor with the reference of one version, and a detection beside its own that is looked with by hand."""

    def __init__(self, folder: Path) -> None:
        self.watcher = Watcher(World(folder), folder)
        self.reference = trained()
        self.watcher.give(self.reference)
        asyncio.run(self.watcher.monitoring.set_policy("m", POLICY, ME))
        self.unreadable = False
        self.file, self.history = folder / "evidence.json", folder / "history.json"
        self.detection = self.opened()

    def opened(self) -> DriftDetection:
        """As a control process has it."""
        monitoring = self.watcher.monitoring
        task = PeriodicTask("drift", _nothing, 1.0, clock=lambda: self.watcher.world.clock.now)
        return DriftDetection(
            monitoring._terms, monitoring._regions, self._read, self.file, self.history, task, self.watcher.world.clock
        )

    def _read(self, offset: int, size: int) -> list[Cells]:
        if self.unreadable:
            raise ValueError("the words cannot be read")
        return self.watcher.fleet.regions(offset, size)

    def send(self, rows: int, shift: float = 0.0) -> list[tuple[str, bool]]:
        watch = self.watcher.watch()
        for cells in self.watcher.fleet.regions(watch.offset, watch.size):
            counter = RowCounter(self.reference, cells, COLUMNS, 1.0)
            counter.count([exchange(self.watcher.generator, rows // 2, shift)])
        self.watcher.world.clock.now += 1
        return [(change.feature, change.begins) for _, change in self.detection.evaluate()]


def until_changed(gateway: Gateway, shift: float) -> list[tuple[str, bool]]:
    """What changes first while rows come, within many looks."""
    looks = (gateway.send(400, shift) for _ in range(200))
    return next(changes for changes in looks if changes)


def test_a_change_is_reported_once_and_unchanged_rows_are_not(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    assert gateway.detection.monitor(KEY) is None
    for _ in range(20):
        assert gateway.send(400) == []
    changes = until_changed(gateway, shift=1.0)
    assert changes
    assert all(begins for _, begins in changes)
    assert not set(changes) & set(gateway.send(400, 1.0))


def test_the_next_process_goes_on_where_this_one_was(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.send(400)
    until_changed(gateway, shift=1.0)
    before = gateway.detection.monitor(KEY)
    assert before is not None
    alarms, states = before.alarms, before.states()
    gateway.detection = gateway.opened()
    assert gateway.detection.evaluate() == []
    after = gateway.detection.monitor(KEY)
    assert after is not None
    assert after is not before
    assert (after.alarms, after.states()) == (alarms, states)


def test_the_next_instance_begins_its_evidence_anew_and_still_shows_what_came_before(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    for _ in range(12):
        gateway.send(400)
    until_changed(gateway, shift=1.0)
    gateway.send(400, 1.0)
    before = series_of(gateway)
    assert max(before["log_e"]) > 0
    gateway.detection.write_history()
    gateway.file.unlink()
    gateway.detection = gateway.opened()
    gateway.detection.write_history()  # it ends before its first look, and loses nothing
    gateway.detection = gateway.opened()
    gateway.send(400, 1.0)
    after = gateway.detection.monitor(KEY)
    assert after is not None and after.alarms == 0
    assert series_of(gateway)["at"][: len(before["at"])] == before["at"]
    assert series_of(gateway)["log_e"][0] == pytest.approx(before["log_e"][0], rel=1e-3)


def test_a_killed_gateway_loses_at_most_the_newer_half_of_its_history(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.send(400)
    clock = gateway.watcher.world.clock
    began, written = clock.now, []
    while clock.now < began + 3 * HISTORY_S:
        gateway.history.unlink(missing_ok=True)
        gateway.send(2)
        clock.now += 4
        if gateway.history.exists():
            written.append(clock.now - began)
    assert written[0] <= FIRST_HISTORY_S + 5
    assert all(later - sooner <= sooner + FIRST_HISTORY_S + 5 for sooner, later in pairwise(written))
    assert max(later - sooner for sooner, later in pairwise(written)) <= HISTORY_S + 5


def test_the_history_of_another_reference_or_of_a_version_that_is_gone_is_dropped(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    entry = {"model": "m", "version": "1", "digest": "sha256:other", "history": {"step_s": 5.0, "at": [1.0]}}
    gateway.history.write_text(json.dumps([entry, {**entry, "model": "gone"}]))
    gateway.detection = gateway.opened()
    gateway.send(400)
    gateway.watcher.world.clock.now += HISTORY_S
    gateway.send(400)
    assert [item["model"] for item in json.loads(gateway.history.read_text())] == ["m"]
    assert 1.0 not in series_of(gateway)["at"]
    for broken in ("", "{}", "[1]"):
        gateway.history.write_text(broken)
        assert gateway.opened().monitor(KEY) is None


def series_of(gateway: Gateway) -> dict[str, Any]:
    """The evidence over time of the first column."""
    monitor = gateway.detection.monitor(KEY)
    assert monitor is not None
    name = gateway.reference.features[0].bins.name
    column = monitor.column(name)
    assert column is not None
    series: dict[str, Any] = column["history"]
    return series


def test_evidence_is_written_down_at_every_change_and_every_few_seconds(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.send(400)  # the first look begins a series
    gateway.file.unlink()
    gateway.send(400)
    assert not gateway.file.exists()
    gateway.watcher.world.clock.now += KEEP_S
    gateway.send(400)
    assert gateway.file.exists()


def test_a_version_that_cannot_be_judged_is_reported_and_judged_again(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.unreadable = True
    assert gateway.send(400) == []
    assert "cannot be read" in gateway.detection.problem(KEY)
    gateway.unreadable = False
    for _ in range(60):
        gateway.send(400)
    assert gateway.detection.problem(KEY) == ""
    assert gateway.detection.monitor(KEY) is not None


def test_another_policy_counts_at_once_and_another_reference_begins_anew(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.send(400)
    known = gateway.detection.monitor(KEY)
    assert known is not None
    policy = MonitorPolicy(horizon_s=7.0)
    gateway.detection.update_policy("other", policy)
    assert known.policy != policy
    gateway.detection.update_policy("m", policy)
    assert known.policy == policy
    gateway.detection.forget(KEY)
    gateway.send(400)
    assert gateway.detection.monitor(KEY) is not known
