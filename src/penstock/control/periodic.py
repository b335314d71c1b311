"""Supervised periodic work: it goes on whatever one step does, one bad key stops no other, and its state is told.

Every loop of the control process is a ``PeriodicTask``; nothing else here or above runs work again and again.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock.core.errors import Fault
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")

JITTER = 0.1
"""Part of an interval by which a pause may be longer or shorter, so that gateways and tasks do not march in step."""

MOST_SUBJECTS = 1000
"""Subjects whose complaints are remembered; of more, the oldest are forgotten, and told again."""

FIRST_S, LONGEST_S = 1.0, 60.0
"""Pauses after the first failure of a key, and after many in a row."""

SLOWEST_S = 5.0
"""A task whose steps fail is tried at least that often, or at its interval if that is longer."""

OVERDUE_S = 300.0
DOUBLINGS = 30

Clock = Callable[[], float]
Pause = Callable[[asyncio.Event, float], Awaitable[None]]
Key = TypeVar("Key", bound=Hashable)


# When something is due.


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often in a row something has failed, when it is due again (monotonic seconds), and what was wrong."""

    failures: int = 0
    due: float = 0.0
    problem: str = ""

    def failed(self, problem: str, now: float, limits: tuple[float, float], chance: float) -> "Attempts":
        """After one more failure; ``limits`` are the first and the longest pause, ``chance`` is 0 to 1."""
        failures = self.failures + 1
        return Attempts(failures, now + backoff_s(failures, *limits, chance), problem)


def backoff_s(failures: int, first_s: float, longest_s: float, chance: float) -> float:
    """The pause after so many failures in a row: twice as long each time, and a random part of a half off."""
    return min(longest_s, first_s * 2.0 ** min(max(failures - 1, 0), DOUBLINGS)) * (1 - chance / 2)


def interval_s(failures: int, interval: float, chance: float) -> float:
    """The pause of a task whose last steps failed so often in a row: its interval, or longer, with jitter."""
    longest = max(interval, SLOWEST_S)
    pause = min(longest, interval * 2.0 ** min(failures, DOUBLINGS))
    return pause * (1 + JITTER * (2 * chance - 1))


def due_keys(keys: Iterable[Key], attempts: dict[Key, Attempts], now: float) -> list[Key]:
    """Those whose time has come, in their order."""
    return [key for key in keys if key not in attempts or now >= attempts[key].due]


# Saying what is wrong.


class Complaints:
    """Logs what is wrong with each subject once, until it changes or is over."""

    def __init__(self) -> None:
        self._told: dict[Hashable, str] = {}

    def tell(self, subject: Hashable, text: str, error: BaseException | None = None) -> None:
        """Something is wrong; ``error`` is logged with its trace, unless it is a fault, which explains itself.

        A fault is the same for as long as its sentence is, whatever its whole reason says beside that.
        """
        sign = str(error) if isinstance(error, Fault) else text
        if self._told.get(subject) == sign:
            return
        if subject not in self._told and len(self._told) >= MOST_SUBJECTS:
            del self._told[next(iter(self._told))]
        self._told[subject] = sign
        bug = error is not None and not isinstance(error, Fault)
        log.log(logging.ERROR if bug else logging.WARNING, text, exc_info=error if bug else None)

    def over(self, subject: Hashable) -> bool:
        """Nothing is wrong any more; whether something was."""
        return self._told.pop(subject, None) is not None

    def retain(self, subjects: Collection[Hashable]) -> None:
        """Forget all other subjects."""
        self._told = {subject: text for subject, text in self._told.items() if subject in subjects}


def describe(error: BaseException) -> str:
    """What went wrong, for operators: a fault's whole reason, or the kind and text of an exception."""
    if isinstance(error, Fault):
        return error.whole
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# Isolation by key.


class KeyedWork(Generic[Key]):
    """Work of one task on several keys: one that fails is put off by itself, and the others go on.

    ``shared`` are exceptions that concern every key, such as a database that is away: they end the step. Of one event
    loop, or of one thread.
    """

    def __init__(
        self,
        task: "PeriodicTask",
        what: str,
        limits: tuple[float, float] = (FIRST_S, LONGEST_S),
        shared: tuple[type[Exception], ...] = (),
    ) -> None:
        self._task = task
        self._what = what
        self._limits = limits
        self._shared = shared
        self._attempts: dict[Key, Attempts] = {}
        self._complaints = Complaints()

    def due(self, keys: Iterable[Key]) -> list[Key]:
        """Those of all keys that are to be worked on now; what is known of other keys is forgotten."""
        named = list(keys)
        self._attempts = {key: self._attempts[key] for key in named if key in self._attempts}
        self._complaints.retain(self._attempts)
        return due_keys(named, self._attempts, self._task.clock())

    def put_off(self) -> list[Key]:
        """Those that are not to be worked on now, for callers who do not know all keys; what nobody has tried again
        long after it was due is forgotten."""
        now = self._task.clock()
        kept = {key: one for key, one in self._attempts.items() if now < one.due + self._limits[1]}
        self._attempts = kept
        self._complaints.retain(kept)
        return [key for key, one in kept.items() if now < one.due]

    @contextmanager
    def isolated(self, key: Key) -> Iterator[None]:
        """Around the work on one key."""
        try:
            yield
        except self._shared:
            raise
        except Exception as error:
            self.failed(key, error)
        else:
            self.succeeded(key)

    def failed(self, key: Key, error: Exception) -> None:
        """Put a key off, and say why."""
        known, problem = self._attempts.get(key, Attempts()), describe(error)
        self._attempts[key] = known.failed(problem, self._task.clock(), self._limits, self._task.chance())
        self._task.failures += 1
        self._complaints.tell(key, f"{self._what} {_named(key)}: {problem}", error)

    def succeeded(self, key: Key) -> None:
        """Nothing is wrong with a key any more."""
        self._attempts.pop(key, None)
        if self._complaints.over(key):
            log.info("%s %s: as it should be again", self._what, _named(key))

    def problem(self, key: Key) -> str:
        """What is wrong with a key, "" for nothing."""
        return self._attempts[key].problem if key in self._attempts else ""

    @property
    def problems(self) -> dict[Key, str]:
        """What is wrong, by key."""
        return {key: one.problem for key, one in self._attempts.items()}


