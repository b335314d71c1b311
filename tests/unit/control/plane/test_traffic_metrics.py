"""How routes divide the requests, what shadows made of theirs, and what was captured: as metrics."""

from penstock.control.monitoring.service import captured_readings
from penstock.control.plane.metrics import read_traffic
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.routing import parse_route
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.telemetry import capture_metrics, metrics
from tests.unit.control.plane.test_metrics import points

ROUTE = parse_route({"split": {"1": 7500, "2": 2500}})
DESIRED = Desired(1, (ModelSpec("m", (VersionSpec("1", "/1"), VersionSpec("2", "/2")), route=ROUTE), ModelSpec("n")))
OF_OTHERS = VersionStatus("n", "2", ReadyState.UNAVAILABLE)


def ready(*versions: str) -> list[VersionStatus]:
    return [VersionStatus("m", version, ReadyState.READY) for version in versions] + [OF_OTHERS]


def test_versions_that_cannot_answer_have_no_weight() -> None:
    nothing = Totals.of([Slot.in_process()], 1)
    both = points(read_traffic(DESIRED, ready("1", "2"), lambda *_: nothing), metrics.TRAFFIC_WEIGHT)
    assert both == {("m", "1"): 0.75, ("m", "2"): 0.25}
    one = points(read_traffic(DESIRED, ready("1"), lambda *_: nothing), metrics.TRAFFIC_WEIGHT)
    assert one == {("m", "1"): 1.0, ("m", "2"): 0.0}


def test_mirrored_requests_are_pairs_missed_or_dropped() -> None:
    slot = Slot.in_process()
    block = slot.block(2)
    for _ in range(3):
        block.count_mirrored()
    block.count_mirror_dropped()
    block.add_shadow("pairs", 2)
    block.add_shadow("missed")
    block.add_shadow("disagreements")
    found = list(read_traffic(DESIRED, ready("1", "2"), lambda _, version: Totals.of([slot], int(version))))
    assert points(found, metrics.SHADOW_REQUESTS) == {
        ("m", "2", "pair"): 2,
        ("m", "2", "missed"): 1,
        ("m", "2", "dropped"): 1,
    }
    assert points(found, metrics.SHADOW_PAIRS) == {("m", "2"): 2}
    assert points(found, metrics.SHADOW_DISAGREEMENTS) == {("m", "2"): 1}


def test_only_versions_that_captured_something_have_series_of_it() -> None:
    nothing = {"captured": 0, "bytes": 0, "dropped": 0}
    assert list(captured_readings(("m", "1"), nothing)) == []
    found = list(captured_readings(("m", "1"), {**nothing, "captured": 2, "bytes": 70}))
    assert points(found, capture_metrics.CAPTURED) == {("m", "1"): 2}
    assert points(found, capture_metrics.CAPTURED_BYTES) == {("m", "1"): 70}
    assert points(found, capture_metrics.CAPTURE_DROPPED) == {("m", "1"): 0}
