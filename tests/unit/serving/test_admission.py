"""The limit on calls in the system: who may enter, who is rejected and why, and how the limit follows what is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import Overloaded
from penstock.core.labels import SHED_REASONS, Priority
from penstock.core.queueing import WINDOW_NS
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals, count_load
from penstock.serving import admission
from penstock.serving.admission import DEADLINE, PREEMPTED, QUEUE_FULL, SETTLE_NS, ConcurrencyLimiter


class World:
    def __init__(self, least: float = 2.0, most: float = 8.0, servers: int = 1, run_ns: float = 1e6) -> None:
        self.slot = Slot.in_process()
        self.limiter = ConcurrencyLimiter(servers, (least, most), self.slot.block(1), run_ns, patient=4)

    def enter(self, calls: int) -> None:
        for _ in range(calls):
            self.limiter.enter()

    @property
    def counted(self) -> Totals:
        return Totals.of([self.slot], 1)

    @property
    def published_limit(self) -> int:
        return count_load([self.slot], 1)[1]


@pytest.mark.parametrize(
    ("in_system", "priority", "has_capacity"),
    [
        (0, Priority.BATCH, True),
        (3, Priority.BATCH, True),
        (4, Priority.BATCH, False),  # half of eight
        (7, Priority.DEFAULT, True),
        (8, Priority.DEFAULT, False),
        (7, Priority.CRITICAL, True),
        (8, Priority.CRITICAL, False),
    ],
)
def test_classes_have_capacity_up_to_their_share(in_system: int, priority: Priority, has_capacity: bool) -> None:
    world = World()
    world.enter(in_system)
    assert world.limiter.has_capacity(priority) == has_capacity
    assert (world.limiter.admission_error(priority) is None) == has_capacity


def test_a_call_that_may_evict_another_is_decoded() -> None:
    world = World()
    world.enter(8)
    world.limiter.waiting[Priority.BATCH] = 1
    assert world.limiter.admission_error(Priority.DEFAULT) is None
    assert world.limiter.admission_error(Priority.BATCH) is not None
    world.limiter.waiting[Priority.BATCH] = 0
    world.limiter.queues = ([], [object()], [])
    assert world.limiter.admission_error(Priority.CRITICAL) is None
    assert world.limiter.admission_error(Priority.DEFAULT) is not None


def test_rejections_are_counted_by_reason_and_remembered_for_a_while() -> None:
    world = World()
    faults = [world.limiter.rejection(reason, 1000) for reason in (QUEUE_FULL, PREEMPTED, PREEMPTED)]
    assert all(isinstance(fault, Overloaded) for fault in faults)
    assert world.counted.shed == dict(zip(SHED_REASONS, (1, 0, 2, 0), strict=True))
    assert world.limiter.busy_until_ns == 1000 + SETTLE_NS


@pytest.mark.parametrize(
    ("ahead", "cancelled", "left_ns", "misses_deadline"),
    [
        (0, 0, 1, False),  # the server is free: it is tried, whatever is expected
        (5, 0, 6_000_000, False),
        (5, 0, 5_999_999, True),
        (5, 2, 4_000_000, False),  # those that nobody waits for are stopped
        (5, 0, 0, True),
    ],
)
def test_a_request_that_would_wait_too_long_is_refused_at_once(
    ahead: int, cancelled: int, left_ns: int, misses_deadline: bool
) -> None:
    world = World(most=100.0)
    world.enter(ahead)
    world.limiter.cancelled_running = cancelled
    fault = world.limiter.deadline_error(Priority.DEFAULT, 1000 + left_ns, 1000)
    assert (fault is not None) == misses_deadline
    assert world.counted.shed["too_late"] == misses_deadline
    if fault is not None:
        assert "0.005 s long" in str(fault)
        assert fault.retry_after_s == pytest.approx(0.005)


def test_less_urgent_calls_that_wait_are_not_in_the_way() -> None:
    world = World(most=100.0)
    world.enter(5)
    world.limiter.waiting[Priority.BATCH] = 3
    world.limiter.queues = ([], [], [object()])
    assert world.limiter.deadline_error(Priority.DEFAULT, 2_000_000, 0) is None
    assert world.limiter.deadline_error(Priority.BATCH, 2_000_000, 0) is not None


def test_a_system_that_only_grows_is_cut_by_its_peaks() -> None:
    world = World(least=2.0, most=1000.0, run_ns=1e6)
    now = 0
    for calls in (10, 20, 40, 80):
        world.enter(calls - world.limiter.in_system)
        world.limiter.in_system -= calls - 1  # when the window ends they are gone, and it was full all the same
        now += WINDOW_NS
        world.limiter.update(now)
    assert world.limiter.limit == 16.0  # what is answered in sixteen runs of a millisecond
    assert world.published_limit == 16
    assert not world.limiter.is_over_limit()
    world.enter(17)
    assert world.limiter.is_over_limit()


def test_a_system_that_stands_is_left_alone() -> None:
    world = World(most=1000.0)
    now = 0
    world.enter(500)
    for _ in range(20):
        now += WINDOW_NS
        world.limiter.update(now)
    assert world.limiter.limit == 1000.0


def test_the_limit_grows_back_over_windows_in_which_nobody_came() -> None:
    world = World(most=1000.0)
    world.limiter.rejection(QUEUE_FULL, 0)
    world.limiter.update(1)
    assert world.limiter.limit == 16.0
    world.limiter.update(WINDOW_NS)  # within the window nothing is thought over
    assert world.limiter.limit == 16.0
    world.limiter.update(200 * WINDOW_NS)
    assert world.limiter.limit == 1000.0


def test_a_change_of_bounds_begins_anew() -> None:
    world = World()
    world.limiter.set_bounds(3.0, 20.0)
    assert (world.limiter.limit, world.published_limit) == (20.0, 20)
    world.limiter.set_bounds(30.0, 20.0)  # what is stated bounds the least, too
    world.limiter.rejection(QUEUE_FULL, 0)
    world.limiter.update(WINDOW_NS)
    assert world.limiter.limit == 20.0


def test_the_gauge_shows_what_is_published() -> None:
    world = World()
    world.enter(3)
    assert world.counted.inflight == 0
    world.limiter.publish()
    assert world.counted.inflight == 3


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "reject", "update"]), st.integers(0, 10**8)), max_size=80))
def test_an_empty_system_always_takes_a_call(steps: list[tuple[str, int]]) -> None:
    world, now = World(least=1.0, most=5.0), 0
    for step, after in steps:
        now += after
        if step == "enter" and world.limiter.has_capacity(Priority.DEFAULT):
            world.limiter.enter()
        elif step == "leave" and world.limiter.in_system:
            world.limiter.in_system -= 1
        elif step == "reject":
            world.limiter.rejection(DEADLINE, now, "late")
        else:
            world.limiter.update(now)
        assert 1.0 <= world.limiter.limit <= 5.0
    world.limiter.in_system = 0
    assert all(world.limiter.has_capacity(priority) for priority in Priority)


def test_every_reason_has_a_place_in_the_counters() -> None:
    reasons = (admission.QUEUE_FULL, admission.DEADLINE, admission.PREEMPTED, admission.MEMORY)
    assert sorted(reasons) == list(range(len(SHED_REASONS)))
