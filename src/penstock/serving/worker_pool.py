"""Threads for runs that are too long for the event loop: queues by class, batch runs, and deadlines."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from itertools import islice
from time import monotonic_ns
from typing import Final

from penstock.core.batching import BatchRules, next_run
from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, OverBudget
from penstock.core.labels import Priority
from penstock.core.placement import Parallelism, choose_parallelism
from penstock.engine.model import Model, RunInterrupt
from penstock.serving import batch_run
from penstock.serving.admission import MEMORY, PREEMPTED, QUEUE_FULL, ConcurrencyLimiter
from penstock.serving.batch_run import Outcome
from penstock.serving.idle_threads import FOREVER, IdleThreads, WakeLock, make_wake_lock
from penstock.serving.infer_call import InferCall
from penstock.serving.memory_budget import MemoryBudget

SCANNED: Final = 256
"""Maximum calls of a queue to consider for one run."""

OnOutcome = Callable[[InferCall, Outcome], None]
"""Called once, on the event loop, with the outcome of a call."""


class Phase(Enum):
    """The phases of a pool: its threads start with the first call, and end when it is closed and its queue is empty."""

    NEW = auto()
    RUNNING = auto()
    CLOSING = auto()


class Batch:
    """The calls of one run, its parallelism, and the number of calls that are still awaited."""

    __slots__ = ("awaited", "entries", "interrupt", "parallelism")

    def __init__(self, entries: "list[QueuedCall]", parallelism: Parallelism) -> None:
        self.entries = entries
        self.parallelism = parallelism
        self.awaited = len(entries)
        self.interrupt = RunInterrupt()


class QueuedCall:
    """A call that waits for a thread or runs on one, in ``batch``; ``over`` when its caller has the outcome.

    Then it lets go of whatever refers back to it, so that no cycle keeps the tensors of an answered request.
    """

    __slots__ = ("batch", "call", "enqueued_ns", "key", "on_outcome", "over", "priority", "rows", "size", "timers")

    def __init__(self, call: InferCall, on_outcome: OnOutcome, size: int, enqueued_ns: int) -> None:
        self.call = call
        self.on_outcome: OnOutcome | None = on_outcome
        self.key: Hashable = batch_run.batch_key(call)
        self.rows = call.rows
        self.priority = call.priority
        self.size = size
        self.enqueued_ns = enqueued_ns
        self.batch: Batch | None = None
        self.over = False
        self.timers: list[asyncio.TimerHandle] = []

    def complete(self, outcome: Outcome) -> None:
        """Pass the outcome to ``on_outcome``; on the event loop."""
        for timer in self.timers:
            timer.cancel()
        on_outcome = self.on_outcome
        self.over = True
        self.timers, self.on_outcome, self.batch = [], None, None
        if on_outcome is not None:
            on_outcome(self.call, outcome)


FinishedRun = tuple[Batch, list[InferCall], list[Outcome]]
"""The batch of a run that has ended, its calls, and their outcomes."""


class WorkerPool:
    """Threads that run one version's calls, by class and in order of arrival.

    All methods but those of the threads belong to the event loop. A call waits at most ``max_wait_ns`` (0 = to its
    deadline), and its input counts in the worker's memory budget until its run has ended.
    """

    def __init__(
        self,
        model: Model,
        threads: int,
        limiter: ConcurrencyLimiter,
        memory: MemoryBudget,
        rules: BatchRules,
        max_wait_ns: int = 0,
    ) -> None:
        self._model = model
        self._single_threaded = model if model.single_threaded is None else model.single_threaded
        self._multi_threaded_runs = self._single_threaded_runs = 0
        self._threads = threads
        self._limiter = limiter
        self._memory = memory
        self._max_wait_ns = max_wait_ns
        self._idle = IdleThreads()
        self._queues: tuple[deque[QueuedCall], ...] = tuple(deque() for _ in Priority)
        self._phase = Phase.NEW
        self.rules = rules
        limiter.queues = self._queues

    def enqueue(self, call: InferCall, on_outcome: OnOutcome) -> QueuedCall:
        """Queue a call; ``on_outcome`` is called with its outcome, at its deadline at the latest.

        Raises:
            Overloaded: the queue is full, or it is longer than the call can wait.
            OverBudget: its input does not fit into the memory budget now.
            TooLarge: its input does not fit into the whole memory budget.
        """
        now = monotonic_ns()
        limiter, priority = self._limiter, call.priority
        limiter.update(now)
        self._evict_excess()
        if not limiter.has_capacity(priority) and not self._evict_newest(priority, PREEMPTED):
            raise limiter.rejection(QUEUE_FULL, now)
        error = limiter.deadline_error(priority, call.deadline_ns, now)
        if error is not None:
            raise error
        size = call.input_bytes
        if not self._memory.take(size):
            raise self._without_memory(call)
        if self._phase is Phase.NEW:
            self._start()
        entry = QueuedCall(call, on_outcome, size, now)
        self._set_timers(entry, call.deadline_ns - now)
        limiter.enter()
        with self._idle.lock:
            self._queues[priority].append(entry)
            self._wake_next()
        limiter.publish()
        return entry

    def _without_memory(self, call: InferCall) -> Fault:
        """Return the error of a call whose input does not fit into memory."""
        text = "the server has no memory left for the request; try again later"
        fault = self._memory.refusal(call.input_bytes, text)
        if isinstance(fault, OverBudget):
            call.loaded.block.count_shed(MEMORY)
        return fault

    def cancel(self, entry: QueuedCall) -> None:
        """Cancel a call, and stop its run unless other calls share it."""
        self._end(entry, Cancelled("the client closed the connection"))

    def close(self) -> None:
        """End the threads when the queue is empty; on the event loop, after the last call was queued."""
        with self._idle.lock:
            self._phase = Phase.CLOSING
            self._idle.wake_all()

    # Ends before the run's own.

    def _set_timers(self, entry: QueuedCall, left_ns: int) -> None:
        call_later = asyncio.get_running_loop().call_later
        entry.timers.append(call_later(max(0, left_ns) / 1e9, self._expire, entry))
        if self._max_wait_ns:
            entry.timers.append(call_later(self._max_wait_ns / 1e9, self._expire_waiting, entry))

    def _expire(self, entry: QueuedCall) -> None:
        self._end(entry, DeadlineExceeded("the deadline passed before an answer was ready"))

    def _expire_waiting(self, entry: QueuedCall) -> None:
        if entry.batch is None:
            self._end(entry, DeadlineExceeded("the model's queue timeout passed while waiting"))

    def _end(self, entry: QueuedCall, fault: Fault) -> None:
        if entry.over:
            return
        with self._idle.lock:
            batch = entry.batch
            if batch is None:
                self._queues[entry.priority].remove(entry)
            else:
                self._limiter.cancelled_running += 1
                batch.awaited -= 1
                if not batch.awaited:
                    batch.interrupt.stop()
        if batch is None:
            self._leave(entry)
        entry.complete(fault)

    def _leave(self, entry: QueuedCall) -> None:
        """Note that a call has left the system: it never began, or its run has ended."""
        self._limiter.in_system -= 1
        self._limiter.publish()
        self._memory.give_back(entry.size)

    def _evict_newest(self, priority: int, reason: int) -> bool:
        """Reject the newest waiting call of the least urgent class, if that is less urgent; return whether there was
        one.
        """
        with self._idle.lock:  # a thread may be taking it
            queue = next(filter(None, reversed(self._queues[priority + 1 :])), None)
            if queue is None:
                return False
            entry = queue.pop()
        self._leave(entry)
        entry.complete(self._limiter.rejection(reason, monotonic_ns()))
        return True

    def _evict_excess(self) -> None:
        """Reject waiting calls beyond a reduced limit."""
        while self._limiter.is_over_limit() and self._evict_newest(Priority.CRITICAL - 1, QUEUE_FULL):
            pass

    # The threads.

    def _start(self) -> None:
        self._phase = Phase.RUNNING
        loop = asyncio.get_running_loop()
        for _ in range(self._threads):
            threading.Thread(target=self._work, args=(loop,), name="penstock-run", daemon=True).start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        wake = make_wake_lock()
        run: FinishedRun | None = None
        while True:
            batch = self._next_at_once(run)
            # The next run is chosen by now: the loop wakes when this thread is about to release the GIL.
            if run is not None and not self._post(loop, run):
                return
            run = None  # an idle thread must not keep what it ran
            batch = batch or self._next(wake)
            if batch is None:
                return
            run = self._run(batch)
            batch = None

    def _run(self, batch: Batch) -> FinishedRun:
        model = self._model if batch.parallelism is Parallelism.MULTI_THREADED else self._single_threaded
        calls = [entry.call for entry in batch.entries]
        return batch, calls, batch_run.run(model, calls, batch.interrupt)

    def _post(self, loop: asyncio.AbstractEventLoop, run: FinishedRun) -> bool:
        """Complete the calls of a run on the loop; return whether it is still open."""
        try:
            loop.call_soon_threadsafe(self._complete_batch, *run)
        except RuntimeError:  # the loop was closed during an abandoned run
            return False
        return True

    def _wake_next(self) -> None:
        """Wake a thread that waits, if there is a run for it."""
        if not self._idle.is_empty and self._next_parallelism() is not None:
            self._idle.wake_one()

    def _next_parallelism(self) -> Parallelism | None:
        """Return the parallelism of the next run of the waiting calls; None if there is no run now."""
        waiting = 0
        for queue in self._queues:
            waiting += len(queue)
        if not waiting:
            return None
        if self._single_threaded is self._model:
            return Parallelism.SINGLE_THREADED
        runs_waiting = -(-waiting // self.rules.most_rows)
        return choose_parallelism(runs_waiting, self._multi_threaded_runs, self._single_threaded_runs, self._threads)

    def _next_at_once(self, ended: FinishedRun | None) -> Batch | None:
        """Return this thread's next batch after a run that has ended; None if it has to wait for one."""
        if ended is None:
            return None
        with self._idle.lock:
            self._count(ended[0].parallelism, -1)
            return self._take()[0]

    def _next(self, wake: WakeLock) -> Batch | None:
        """Return this thread's next batch when there is one; None when the pool is closed and nothing waits."""
        with self._idle.lock:
            while True:
                batch, wait_s = self._take()
                if batch is not None:
                    return batch
                if self._phase is Phase.CLOSING and not any(self._queues):
                    self._idle.wake_all()  # those that let this one go first
                    return None
                self._idle.wait(wake, wait_s)

    def _take(self) -> tuple[Batch | None, float]:
        """Take the calls of the next run from their queue; None, and the seconds to wait, if there is no run now."""
        chosen = self._next_parallelism()
        if chosen is None:
            return None, FOREVER
        queue = next(filter(None, self._queues))
        entries, wait_s = self._take_calls(queue)
        if not entries:
            return None, wait_s
        batch = Batch(entries, chosen)
        for entry in entries:
            entry.batch = batch
        self._count(chosen, 1)
        self._wake_next()
        return batch, 0.0

    def _take_calls(self, queue: "deque[QueuedCall]") -> tuple[list[QueuedCall], float]:
        """Take the calls of the next run from a queue; none, and the seconds to wait, if others may join them."""
        rules = self.rules
        if not rules.delay_ns and (len(queue) == 1 or rules.most_rows == 1):
            return [queue.popleft()], 0.0
        now = monotonic_ns()
        waiting = list(islice(queue, SCANNED))
        keys, rows = [entry.key for entry in waiting], [entry.rows for entry in waiting]
        places, until_ns = next_run(keys, rows, waiting[0].enqueued_ns, rules, now)
        entries = [waiting[index] for index in places]
        for entry in entries:
            queue.remove(entry)
        return entries, (until_ns - now) / 1e9

    def _count(self, chosen: Parallelism, change: int) -> None:
        if chosen is Parallelism.MULTI_THREADED:
            self._multi_threaded_runs += change
        else:
            self._single_threaded_runs += change

    def _complete_batch(self, batch: Batch, calls: list[InferCall], outcomes: list[Outcome]) -> None:
        """Complete the calls of a run in one turn of the loop."""
        entries, batch.entries = batch.entries, []
        first = calls[0]
        if not isinstance(outcomes[0], Fault):
            self._limiter.note_run(first.ran_ns - first.started_ns, len(entries))
        for index, entry in enumerate(entries):
            self._leave(entry)
            if entry.over:
                self._limiter.cancelled_running -= 1
            else:
                entry.complete(outcomes[index])
