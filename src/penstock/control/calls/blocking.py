"""Runs calls that block (database, bucket, MLflow, sinks, exams) on bounded threads by kind, each with a deadline.

A call that is late is abandoned: its caller hears so, and its thread counts as busy until the call returns. A neighbour
that hangs holds the threads of its own pool and no others, and everything goes on when it answers again.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock.core.errors import NotReady
from penstock.engine.threads import BACKGROUND, lower_priority
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

READ_S = 1.5
"""Deadline of reads for a person who uses the admin API."""

CALL_S = 8.0
"""Deadline of other calls into the database: longer than its own limits, so that its own error comes first."""

DEADLINE_FACTOR = 1.0
"""Multiplies all deadlines; tests on a busy machine that are not about deadlines raise it."""

MOST_WAITING = 64
IDLE_S = 10.0
"""Time after which an idle thread ends."""

CLOSE_S = 0.25
"""Time for open calls to end when a pool is closed; the process does not wait for the others."""

DATABASE = "the registry's database"
STOPPING = "the gateway is stopping"

T = TypeVar("T")


@dataclass(slots=True)
class BlockingCall:
    """One call: ``returned``: its function has returned; ``abandoned``: nobody waits for it."""

    work: Callable[[], Any]
    future: "Future[Any]"
    returned: bool = False
    abandoned: bool = False


class BlockingPool:
    """``most_threads`` daemon threads of low priority, started on demand, and ``most_waiting`` calls that wait for one.

    ``name`` labels the pool's metrics, ``subject`` is what faults say does not answer, ``deadline_s`` the usual
    deadline in seconds. Any event loop and any thread may use it.
    """

    def __init__(
        self,
        name: str,
        most_threads: int,
        subject: str = DATABASE,
        deadline_s: float = CALL_S,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.name = name
        self._most_threads = most_threads
        self._most_waiting = most_waiting
        self._subject = subject
        self._deadline_s = deadline_s
        lock = threading.Lock()
        self._changed = threading.Condition(lock)  # for the threads
        self._ended = threading.Condition(lock)  # for who waits until no call runs
        self._waiting: deque[BlockingCall] = deque()
        self._threads = self._idle = self._running = self._abandoned = 0
        self._refused: Counter[str] = Counter()
        self._closed = False

    async def call(self, function: Callable[..., T], *arguments: Any, deadline_s: float | None = None) -> T:
        """What a function returns or raises, called on a thread; ``deadline_s`` (seconds) includes the wait for one.

        Raises:
            NotReady: too many calls wait, the deadline is over, or the pool is closed. A late call that was begun goes
                on: what it changes may still take effect.
        """
        result: T = await self.result(self.submit(lambda: function(*arguments)), deadline_s)
        return result

    async def result(self, job: BlockingCall, deadline_s: float | None = None) -> Any:
        """Return what a submitted call returns, or raise what it raises; as ``call``."""
        limit = DEADLINE_FACTOR * (self._deadline_s if deadline_s is None else deadline_s)
        waiter: asyncio.Future[Any] = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait({waiter}, timeout=limit)
        finally:
            if is_overdue := not waiter.done():
                self.abandon(job)
                waiter.cancel()
        if is_overdue:
            raise NotReady(f"{self._subject} did not answer within {limit:g} s; try again later")
        return waiter.result()

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Refuse waiting and new calls, and wait a moment (seconds) for open calls to end. Blocks."""
        with self._changed:
            self._closed = True
            refused = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in refused:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(NotReady(STOPPING))
        with self._ended:
            self._ended.wait_for(lambda: not self._running, wait_s)

    def readings(self) -> Iterator[Reading]:
        """Return how many calls run, wait and are abandoned, and how many were refused."""
        with self._changed:
            counts = {"running": self._running, "waiting": len(self._waiting), "abandoned": self._abandoned}
        for state, count in counts.items():
            yield Point(metrics.BLOCKING_CALLS, (self.name, state), count)
        for reason in ("full", "late"):
            yield Point(metrics.BLOCKING_CALLS_REFUSED, (self.name, reason), self._refused[reason])

    def submit(self, work: Callable[[], Any]) -> BlockingCall:
        """Begin a call whose caller polls its future, and abandons it when it is late.

        Raises:
            NotReady: too many calls wait, or the pool is closed.
        """
        job = BlockingCall(work, Future())
        with self._changed:
            if self._closed:
                raise NotReady(STOPPING)
            if self._running + len(self._waiting) >= self._most_threads + self._most_waiting:
                self._refused["full"] += 1
                raise NotReady(f"too many calls wait for {self._subject}; try again later")
            self._waiting.append(job)
            if self._idle < len(self._waiting) and self._threads < self._most_threads:
                self._threads += 1
                threading.Thread(target=self._work, name=self.name, daemon=True).start()
            self._changed.notify()
        return job

    def abandon(self, job: BlockingCall) -> None:
        """Stop waiting for a call: it does not begin if it has not yet, and its future is cancelled."""
        with self._changed:
            self._refused["late"] += 1
            if job in self._waiting:
                self._waiting.remove(job)
                job.future.cancel()
            elif not job.returned:
                job.abandoned = True
                self._abandoned += 1

    # On a thread of the pool.

    def _work(self) -> None:
        lower_priority(BACKGROUND)
        while (job := self._next()) is not None:
            self._perform(job)

    def _next(self) -> BlockingCall | None:
        """Return the next call; None if this thread is to end."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._closed, IDLE_S)
            self._idle -= 1
            if not self._waiting:
                self._threads -= 1
                return None
            self._running += 1
            job = self._waiting.popleft()
            job.future.set_running_or_notify_cancel()
            return job

    def _perform(self, job: BlockingCall) -> None:
        result, fault = None, None
        try:
            result = job.work()
        except Exception as error:
            fault = error
        except BaseException as error:  # such as SystemExit of a sink from elsewhere: it must not end the event loop
            fault = RuntimeError(f"{type(error).__name__}: {error}")
        if isinstance(fault, StopIteration):
            fault = RuntimeError("StopIteration")  # no future takes it
        with self._changed:
            job.returned = True
            self._running -= 1
            self._abandoned -= job.abandoned
            self._ended.notify_all()  # not the idle threads: there is nothing for them
        if fault is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(fault)


def pool_readings(pools: Iterable[BlockingPool]) -> Iterator[Reading]:
    """Return the readings of several pools."""
    for pool in pools:
        yield from pool.readings()
