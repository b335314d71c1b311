"""Labels of all gateways: in whatever batches they come they teach once, and the next leader tells nothing again."""

from collections.abc import Sequence

import numpy as np
import pytest

from penstock.control.monitoring.fleet_performance import FleetPerformance
from penstock.control.monitoring.label_batches import pack_rows
from penstock.core.policies import MonitorPolicy
from penstock.monitor.answers import CLASS
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.performance import PerformanceChange
from penstock.registry.stores.evidence import LabelBatch

POLICY = MonitorPolicy()
LOOK_S = 60.0
EACH = 200
"""Labels between two looks."""


def rows(number: int, wrong: float, begins: float) -> list[LabelledRow]:
    """Labels a second apart, of which this share was answered wrongly."""
    chosen = np.random.default_rng(int(begins)).uniform(size=number) < wrong
    return [
        LabelledRow("1", CLASS, 1.0, (), float(not item), begins + at, begins + at - 1, True)
        for at, item in enumerate(chosen)
    ]


def batches(found: Sequence[LabelledRow], gateways: int, first: int = 1) -> list[LabelBatch]:
    """The rows in turn at so many gateways, one batch of each."""
    parts = [found[index::gateways] for index in range(gateways)]
    return [
        LabelBatch(first + index, str(first + index), "m", "1", f"gateway {index}", len(part), pack_rows(part))
        for index, part in enumerate(parts)
    ]


def learned(performance: FleetPerformance, parts: Sequence[Sequence[LabelBatch]]) -> list[PerformanceChange]:
    return [change for at, part in enumerate(parts) for change in performance.learn(part, None, POLICY, at * LOOK_S)]


@pytest.mark.simulation
@pytest.mark.parametrize("gateways", [2, 3, 7])
def test_many_gateways_say_what_one_says(gateways: int) -> None:
    stretches = [rows(EACH, 0.02 if number < 5 else 0.4, number * EACH) for number in range(10)]
    one, many = FleetPerformance(), FleetPerformance()
    reported = learned(one, [batches(part, 1, number) for number, part in enumerate(stretches, 1)])
    again = learned(many, [batches(part, gateways, 1 + number * gateways) for number, part in enumerate(stretches)])
    assert reported
    assert [(change.what, change.begins) for change in again] == [(change.what, change.begins) for change in reported]
    assert one.document is not None
    assert many.document == one.document
    assert one.document["labels"] == 10 * EACH


def test_a_batch_that_is_read_again_changes_nothing() -> None:
    performance = FleetPerformance()
    first = batches(rows(100, 0.1, 0.0), 2)
    performance.learn(first, None, POLICY, 0.0)
    before = performance.document
    assert performance.learn(first, None, POLICY, 60.0) == []
    assert performance.learn([], None, POLICY, 120.0) == []
    assert performance.document == before
    assert performance.export_state() == (2, 100)


def test_the_next_leader_goes_on_and_emits_no_event_again() -> None:
    parts = [batches(rows(EACH, 0.02 if number < 5 else 0.4, number * EACH), 2, 1 + 2 * number) for number in range(10)]
    whole = FleetPerformance()
    reported = learned(whole, parts)
    first = FleetPerformance()
    before = learned(first, parts[:8])
    second = FleetPerformance(*first.export_state())
    after = learned(second, [[item for part in parts[:8] for item in part]])
    assert after == []
    after += second.learn([*parts[8], *parts[9]], None, POLICY, 10 * LOOK_S)
    assert [item.what for item in (*before, *after)].count("errors") == [item.what for item in reported].count("errors")
    assert second.export_state() == (20, 10 * EACH)


def test_labels_of_batches_that_are_no_longer_kept_still_count() -> None:
    performance = FleetPerformance(10, 5000)
    performance.learn(batches(rows(100, 0.1, 0.0), 1, 11), None, POLICY, 0.0)
    assert performance.document is not None
    assert performance.document["labels"] == 5100


def test_a_batch_that_cannot_be_read_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    stretches = [rows(EACH, 0.02 if number < 5 else 0.4, number * EACH) for number in range(10)]
    sound, spoilt = FleetPerformance(), FleetPerformance()
    parts = [batches(part, 1, 2 * number) for number, part in enumerate(stretches, 1)]
    odd = [LabelBatch(2 * number + 1, f"odd {number}", "m", "1", "b", 7, b"of a newer release") for number in range(3)]
    reported = learned(sound, parts)
    assert reported
    again = learned(spoilt, [odd[:1], [odd[1], *parts[0]], *parts[1:], odd[2:], odd[2:]])
    assert [(change.what, change.begins) for change in again] == [(change.what, change.begins) for change in reported]
    assert spoilt.document is not None
    assert (sound.unreadable, spoilt.unreadable) == (0, 14)
    [said] = [record.message for record in caplog.records if "cannot be read" in record.message]
    assert said.startswith("model m version 1: 7 labels of gateway b cannot be read and are left out")
