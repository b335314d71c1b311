"""The supervisor's decisions as a table and as properties, and its loop with made-up processes and a made-up clock."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.workers.supervisor import (
    PERIOD_NS,
    Heartbeat,
    Kill,
    Reap,
    RestartReason,
    SlotObservation,
    Spawn,
    Supervisor,
    SupervisorAction,
    SupervisorLimits,
    decide,
    delay_ns,
    track,
)

SECOND = 1_000_000_000
LIMITS = SupervisorLimits()
NOW = 1000 * SECOND

VACANT = SlotObservation(0)
RESTING = SlotObservation(0, retry_ns=NOW + 1)
NEW = SlotObservation(0, occupied=True, alive=True, spawned_ns=NOW)
HEALTHY = SlotObservation(0, occupied=True, alive=True, settled=True, spawned_ns=0, frozen_ns=LIMITS.freeze - 1)
FROZEN = replace(HEALTHY, frozen_ns=LIMITS.freeze)
STUCK = replace(NEW, spawned_ns=NOW - LIMITS.start)
DEAD = replace(HEALTHY, alive=False)


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (VACANT, Spawn(0)),
        (replace(RESTING, retry_ns=NOW), Spawn(0)),
        (RESTING, None),
        (NEW, None),
        (replace(NEW, frozen_ns=LIMITS.freeze), None),  # silence counts only once the slot is taken over
        (STUCK, Kill(0, RestartReason.STUCK)),
        (replace(STUCK, settled=True), None),
        (HEALTHY, None),
        (FROZEN, Kill(0, RestartReason.FROZEN)),
        (replace(FROZEN, terminating=True), None),  # killed already, its end is awaited
        (DEAD, Reap(0)),
        (replace(DEAD, frozen_ns=LIMITS.freeze), Reap(0)),
        (replace(DEAD, terminating=True), Reap(0)),
    ],
)
def test_decisions_about_one_slot(seen: SlotObservation, action: SupervisorAction | None) -> None:
    assert decide([seen], NOW, LIMITS) == action


@pytest.mark.parametrize(
    ("slots", "action"),
    [
        ([VACANT, replace(DEAD, index=1)], Reap(1)),
        ([VACANT, replace(FROZEN, index=1)], Kill(1, RestartReason.FROZEN)),
        ([FROZEN, replace(DEAD, index=1)], Reap(1)),
        ([HEALTHY, replace(VACANT, index=1)], Spawn(1)),
        ([HEALTHY, replace(RESTING, index=1)], None),
        ([], None),
    ],
)
def test_ended_workers_are_reaped_before_kills_and_kills_come_before_starts(
    slots: list[SlotObservation], action: SupervisorAction | None
) -> None:
    assert decide(slots, NOW, LIMITS) == action


def test_no_worker_starts_while_the_gateway_stops() -> None:
    assert decide([VACANT], NOW, LIMITS, spawning=False) is None
    assert decide([DEAD], NOW, LIMITS, spawning=False) == Reap(0)
    assert decide([FROZEN], NOW, LIMITS, spawning=False) == Kill(0, RestartReason.FROZEN)


seen_slots = st.builds(
    SlotObservation,
    index=st.just(0),
    occupied=st.booleans(),
    alive=st.booleans(),
    settled=st.booleans(),
    spawned_ns=st.integers(0, NOW),
    silent_ns=st.integers(0, 10 * SECOND),
    retry_ns=st.integers(0, 2 * NOW),
    terminating=st.booleans(),
)


@given(st.lists(seen_slots, max_size=6), st.booleans())
def test_repeated_decisions_end_and_leave_nothing_undone(slots: list[SlotObservation], spawning: bool) -> None:
    slots = [replace(slot, index=index) for index, slot in enumerate(slots)]
    for _ in range(3 * len(slots) + 1):
        action = decide(slots, NOW, LIMITS, spawning)
        if action is None:
            break
        before = slots[action.index]
        match action:
            case Spawn():
                assert spawning
                assert not before.occupied
                slots[action.index] = replace(NEW, index=action.index)
            case Kill():
                assert before.occupied
                assert before.alive
                slots[action.index] = replace(before, terminating=True)
            case Reap():
                assert before.occupied
                assert not before.alive
                slots[action.index] = SlotObservation(action.index, retry_ns=before.retry_ns)
    else:
        pytest.fail("the decisions do not come to an end")
    assert not any(slot.occupied and not slot.alive for slot in slots)
    assert not spawning or not any(not slot.occupied and slot.retry_ns <= NOW for slot in slots)


def test_the_delay_doubles_up_to_its_bound() -> None:
    tenths = [delay_ns(deaths, LIMITS) // 100_000_000 for deaths in range(10)]
    assert tenths == [0, 1, 2, 4, 8, 16, 32, 64, 100, 100]


@given(st.integers(0, 10_000))
def test_the_delay_never_leaves_its_bounds(deaths: int) -> None:
    assert 0 <= delay_ns(deaths, LIMITS) <= LIMITS.longest_delay


def test_a_heartbeat_counts_missed_beats_only_while_it_is_watched() -> None:
    heartbeat = track(Heartbeat(), 5, 10, PERIOD_NS)
    assert heartbeat == Heartbeat(5, 0)
    heartbeat = track(heartbeat, 5, 20, PERIOD_NS)
    assert heartbeat == Heartbeat(5, PERIOD_NS, PERIOD_NS)
    assert track(heartbeat, 6, 30, PERIOD_NS) == Heartbeat(6, 0)


def test_missed_heartbeats_of_a_worker_that_uses_the_processor_count_a_tenth() -> None:
    heartbeat = Heartbeat(5, processor_ns=100)
    for used in (110, 120, 120):
        heartbeat = track(heartbeat, 5, 10, PERIOD_NS, used)
    assert heartbeat == Heartbeat(5, 3 * PERIOD_NS, PERIOD_NS + 2 * PERIOD_NS // 10, 120)


def test_a_late_look_proves_little() -> None:
    assert track(Heartbeat(5, 0), 5, 60 * SECOND, 60 * SECOND).silent_ns == 2 * PERIOD_NS


def test_announced_work_does_not_count_as_a_missed_heartbeat() -> None:
    assert track(Heartbeat(90 * SECOND, SECOND), 90 * SECOND, 60 * SECOND, PERIOD_NS).silent_ns == 0


class FakePost:
    """A slot whose worker the test plays."""

    def __init__(self) -> None:
        self.pid = 0
        self.heartbeat_ns = 0


class FakeProcess:
    """A process that ends when it is told to."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.over = False
        self.closed = False
        self.used_ns = 0

    def ended(self) -> bool:
        return self.over

    def processor_ns(self) -> int:
        return self.used_ns

    def kill(self) -> None:
        self.over = True

    def terminate(self) -> None:
        pass

    def close(self) -> str:
        self.closed = True
        return "signal 9"


