"""An event loop in virtual time: pauses cost nothing, and what would run on threads runs on the loop, in one order.

Each host of the simulation has a context of its own. What its code hands to an executor is work of that host: it begins
after a moment, waits while the host is frozen, and never begins once the host is gone.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from penstock.control.calls.blocking import BlockingCall, BlockingPool
from penstock.core.errors import NotReady

EPOCH = 1_700_000_000.0
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Machine:
    """Where work runs; ``delay_s`` gives the time until the next piece begins."""

    def __init__(self, delay_s: Callable[[], float]) -> None:
        self.delay_s = delay_s
        self.alive = True
        self.frozen = False
        self._waiting: list[Callable[[], None]] = []

    def do(self, work: Callable[[], None]) -> None:
        """Do something now, or when the machine is not frozen any more."""
        if self.frozen:
            self._waiting.append(work)
        elif self.alive:
            work()

    def thaw(self) -> None:
        """Go on with what waits."""
        self.frozen = False
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            self.do(work)


MACHINE: ContextVar[Machine] = ContextVar("machine")


class _Skipping(selectors.SelectSelector):
    """Waits for nothing but time, which it lets pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the simulation waits for nothing")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at zero; ``wall`` gives seconds since the epoch."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now

    def wall(self) -> float:
        return EPOCH + self.time()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        machine = MACHINE.get()
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_later(machine.delay_s(), machine.do, run)
        return future


def submit(_: BlockingPool, work: Callable[[], Any]) -> BlockingCall:
    """What a pool's ``submit`` does, without threads."""
    job, machine = BlockingCall(work, Future()), MACHINE.get()
    asyncio.get_running_loop().call_later(machine.delay_s(), machine.do, partial(_perform, job))
    return job


def _perform(job: BlockingCall) -> None:
    job.returned = True
    try:
        job.future.set_result(job.work())
    except Exception as error:
        job.future.set_exception(error)


async def result(pool: BlockingPool, job: BlockingCall, deadline_s: float | None = None) -> Any:
    """What a pool's ``result`` does: a call that is late is abandoned, and goes on."""
    limit = pool._deadline_s if deadline_s is None else deadline_s
    over = asyncio.Event()
    job.future.add_done_callback(lambda _: over.set())
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), limit)
    if job.future.done():
        return job.future.result()
    job.abandoned = True
    raise NotReady(f"no answer within {limit:g} s")