def _named(key: object) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


# Tasks.


async def wait(woken: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, or that long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()


class PeriodicTask:
    """Does a step again and again, about ``interval_s`` apart; a step that fails is tried again, at longer pauses.

    ``delay_s`` passes before the first step. The task is overdue if no step has ended, well or badly, for
    ``overdue_s`` beyond its interval. ``last_success`` is when a step last ended well, before the first one when the
    task was made. ``meanwhile`` says what holds while steps end in faults. ``clock`` is monotonic
    and ``now`` gives seconds since the epoch; ``pause`` waits for so many seconds, or until the event is set.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[object]],
        interval_s: float,
        *,
        delay_s: float = 0.0,
        overdue_s: float = OVERDUE_S,
        meanwhile: str = "",
        clock: Clock = time.monotonic,
        now: Clock = time.time,
        pause: Pause = wait,
        chance: Clock = random.random,
    ) -> None:
        self.name = name
        self.clock = clock
        self.chance = chance
        self.failures = 0
        self.last_success = now()  # one that has not had to run yet is not late
        self._step = step
        self._interval_s = interval_s
        self._delay_s = delay_s
        self._overdue_s = overdue_s
        self._meanwhile = meanwhile or f"{name} waits"
        self._now = now
        self._pause = pause
        self._woken = asyncio.Event()
        self._in_a_row = 0
        self._dead = ""
        self._ended = clock() + delay_s
        self._complaints = Complaints()

    def wake(self) -> None:
        """Do a step at once, or as soon as the one under way has ended."""
        self._woken.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        if self._delay_s or self._dead:
            await self._pause(self._woken, self.pause_s() if self._dead else self._delay_s)
        while True:
            self._woken.clear()
            await self.attempt()
            await self._pause(self._woken, self.pause_s())

    async def attempt(self) -> None:
        """Do one step; whatever it raises is counted and logged."""
        try:
            await self._step()
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            self._failed(error)  # something that the step waited for was cancelled, not the task
        except Exception as error:
            self._failed(error)
        else:
            self._succeeded()
        self._ended, self._dead = self.clock(), ""

    def pause_s(self) -> float:
        """The pause before the next step."""
        return interval_s(self._in_a_row, self._interval_s, self.chance())

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        self._in_a_row += 1
        text = describe(error)
        known = isinstance(error, Fault)
        self._complaints.tell(self.name, f"{self._meanwhile if known else f'task {self.name} failed'}: {text}", error)

    def _succeeded(self) -> None:
        self.last_success = self._now()
        self._in_a_row = 0
        if self._complaints.over(self.name):
            log.info("task %s: as it should be again", self.name)

    def died(self, error: BaseException | None) -> None:
        """Its loop has ended, which nobody asked for."""
        self._dead = "it ended" if error is None else describe(error)
        self._failed(error or RuntimeError("it ended"))

    @property
    def is_dead(self) -> bool:
        """Whether its loop has ended, and not been begun again yet."""
        return bool(self._dead)

    @property
    def problem(self) -> str:
        """Why the task is not alive, "" if it is. One whose steps fail, and are tried again, is alive."""
        if self._dead:
            return f"it is dead: {self._dead}"
        silent_s = self.clock() - self._ended
        late = silent_s > self._interval_s + self._overdue_s
        return f"it is overdue: no step has ended for {silent_s:.0f} s" if late else ""


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Tasks:
    """The periodic tasks of a process: one whose loop ends, which nobody asked for, is begun again after a pause."""

    def __init__(self) -> None:
        self._tasks: dict[str, PeriodicTask] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    def start(self, *tasks: PeriodicTask) -> None:
        """Run them until ``stop``."""
        for task in tasks:
            if task.name in self._tasks:
                raise ValueError(f"there are two tasks '{task.name}'")
            self._tasks[task.name] = task
            self._launch(task)

    def _launch(self, task: PeriodicTask) -> None:
        running = self._running[task.name] = asyncio.create_task(task.run(), name=task.name)
        running.add_done_callback(lambda ended: self._ended(task, ended))

    def _ended(self, task: PeriodicTask, running: "asyncio.Task[None]") -> None:
        if not self._stopped:
            task.died(asyncio.CancelledError("it was cancelled") if running.cancelled() else running.exception())
            self._launch(task)

    async def stop(self) -> None:
        """End them all."""
        self._stopped = True
        for running in self._running.values():
            running.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def __iter__(self) -> Iterator[PeriodicTask]:
        return iter(list(self._tasks.values()))

    @property
    def running(self) -> dict[str, "asyncio.Task[None]"]:
        """What runs each task now, by name."""
        return dict(self._running)

    def problems(self) -> dict[str, str]:
        """Tasks that are dead or overdue, and why."""
        return {} if self._stopped else {one.name: one.problem for one in self if one.problem}

    def readings(self) -> Iterator[Reading]:
        """When each task succeeded last, and how often it, or a key of it, failed."""
        for task in self:
            yield Point(metrics.TASK_LAST_SUCCESS, (task.name,), task.last_success)
            yield Point(metrics.TASK_FAILURES, (task.name,), task.failures)