class Stage:
    """A supervisor over ``count`` made-up slots, a clock that moves by hand, and a note of what happened."""

    def __init__(self, count: int = 1, spawn: Callable[[int], FakeProcess] | None = None) -> None:
        self.now = NOW
        self.slots = [FakePost() for _ in range(count)]
        self.born: list[FakeProcess] = []
        self.lost: list[tuple[int, RestartReason]] = []
        self.supervisor = Supervisor(
            self.slots,
            spawn or self.spawn,
            lambda index, _, reason: self.lost.append((index, reason)),
            lambda: self.now,
        )

    def spawn(self, index: int) -> FakeProcess:
        self.born.append(FakeProcess(100 + len(self.born)))
        return self.born[-1]

    def settle(self, index: int = 0) -> None:
        """The newest worker takes its slot over and beats."""
        self.slots[index].pid = self.born[-1].pid
        self.slots[index].heartbeat_ns = self.now

    def pass_time(self, seconds: float, beating: bool = True) -> None:
        for _ in range(round(seconds * SECOND / PERIOD_NS)):
            self.now += PERIOD_NS
            for slot in self.slots:
                slot.heartbeat_ns = self.now if beating else slot.heartbeat_ns
            self.supervisor.step()


def test_every_slot_gets_a_worker_at_once() -> None:
    stage = Stage(3)
    stage.supervisor.step()
    assert len(stage.born) == 3
    assert stage.lost == []


