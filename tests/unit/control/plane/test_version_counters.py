"""Counters of versions: they outlive workers and this process; their blocks are given away when nobody needs them."""

import json
from collections.abc import Sequence

from penstock.control.plane.version_counters import VersionCounters
from penstock.control.reconcile.planner import ControllerState
from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.labels import SHED_REASONS
from penstock.core.versions import VersionKey
from penstock.monitor.counters.layout import BLOCKS
from penstock.monitor.counters.slot import Slot
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.counted import count_success

ONE, TWO = ("m", "1"), ("m", "2")
STATE = ControllerState(blocks={ONE: 1, TWO: 2})
SERIES_S = 60.0


class World:
    """Two slots, and the counters over them; versions are served as ``desired`` says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slots = [Slot.in_process() for _ in range(2)]
        self.counters = VersionCounters(self.slots, {}, SERIES_S, lambda: self.now)

    def desired(self, *versions: str, applied: bool = True) -> tuple[Desired, dict[int, WorkerReport]]:
        desired = Desired(5, (ModelSpec("m", tuple(VersionSpec(version, "") for version in versions)),))
        statuses = {("m", version): VersionStatus("m", version, ReadyState.READY) for version in versions}
        return desired, {slot: WorkerReport(10 + slot, 5 if applied else 4, dict(statuses)) for slot in range(2)}

    def departed(self, *versions: str, applied: bool = True) -> Sequence[VersionKey]:
        return list(self.counters.departed_versions(STATE, *self.desired(*versions, applied=applied)))


def test_a_version_is_counted_over_all_slots_and_one_without_a_block_by_nothing() -> None:
    world = World()
    for slot in world.slots:
        count_success(slot.block(1), 0, 1, 10, 1, 1, 1, 1)
    assert world.counters.totals(STATE, ONE).outcome_count(succeeded=True) == 2
    assert world.counters.totals(STATE, ("m", "9")).outcome_count(succeeded=True) == 0


def test_a_worker_that_ends_is_counted_for_the_versions_whose_calls_it_had_once() -> None:
    world = World()
    world.slots[0].block(1).set_in_flight(3)
    for _ in range(2):
        world.counters.note_loss(STATE, 0, 77)
    world.counters.note_loss(STATE, 1, 78)  # it had no calls in hand
    assert (world.counters.losses(ONE), world.counters.losses(TWO)) == (1, 0)


def test_the_next_process_goes_on_with_what_this_one_kept() -> None:
    world = World()
    world.slots[0].block(1).set_in_flight(3)
    world.counters.note_loss(STATE, 0, 77)
    world.counters.note_restart("died")
    world.counters.note_load(ONE, succeeded=False)
    kept = json.loads(json.dumps(world.counters.out()))
    after = VersionCounters(world.slots, kept, SERIES_S, lambda: world.now)
    after.note_loss(STATE, 0, 77)  # the same worker
    assert after.losses(ONE) == 1
    reported = [reading for reading in after.readings(STATE, [], {ONE}) if isinstance(reading, Point)]
    values = {(item.metric, item.labels): item.value for item in reported}
    assert values[metrics.WORKER_RESTARTS, ("died",)] == 1
    assert values[metrics.MODEL_LOADS, (*ONE, "failed")] == 1
    after.retain(ControllerState(blocks={TWO: 2}))
    assert (after.losses(ONE), after.out()["tally"]["loads"]) == (0, [])


def test_a_block_is_taken_back_once_its_version_is_gone_for_long_and_nobody_answers_for_it() -> None:
    world = World()
    assert world.departed("1", "2") == []
    world.now += SERIES_S
    assert world.departed("1") == []  # it was there a moment ago
    world.now += SERIES_S + 1
    world.slots[1].block(2).set_in_flight(1)
    assert world.departed("1") == []
    world.slots[1].block(2).set_in_flight(0)
    assert world.departed("1", applied=False) == []
    assert world.departed("1") == [TWO]
    assert world.counters.reported_versions(STATE, *world.desired("1")) == {ONE}


def test_while_nothing_is_desired_yet_no_block_is_taken_back() -> None:
    world = World()
    world.now += 10 * SERIES_S
    assert list(world.counters.departed_versions(STATE, Desired(), {})) == []


def test_versions_give_their_blocks_away_at_once_only_where_none_is_left() -> None:
    world = World()
    assert list(world.counters.reusable(STATE, *world.desired("1"))) == []
    full = ControllerState(blocks={ONE: 1, TWO: 2, **{("n", str(block)): block for block in range(3, BLOCKS)}})
    reusable = world.counters.reusable(full, *world.desired("1"))
    assert len(reusable) == BLOCKS - 2
    assert ONE not in reusable


def test_a_cleared_block_counts_nothing_and_what_its_version_refused_stays_with_the_model() -> None:
    world = World()
    world.slots[0].block(1).count_shed(0)
    count_success(world.slots[0].block(1), 0, 1, 10, 1, 1, 1, 1)
    before = _shed(world)
    world.counters.clear(STATE, 1)
    assert world.counters.totals(STATE, ONE).outcome_count(succeeded=True) == 0
    assert (before, _shed(world)) == (1, 1)


def _shed(world: World) -> float:
    reported = world.counters.readings(STATE, [], {ONE, TWO})
    points = [item for item in reported if isinstance(item, Point) and item.metric is metrics.SHED]
    return next(point.value for point in points if point.labels == ("m", SHED_REASONS[0]))


def test_a_region_is_a_view_of_every_slot_and_is_cleared_in_all() -> None:
    world = World()
    for cells in world.counters.regions(10, 4):
        cells[:] = 7
    assert [cells.tolist() for cells in world.counters.regions(12, 3)] == [[7, 7, 0]] * 2
    world.counters.clear_region(10, 3)
    assert [cells.tolist() for cells in world.counters.regions(10, 4)] == [[0, 0, 0, 7]] * 2
