"""Threads for work of requests that would hold the event loop: large decoding, encoding, inflating and deflating.

Work that holds the GIL has to come in slices with pauses between (see ``core.slices``); what releases it, such as zlib,
need not. Short work goes first, but no job waits for ever: a job is queued as if it had arrived later, by the
time that its bytes take.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from threading import Condition, Thread
from time import monotonic_ns
from typing import Any, Final, TypeVar

from penstock.core.errors import Cancelled, Overloaded
from penstock.engine.threads import lower_priority

THREADS: Final = 2
"""Two threads: one for work that holds the GIL, because two such would wait for each other, and one for zlib."""

NICENESS: Final = 5
"""Niceness of the threads: the event loop comes first if both need the same core."""

NS_PER_BYTE: Final = 50
"""Assumed cost of a byte of work; it only affects the order of jobs."""

Result = TypeVar("Result")

OffloadedFunction = Callable[[], Any]
Done = Callable[[Any, Exception | None], None]
"""Called on the event loop with the result of the work and None, or with None and its exception."""

log = logging.getLogger("penstock.serving")


class OffloadedJob:
    """Submitted work; its methods belong to the event loop."""

    __slots__ = ("_done", "_work", "loop", "size")

    def __init__(self, work: OffloadedFunction, done: Done, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self._work: OffloadedFunction | None = work
        self._done: Done | None = done
        self.size = size
        self.loop = loop

    def cancel(self) -> None:
        """Cancel the job: work that has not begun is skipped, and ``done`` gets ``Cancelled``."""
        self._work = None

    def run(self) -> tuple[Any, Exception | None]:
        """Do the work; on any thread, never raises."""
        work = self._work
        if work is None:
            return None, Cancelled("the client closed the connection")
        try:
            return work(), None
        except Exception as error:
            return None, error

    def finish(self, result: Any, error: Exception | None) -> None:
        """Call ``done`` with the result."""
        done, self._work, self._done = self._done, None, None
        if done is not None:
            done(result, error)


class OffloadPool:
    """A queue of work bounded in bytes, and the threads that do it; ``submit`` and ``close`` belong to the event loop.

    ``waiting_bytes`` is the work that was submitted and has not come back, ``refused`` the number of rejected jobs.
    """

    def __init__(self, max_bytes: int, threads: int = THREADS, clock: Callable[[], int] = monotonic_ns) -> None:
        self.waiting_bytes = 0
        self.refused = 0
        self._max_bytes = max_bytes
        self._most_threads = threads
        self._clock = clock
        self._threads: list[Thread] = []
        self._jobs: list[tuple[int, int, OffloadedJob]] = []
        self._changed = Condition()
        self._number = 0
        self._idle = 0
        self._closed = False

    def submit(self, work: OffloadedFunction, done: Done, size: int) -> OffloadedJob:
        """Run ``work`` on a thread and call ``done`` with its result on this loop; ``size`` is the bytes that it
        processes. A job larger than the bound is accepted if nothing else waits.

        Raises:
            Overloaded: the queue is full, or the threads have been stopped.
        """
        if self._closed or (self.waiting_bytes and self.waiting_bytes + size > self._max_bytes):
            self.refused += 1
            raise Overloaded("too much large work is waiting; try again later")
        job = OffloadedJob(work, done, size, asyncio.get_running_loop())
        self.waiting_bytes += size
        with self._changed:
            self._number += 1
            heappush(self._jobs, (self._clock() + size * NS_PER_BYTE, self._number, job))
            if self._idle < len(self._jobs) and len(self._threads) < self._most_threads:
                self._start()
            self._changed.notify()
        return job

    async def run(self, work: Callable[[], Result], size: int) -> Result:
        """Wait for work on a thread; raises as the work and ``submit`` do. Cancelling skips work that has not begun."""
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[Result] = loop.create_future()
        job = self.submit(work, partial(_set_outcome, finished), size)
        try:
            return await finished
        finally:
            job.cancel()
            del finished  # it refers to what is raised here, and that to this frame

    def close(self) -> None:
        """Stop the threads, each after its current job; waiting jobs end with ``Overloaded``."""
        with self._changed:
            self._closed = True
            left, self._jobs = self._jobs, []
            self._changed.notify_all()
        for _, _, job in left:
            self._on_returned(job, None, Overloaded("the server is stopping; try again later"))

    def _start(self) -> None:
        thread = Thread(target=self._run, name=f"offload-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        lower_priority(NICENESS)
        while (job := self._next()) is not None:
            result, error = job.run()
            try:
                job.loop.call_soon_threadsafe(self._on_returned, job, result, error)
            except RuntimeError:  # the loop has been closed, and with it everybody who waited
                return
            del job, result, error  # an idle thread must not keep what it worked on

    def _next(self) -> OffloadedJob | None:
        with self._changed:
            self._idle += 1
            while not self._jobs and not self._closed:
                self._changed.wait()
            self._idle -= 1
            return heappop(self._jobs)[2] if self._jobs else None

    def _on_returned(self, job: OffloadedJob, result: Any, error: Exception | None) -> None:
        self.waiting_bytes -= job.size
        try:
            job.finish(result, error)
        except Exception as bug:  # of one connection; the others go on
            log.exception("the callback of offloaded work failed", exc_info=bug)


def _set_outcome(finished: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if finished.done():
        return
    if error is None:
        finished.set_result(result)
    else:
        finished.set_exception(error)