def test_a_dead_worker_is_replaced_at_once() -> None:
    stage = Stage()
    stage.supervisor.step()
    stage.settle()
    stage.pass_time(10)
    stage.born[0].over = True
    stage.supervisor.step()
    assert stage.lost == [(0, RestartReason.DIED)]
    assert stage.born[0].closed
    assert len(stage.born) == 2


def test_a_frozen_worker_is_ended_and_replaced_within_its_timeout() -> None:
    stage = Stage()
    stage.supervisor.step()
    stage.settle()
    stage.pass_time(10)
    stage.pass_time(1.1, beating=False)
    assert stage.lost == []
    stage.pass_time(0.2, beating=False)
    assert stage.lost == [(0, RestartReason.FROZEN)]
    assert len(stage.born) == 2


def test_a_worker_that_uses_the_processor_gets_ten_times_the_timeout() -> None:
    stage = Stage()
    stage.supervisor.step()
    stage.settle()
    for _ in range(115):  # 11.5 s
        stage.born[0].used_ns += 10_000_000
        stage.pass_time(0.1, beating=False)
    assert stage.lost == []
    assert not stage.supervisor.responsive(0)
    for _ in range(10):
        stage.born[0].used_ns += 10_000_000
        stage.pass_time(0.1, beating=False)
    assert stage.lost == [(0, RestartReason.FROZEN)]


def test_a_pause_of_the_control_process_does_not_count_against_a_worker() -> None:
    stage = Stage()
    stage.supervisor.step()
    stage.settle()
    stage.pass_time(1)
    stage.now += 60 * SECOND  # the whole machine stood still, so the worker did not beat either
    stage.supervisor.step()
    assert stage.lost == []


def test_a_worker_that_never_takes_its_slot_over_is_ended() -> None:
    stage = Stage()
    stage.supervisor.step()
    stage.pass_time(LIMITS.start / SECOND + 0.2, beating=False)
    assert stage.lost == [(0, RestartReason.STUCK)]


def test_workers_that_die_young_are_replaced_less_and_less_often() -> None:
    stage = Stage()
    births = []
    for _ in range(300):
        before = len(stage.born)
        stage.supervisor.step()
        if len(stage.born) > before:
            births.append(stage.now)
            stage.born[-1].over = True
        stage.now += PERIOD_NS
    tenths = [(later - earlier) // PERIOD_NS for earlier, later in pairwise(births)]
    assert tenths[:8] == [2, 3, 5, 9, 17, 33, 65, 101]  # one look to see the death, then the delay


def test_a_long_run_ends_the_series_of_quick_failures() -> None:
    stage = Stage()
    stage.supervisor.step()
    stage.born[-1].over = True
    stage.pass_time(0.5)
    stage.settle()
    stage.pass_time(10)
    stage.born[-1].over = True
    stage.supervisor.step()
    assert len(stage.born) == 3


def test_a_worker_that_cannot_be_started_is_tried_again_later() -> None:
    attempts = []

    def refuse(index: int) -> FakeProcess:
        attempts.append(index)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    stage = Stage(spawn=refuse)
    stage.pass_time(1)
    assert 2 <= len(attempts) <= 5
    assert stage.supervisor.processes() == [None]


def test_an_adopted_worker_is_watched_like_any_other() -> None:
    stage = Stage()
    adopted = FakeProcess(7)
    stage.supervisor.adopt(0, adopted)
    stage.slots[0].pid = 7
    stage.pass_time(5)
    assert stage.born == []
    assert stage.supervisor.responsive(0)
    adopted.over = True
    stage.supervisor.step()
    assert stage.lost == [(0, RestartReason.DIED)]
    assert len(stage.born) == 1


def test_a_retired_supervisor_reaps_without_replacing_or_counting() -> None:
    stage = Stage()
    stage.supervisor.step()
    stage.supervisor.retire()
    stage.born[0].over = True
    stage.supervisor.step()
    assert stage.lost == []
    assert len(stage.born) == 1
    assert stage.supervisor.processes() == [None]


def test_a_silent_worker_stops_counting_as_responsive_before_it_counts_as_frozen() -> None:
    stage = Stage()
    stage.supervisor.step()
    assert not stage.supervisor.responsive(0)
    stage.settle()
    stage.pass_time(1)
    assert stage.supervisor.responsive(0)
    stage.pass_time(0.5, beating=False)
    assert not stage.supervisor.responsive(0)
    assert stage.lost == []
