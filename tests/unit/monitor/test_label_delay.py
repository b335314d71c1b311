"""How long labels take to become known."""

from penstock.monitor.answers import CLASS
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.label_delay import MOST, LabelDelays


def labelled(at: float, answered_at: float) -> LabelledRow:
    return LabelledRow("1", CLASS, 1.0, (), 1.0, at, answered_at)


def test_quantiles_of_the_newest_labels() -> None:
    delays = LabelDelays()
    assert delays.document() is None
    delays.add(labelled(100.0, 0.0))  # its answer has no time
    assert delays.document() is None
    for delay in range(1, 102):
        delays.add(labelled(1000.0 + delay, 1000.0))
    assert delays.document() == {
        "labels": 101,
        "p50_seconds": 51.0,
        "p90_seconds": 91.0,
        "p99_seconds": 100.0,
        "longest_seconds": 101.0,
    }
    for _ in range(MOST):
        delays.add(labelled(1000.0, 1001.0))  # clocks may differ: never below zero
    assert delays.document() == {
        "labels": MOST,
        "p50_seconds": 0.0,
        "p90_seconds": 0.0,
        "p99_seconds": 0.0,
        "longest_seconds": 0.0,
    }
