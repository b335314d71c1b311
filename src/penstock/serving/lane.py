"""First-in-first-out threads for runs too long for the event loop, with a bounded queue and real deadlines."""

import asyncio
import threading
from functools import partial
from queue import SimpleQueue
from time import monotonic_ns

from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, Internal, Overloaded
from penstock.core.queueing import comes_too_late, expected_wait_ns, smoothed
from penstock.core.tensors import Array
from penstock.engine.model import Interrupt, Model
from penstock.serving.calls import Call


class Entry:
    """A run that waits for a thread; ``abandoned`` is set when its caller has been answered already."""

    __slots__ = ("abandoned", "call", "future", "interrupt", "running")

    def __init__(self, call: Call, future: "asyncio.Future[list[Array]]") -> None:
        self.call = call
        self.future = future
        self.interrupt = Interrupt()
        self.abandoned = False
        self.running = False


class Lane:
    """Threads that run one model's calls in order of arrival; all methods but the threads' are the loop's.

    At most ``bound`` calls wait or run, and none waits longer than ``max_wait_ns`` (0 = to its deadline).
    """

    def __init__(self, model: Model, threads: int, bound: int, max_wait_ns: int = 0) -> None:
        self._model = model
        self._threads = threads
        self._bound = bound
        self._max_wait_ns = max_wait_ns
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._waiting = self._dead = 0  # those that were given up are no longer waited for
        self._run_ns = float(model.run_ns or 0)  # what a run is expected to take
        self._started = False

    def enter(self, call: Call) -> Entry:
        """Queue a run; its ``future`` gets the outputs or a fault, at the deadline at the latest.

        Raises:
            Overloaded: the queue is full, or longer than the call can wait.
        """
        left_ns = max(0, call.deadline_ns - monotonic_ns())
        if self._waiting >= self._bound:
            raise Overloaded(f"the queue of this model is full ({self._bound} waiting); try again later")
        before = self._waiting - self._dead
        if comes_too_late(before, self._threads, self._run_ns, left_ns):
            wait_s = expected_wait_ns(before, self._threads, self._run_ns) / 1e9
            raise Overloaded(f"the queue of this model is {wait_s:.3g} s long, and the call has less time", wait_s)
        if not self._started:
            self._start()
        loop = asyncio.get_running_loop()
        entry = Entry(call, loop.create_future())
        left_s = left_ns / 1e9
        expired = DeadlineExceeded("the deadline passed before an answer was ready")
        timers = [loop.call_later(left_s, self.abandon, entry, expired)]
        if self._max_wait_ns:
            timers.append(loop.call_later(self._max_wait_ns / 1e9, self._expire, entry))
        for timer in timers:
            entry.future.add_done_callback(partial(_cancel, timer))
        self._waiting += 1
        self._queue.put(entry)
        return entry

    def abandon(self, entry: Entry, fault: Fault) -> None:
        """Answer a caller now and stop its run, whether it waits or runs."""
        if not entry.abandoned:
            entry.abandoned = True
            self._dead += 1
        entry.interrupt.stop()
        if not entry.future.done():
            entry.future.set_exception(fault)

    def _expire(self, entry: Entry) -> None:
        if not entry.running:
            self.abandon(entry, DeadlineExceeded("the model's queue timeout passed while waiting"))

    def close(self) -> None:
        """Let the threads end once the queue is empty."""
        for _ in range(self._threads if self._started else 0):
            self._queue.put(None)

    def _start(self) -> None:
        self._started = True
        loop = asyncio.get_running_loop()
        for _ in range(self._threads):
            threading.Thread(target=self._work, args=(loop,), name="penstock-run", daemon=True).start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (entry := self._queue.get()) is not None:
            result: list[Array] | Fault = Cancelled("given up before its run")
            if not entry.abandoned:
                result = self._run(entry)
            try:
                loop.call_soon_threadsafe(self._settle, entry, result)
            except RuntimeError:  # the loop has ended while an abandoned run did: nobody waits any more
                return

    def _run(self, entry: Entry) -> list[Array] | Fault:
        call = entry.call
        entry.running = True
        call.started_ns = monotonic_ns()
        if call.started_ns >= call.deadline_ns:
            return DeadlineExceeded("the deadline passed while waiting")
        try:
            outputs = self._model.run(*call.prepared, entry.interrupt)
        except Fault as fault:
            return fault
        except Exception as error:  # a thread must outlive any run
            return Internal(f"the model failed: {type(error).__name__}")
        call.ran_ns = monotonic_ns()
        return outputs

    def _settle(self, entry: Entry, result: list[Array] | Fault) -> None:
        self._waiting -= 1
        self._dead -= entry.abandoned
        if not isinstance(result, Fault):
            self._run_ns = smoothed(self._run_ns, entry.call.ran_ns - entry.call.started_ns)
        if entry.future.done():
            return
        if isinstance(result, Fault):
            entry.future.set_exception(result)
        else:
            entry.future.set_result(result)


def _cancel(timer: asyncio.TimerHandle, _: object) -> None:
    timer.cancel()
