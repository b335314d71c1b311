"""Threads for runs too long for the event loop: a bounded queue, calls that share runs, and real deadlines."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from itertools import islice
from time import monotonic_ns
from typing import Final

from penstock.core.batching import BatchRules, next_run
from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, Overloaded
from penstock.core.labels import SHED_REASONS, Priority
from penstock.core.placement import Breadth, breadth
from penstock.core.queueing import (
    WINDOW_NS,
    Limit,
    comes_too_late,
    expected_wait_ns,
    finds_room,
    next_limit,
    smoothed,
    tolerated_ns,
)
from penstock.engine.model import Interrupt, Model
from penstock.monitor.counters import BlockWriter
from penstock.serving import batch_run
from penstock.serving.batch_run import Outcome
from penstock.serving.infer_call import InferCall

QUEUE_FULL, TOO_LATE, PREEMPTED, MEMORY = range(len(SHED_REASONS))

TEXTS: Final = {
    QUEUE_FULL: "the queue of this model is full; try again later",
    PREEMPTED: "a more urgent call took its place in the queue of this model; try again later",
}

LOOKED_AT: Final = 256
"""Calls of a queue that are looked at for one run."""

PER_THREAD: Final = 256
"""Calls that may wait for each thread as long as the queue does not only grow."""

MOST_WINDOWS: Final = 100
"""Windows without calls after which a limit has grown back as far as it can."""

SETTLE_NS: Final = 2_000_000_000
"""How long shadows are left out after a call was refused."""

Told = Callable[[InferCall, Outcome], None]
"""Hears on the loop, once, what became of a call."""


class Batch:
    """The calls of one run, how it goes, and how many of them somebody still waits for."""

    __slots__ = ("awaited", "breadth", "entries", "interrupt")

    def __init__(self, entries: "list[QueuedCall]", breadth: Breadth) -> None:
        self.entries = entries
        self.breadth = breadth
        self.awaited = len(entries)
        self.interrupt = Interrupt()


class QueuedCall:
    """A call that waits for a thread or runs on one; ``over`` once its caller has been told."""

    __slots__ = ("call", "entered_ns", "group", "key", "over", "timers", "told")

    def __init__(self, call: InferCall, told: Told, key: Hashable, entered_ns: int) -> None:
        self.call = call
        self.told = told
        self.key = key
        self.entered_ns = entered_ns
        self.group: Batch | None = None
        self.over = False
        self.timers: list[asyncio.TimerHandle] = []


class WorkerPool:
    """Threads that run one version's calls, by class and in order of arrival; all methods but the threads' are the
    loop's.

    At most ``bound`` calls are inside, and fewer while more come than can be answered in time; none waits longer than
    ``max_wait_ns`` (0 = to its deadline).
    """

    def __init__(
        self, model: Model, threads: int, bound: int, block: BlockWriter, rules: BatchRules, max_wait_ns: int = 0
    ) -> None:
        self._model = model
        self._narrow = model if model.narrow is None else model.narrow
        self._wide_runs = self._narrow_runs = 0
        self._threads = threads
        self._block = block
        self._max_wait_ns = max_wait_ns
        self._changed = threading.Condition()
        self._queues: tuple[deque[QueuedCall], ...] = tuple(deque() for _ in Priority)
        self._closing = self._started = False
        self._inside = self._leaving = 0  # those that leave are stopped, and no longer waited for
        self._run_ns = self._call_ns = float(model.run_ns or 0)  # what a run is thought to take, and a call's share
        self.busy_until_ns = 0
        self._refused = 0
        self._window_ends_ns = 0
        self._bound = bound
        self.set_batch_rules(rules)

    def set_batch_rules(self, rules: BatchRules) -> None:
        """Make runs by these rules from now on."""
        least = float(self._threads * (1 + 2 * rules.most_rows))
        most = float(min(self._bound, max(self._threads * PER_THREAD, 4 * least)))
        self._rules = rules
        self._limit = Limit(most, min(least, most), most)
        self._block.limited(int(most))

    def admission_error(self, priority: Priority) -> Overloaded | None:
        """Why a call of a class need not even be decoded, None if it may ``enqueue``."""
        inside = self._inside
        if not inside or finds_room(inside, self._limit.value, priority) or any(self._queues[priority + 1 :]):
            return None
        now = monotonic_ns()
        self._think(now)
        return self._refusal(QUEUE_FULL, TEXTS[QUEUE_FULL], now)

    def enqueue(self, call: InferCall, told: Told) -> QueuedCall:
        """Queue a call; ``told`` hears what became of it, at its deadline at the latest.

        Raises:
            Overloaded: there is no room, or the queue is longer than the call can wait.
        """
        now = monotonic_ns()
        self._think(now)
        left_ns = max(0, call.deadline_ns - now)
        if not finds_room(self._inside, self._limit.value, call.priority) and not self._turn_away(
            call.priority, PREEMPTED
        ):
            raise self._refusal(QUEUE_FULL, TEXTS[QUEUE_FULL], now)
        before = self._inside - self._leaving - sum(map(len, self._queues[call.priority + 1 :]))
        if comes_too_late(before, self._threads, self._call_ns, self._run_ns, left_ns):
            wait_s = expected_wait_ns(before, self._threads, self._call_ns) / 1e9
            text = f"the queue of this model is {wait_s:.3g} s long, and the call has less time"
            raise self._refusal(TOO_LATE, text, now, wait_s)
        if not self._started:
            self._start()
        entry = QueuedCall(call, told, batch_run.batch_key(call) if self._rules.most_rows > 1 else None, now)
        call_later = asyncio.get_running_loop().call_later
        entry.timers.append(call_later(left_ns / 1e9, self._expire, entry))
        if self._max_wait_ns:
            entry.timers.append(call_later(self._max_wait_ns / 1e9, self._waited, entry))
        self._inside += 1
        with self._changed:
            self._queues[call.priority].append(entry)
            if self._breadth() is not None:
                self._changed.notify()
        return entry

    def cancel(self, entry: QueuedCall) -> None:
        """Nobody waits for a call any more: stop its run, unless others share it."""
        self._end(entry, Cancelled("the caller went away"))

    def close(self) -> None:
        """Let the threads end once the queue is empty."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    # Ends before the run's own.

    def _expire(self, entry: QueuedCall) -> None:
        self._end(entry, DeadlineExceeded("the deadline passed before an answer was ready"))

    def _waited(self, entry: QueuedCall) -> None:
        if entry.group is None:
            self._end(entry, DeadlineExceeded("the model's queue timeout passed while waiting"))

    def _end(self, entry: QueuedCall, fault: Fault) -> None:
        if entry.over:
            return
        with self._changed:
            if entry.group is None:
                self._queues[entry.call.priority].remove(entry)
                self._inside -= 1
            else:
                self._leaving += 1
                entry.group.awaited -= 1
                if not entry.group.awaited:
                    entry.group.interrupt.stop()
        self._tell(entry, fault)

    def _tell(self, entry: QueuedCall, outcome: Outcome) -> None:
        entry.over = True
        for timer in entry.timers:
            timer.cancel()
        entry.told(entry.call, outcome)

    def _turn_away(self, priority: int, reason: int) -> bool:
        """Refuse the newest waiting call of the least urgent class, if that is less urgent; whether there was one."""
        with self._changed:  # a thread may be taking it
            queue = next(filter(None, reversed(self._queues[priority + 1 :])), None)
            if queue is None:
                return False
            entry = queue.pop()
        self._inside -= 1
        self._tell(entry, self._refusal(reason, TEXTS[reason], monotonic_ns()))
        return True

    def _refusal(self, reason: int, text: str, now: int, retry_after_s: float = 1.0) -> Overloaded:
        self._refused += 1
        self.busy_until_ns = now + SETTLE_NS
        self._block.shed(reason)
        return Overloaded(text, retry_after_s)

    def _think(self, now: int) -> None:
        """Once a window, fit the limit to what was seen; what waits beyond a limit that was cut is turned away."""
        if now < self._window_ends_ns:
            return
        past = min(MOST_WINDOWS, 1 + (now - self._window_ends_ns) // WINDOW_NS)
        tolerated = self._threads * tolerated_ns(self._call_ns, self._run_ns, self._threads) / max(1.0, self._call_ns)
        self._limit = next_limit(self._limit, self._inside, self._refused, tolerated)
        for _ in range(past - 1):  # in which nobody came
            self._limit = next_limit(self._limit, self._inside, 0, tolerated)
        self._refused = 0
        self._window_ends_ns = now + WINDOW_NS
        self._block.limited(int(self._limit.value))
        while self._inside > self._limit.value and self._turn_away(Priority.CRITICAL - 1, QUEUE_FULL):
            pass

    # The threads.

    def _start(self) -> None:
        self._started = True
        loop = asyncio.get_running_loop()
        for _ in range(self._threads):
            threading.Thread(target=self._work, args=(loop,), name="penstock-run", daemon=True).start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        group: Batch | None = None
        while (group := self._next(group)) is not None:
            model = self._model if group.breadth is Breadth.WIDE else self._narrow
            outcomes = batch_run.run(model, [entry.call for entry in group.entries], group.interrupt)
            try:
                loop.call_soon_threadsafe(self._settle, group, outcomes)
            except RuntimeError:  # the loop has ended while a run did that nobody waits for
                return

    def _breadth(self) -> Breadth | None:
        """How the next run would go that what waits can make; None if there is none, or not yet."""
        waiting = sum(map(len, self._queues))
        if not waiting:
            return None
        if self._narrow is self._model:
            return Breadth.NARROW
        runs_waiting = -(-waiting // self._rules.most_rows)
        return breadth(runs_waiting, self._wide_runs, self._narrow_runs, self._threads)

    def _next(self, ended: Batch | None) -> Batch | None:
        """The calls of this thread's next run, once there is one; None when the lane is closed."""
        with self._changed:
            if ended is not None:
                self._count(ended.breadth, -1)
            while True:
                chosen = self._breadth()
                queue = next(filter(None, self._queues), None)
                if queue is None and self._closing:
                    self._changed.notify_all()  # those that let this one go first
                    return None
                if queue is None or chosen is None:
                    self._changed.wait()
                    continue
                now = monotonic_ns()
                entries = list(islice(queue, LOOKED_AT))
                keys, rows = [entry.key for entry in entries], [entry.call.rows for entry in entries]
                places, until_ns = next_run(keys, rows, entries[0].entered_ns, self._rules, now)
                if not places:
                    self._changed.wait((until_ns - now) / 1e9)
                    continue
                group = Batch([entries[place] for place in places], chosen)
                for entry in group.entries:
                    entry.group = group
                    queue.remove(entry)
                self._count(chosen, 1)
                if self._breadth() is not None:
                    self._changed.notify()
                return group

    def _count(self, chosen: Breadth, change: int) -> None:
        if chosen is Breadth.WIDE:
            self._wide_runs += change
        else:
            self._narrow_runs += change

    def _settle(self, group: Batch, outcomes: list[Outcome]) -> None:
        """Tell whoever waits; the calls of a run are told one after the other in one turn of the loop."""
        self._inside -= len(group.entries)
        first = group.entries[0].call
        if not isinstance(outcomes[0], Fault):
            ran_ns = first.ran_ns - first.started_ns
            self._run_ns = smoothed(self._run_ns, ran_ns)
            self._call_ns = smoothed(self._call_ns, ran_ns / len(group.entries))
        for entry, outcome in zip(group.entries, outcomes, strict=True):
            if entry.over:
                self._leaving -= 1
            else:
                self._tell(entry, outcome)
