"""Admission: how many calls of one version may be in the system, by priority class, and the errors of
rejected calls.
"""

from collections.abc import Sized
from time import monotonic_ns
from typing import Final

from penstock.core.errors import Overloaded
from penstock.core.labels import SHED_REASONS, Priority
from penstock.core.queueing import (
    PATIENT,
    WINDOW_NS,
    ConcurrencyLimit,
    class_limits,
    expected_wait_ns,
    misses_deadline,
    next_limit,
    tolerated_ns,
    update_expected_ns,
)
from penstock.monitor.counters.block_writer import BlockWriter

QUEUE_FULL, DEADLINE, PREEMPTED, MEMORY = range(len(SHED_REASONS))

TEXTS: Final = {
    QUEUE_FULL: "the queue of this model is full; try again later",
    PREEMPTED: "a request of higher priority took the place in the queue of this model; try again later",
}

SETTLE_NS: Final = 2_000_000_000
"""How long mirrored calls are skipped after a call was rejected."""

MAX_WINDOWS: Final = 100
"""Windows without calls after which a limit has grown back to its maximum."""


class ConcurrencyLimiter:
    """The calls of one version in one worker, on the event loop and on threads together; lives on the event loop.

    ``in_system`` calls wait or run. Those that have not begun are counted by class: ``waiting`` for their turn of the
    loop, ``queues`` for a thread. ``servers`` is the number of runs at a time. The limit is between
    ``least`` and ``most`` calls; see ``core.queueing.next_limit``.
    """

    __slots__ = (
        "_block",
        "_call_ns",
        "_class_limits",
        "_limit",
        "_patient",
        "_peak",
        "_rejected",
        "_run_ns",
        "_servers",
        "_window_ends_ns",
        "busy_until_ns",
        "cancelled_running",
        "in_system",
        "queues",
        "waiting",
    )

    def __init__(
        self, servers: int, bounds: tuple[float, float], block: BlockWriter, run_ns: float = 0.0, patient: int = PATIENT
    ) -> None:
        self._servers = servers
        self._block = block
        self._run_ns = self._call_ns = run_ns  # what a run is expected to take, and a call's share of it
        self._rejected = 0
        self._window_ends_ns = 0
        self._patient = patient
        self._peak = 0  # the most calls in the system in this window
        self.in_system = 0
        self.cancelled_running = 0  # in the system, and no longer waited for
        self.waiting = [0] * len(Priority)
        self.queues: tuple[Sized, ...] = ()
        self.busy_until_ns = 0
        self.set_bounds(*bounds)

    @property
    def limit(self) -> float:
        """Return how many calls may be in the system now."""
        return self._limit.value

    def set_bounds(self, least: float, most: float) -> None:
        """Set the least and the greatest value of the limit."""
        self._set_limit(ConcurrencyLimit(most, min(least, most), most, patient=self._patient))

    def enter(self) -> None:
        """Add a call to the system."""
        self.in_system += 1
        self._peak = max(self._peak, self.in_system)

    def has_capacity(self, priority: int) -> bool:
        """Whether another call of a class may enter."""
        return self.in_system < self._class_limits[priority]

    def admission_error(self, priority: int) -> Overloaded | None:
        """Return why a call of a class need not be decoded; None if there is capacity, or if it may replace another
        call.
        """
        if self.in_system < self._class_limits[priority] or self._count_less_urgent(priority):
            return None
        now = monotonic_ns()
        self.update(now)
        return self.rejection(QUEUE_FULL, now)

    def deadline_error(self, priority: int, deadline_ns: int, now_ns: int) -> Overloaded | None:
        """Return the error of a call that would miss its deadline after the calls ahead of it; None if it would not."""
        ahead = self.in_system - self.cancelled_running - self._count_less_urgent(priority)
        if not misses_deadline(ahead, self._servers, self._call_ns, self._run_ns, max(0, deadline_ns - now_ns)):
            return None
        wait_s = expected_wait_ns(ahead, self._servers, self._call_ns) / 1e9
        text = f"the queue of this model is {wait_s:.3g} s long, and the call has less time"
        return self.rejection(DEADLINE, now_ns, text, wait_s)

    def rejection(self, reason: int, now_ns: int, text: str = "", retry_after_s: float = 1.0) -> Overloaded:
        """Count a rejected call and return its error; ``retry_after_s`` is in seconds."""
        self._rejected += 1
        self.busy_until_ns = now_ns + SETTLE_NS
        self._block.count_shed(reason)
        return Overloaded(text or TEXTS[reason], retry_after_s)

    def note_run(self, run_ns: float, calls: int) -> None:
        """Learn from a run of ``run_ns`` nanoseconds that ``calls`` calls shared."""
        self._run_ns = update_expected_ns(self._run_ns, run_ns)
        self._call_ns = update_expected_ns(self._call_ns, run_ns / calls)

    def publish(self) -> None:
        """Publish the number of calls in the system as a metric."""
        self._block.set_in_flight(self.in_system)

    def update(self, now_ns: int) -> None:
        """Adjust the limit once a window, to the calls of the window; ``now_ns`` is ``time.monotonic_ns``."""
        if now_ns < self._window_ends_ns:
            return
        windows = min(MAX_WINDOWS, 1 + (now_ns - self._window_ends_ns) // WINDOW_NS)
        wait_ns = tolerated_ns(self._call_ns, self._run_ns, self._servers)
        tolerated = self._servers * wait_ns / max(1.0, self._call_ns)
        limit = next_limit(self._limit, self._peak, self._rejected, tolerated)
        for _ in range(windows - 1):  # without any call
            limit = next_limit(limit, self.in_system, 0, tolerated)
        self._rejected, self._peak = 0, self.in_system
        self._window_ends_ns = now_ns + WINDOW_NS
        self._set_limit(limit)

    def _set_limit(self, limit: ConcurrencyLimit) -> None:
        self._limit = limit
        self._class_limits = class_limits(limit.value)
        self._block.set_limit(int(limit.value))

    def _count_less_urgent(self, priority: int) -> int:
        """Return the number of waiting calls of less urgent classes."""
        return sum(self.waiting[priority + 1 :]) + sum(map(len, self.queues[priority + 1 :]))

    def is_over_limit(self) -> bool:
        """Whether more calls are in the system than the limit, so that waiting calls are rejected."""
        return self.in_system > self._limit.value
