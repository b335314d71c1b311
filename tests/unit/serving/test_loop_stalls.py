"""Stalls of the loop: turns report themselves, all else shows in the delay of a timer; nothing counts twice."""

from penstock.monitor.counters.slot import Slot
from penstock.serving.loop_stalls import CHECK_INTERVAL_NS, IDLE_INTERVAL_NS, STALL_NS, LoopStalls

MS = 1_000_000


class World:
    def __init__(self) -> None:
        self.now = 0
        self.seen: list[int] = []
        self.stalls = LoopStalls(self.seen.append, lambda: self.now)
        self.stalls.start()

    def check(self, delay_ns: int) -> None:
        self.now += CHECK_INTERVAL_NS + delay_ns
        assert self.stalls.check() * 1e9 == CHECK_INTERVAL_NS


def test_a_timer_that_comes_delayed_shows_how_much() -> None:
    world = World()
    for delay_ns in (0, STALL_NS - 1, STALL_NS, 0, 70 * MS):
        world.check(delay_ns)
    assert world.seen == [STALL_NS, 70 * MS]


def test_without_clients_the_timer_comes_less_often() -> None:
    world = World()
    assert world.stalls.check(is_idle=True) * 1e9 == IDLE_INTERVAL_NS
    world.now += IDLE_INTERVAL_NS + 30 * MS
    assert world.stalls.check() * 1e9 == CHECK_INTERVAL_NS
    assert world.seen == [30 * MS]


def test_a_delay_that_turns_explain_is_not_counted_again() -> None:
    world = World()
    world.stalls.turn(30 * MS)
    world.check(25 * MS)  # the timer was due in the midst of it
    assert world.seen == [30 * MS]
    world.check(25 * MS)  # which explains nothing of the next
    assert world.seen == [30 * MS, 25 * MS]
    world.stalls.turn(2 * MS)
    world.check(12 * MS)
    assert world.seen == [30 * MS, 25 * MS, 2 * MS, 10 * MS]


def test_they_are_counted_by_length_in_the_slot() -> None:
    slot = Slot.in_process()
    stalls = LoopStalls(slot.count_stall, lambda: 0)
    for duration in (MS, 50 * MS, 51 * MS):
        stalls.turn(duration)
    counted = slot.stalls
    assert (counted.count, counted.total) == (3, 102 * MS)
    assert counted.buckets[0] == 1
    assert counted.buckets[5] == 1  # up to 50 ms
    assert counted.buckets[6] == 1
