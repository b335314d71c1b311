"""Supervised periodic tasks: a failing step or key stops nothing else, and metrics report the state of each task.

Every loop of the control process is a ``PeriodicTask``; nothing else here or above repeats work.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock.core.errors import Fault
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")

JITTER = 0.1
"""The share of an interval by which a pause is randomly longer or shorter, so that gateways and tasks spread out."""

GRID_S = 0.1
"""Tasks wake up at multiples of this time."""

MOST_SUBJECTS = 1000
"""Subjects whose problems are remembered; beyond that the oldest are forgotten, and logged again."""

FIRST_S, LONGEST_S = 1.0, 60.0
"""Pauses after the first failure of a key, and after many in a row, in seconds."""

SLOWEST_S = 5.0
"""The longest pause of a failing task, in seconds, unless its interval is longer."""

OVERDUE_S = 300.0
DOUBLINGS = 30

Clock = Callable[[], float]
WaitForEvent = Callable[[asyncio.Event, float], Awaitable[None]]
Key = TypeVar("Key", bound=Hashable)


# When something is due.


@dataclass(frozen=True, slots=True)
class RetryState:
    """The failures of something in a row, when it is due again (monotonic seconds), and the last problem."""

    failures: int = 0
    due: float = 0.0
    problem: str = ""

    def after_failure(self, problem: str, now: float, limits: tuple[float, float], chance: float) -> "RetryState":
        """The attempts after one more failure; ``limits`` are the first and the longest pause, ``chance`` is 0 to 1."""
        failures = self.failures + 1
        return RetryState(failures, now + backoff_s(failures, *limits, chance), problem)


def backoff_s(failures: int, first_s: float, longest_s: float, chance: float) -> float:
    """The pause after so many failures in a row: twice as long each time, and a random part of a half off."""
    return min(longest_s, first_s * 2.0 ** min(max(failures - 1, 0), DOUBLINGS)) * (1 - chance / 2)


def interval_s(failures: int, interval: float, chance: float) -> float:
    """The pause of a task whose last steps failed so often in a row: its interval, or longer, with jitter."""
    longest = max(interval, SLOWEST_S)
    pause = min(longest, interval * 2.0 ** min(failures, DOUBLINGS))
    return pause * (1 + JITTER * (2 * chance - 1))


def due_keys(keys: Iterable[Key], attempts: dict[Key, RetryState], now: float) -> list[Key]:
    """The keys that are due, in their order."""
    return [key for key in keys if key not in attempts or now >= attempts[key].due]


# Problems, logged once.


class ProblemLog:
    """Logs the problem of each subject once, until it changes or is cleared. Of one thread."""

    def __init__(self) -> None:
        self._problems: dict[Hashable, str] = {}

    def report(self, subject: Hashable, text: str, error: BaseException | None = None) -> None:
        """Log a problem; ``error`` is logged with its traceback unless it is a ``Fault``.

        A ``Fault`` counts as unchanged while its public text is the same, whatever its details say.
        """
        mark = str(error) if isinstance(error, Fault) else text
        if self._problems.get(subject) == mark:
            return
        if subject not in self._problems and len(self._problems) >= MOST_SUBJECTS:
            del self._problems[next(iter(self._problems))]
        self._problems[subject] = mark
        bug = error is not None and not isinstance(error, Fault)
        log.log(logging.ERROR if bug else logging.WARNING, text, exc_info=error if bug else None)

    def clear(self, subject: Hashable) -> bool:
        """Forget the problem of a subject; return whether it had one."""
        return self._problems.pop(subject, None) is not None

    def retain(self, subjects: Collection[Hashable]) -> None:
        """Forget the problems of all other subjects."""
        self._problems = {subject: text for subject, text in self._problems.items() if subject in subjects}


def describe(error: BaseException) -> str:
    """The text of an error for operators: the full reason of a fault, or the type and text of an exception."""
    if isinstance(error, Fault):
        return error.full_text
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# Isolation by key.


class KeyedWork(Generic[Key]):
    """Work of one task on several keys: a failing key backs off by itself, and the others go on.

    ``shared`` are exceptions that concern every key, such as an unreachable database: they end the step. Of one event
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
        self._attempts: dict[Key, RetryState] = {}
        self._problem_log = ProblemLog()

    def due(self, keys: Iterable[Key]) -> list[Key]:
        """The keys that are due now, of all ``keys``; the state of other keys is forgotten."""
        all_keys = list(keys)
        self._attempts = {key: self._attempts[key] for key in all_keys if key in self._attempts}
        self._problem_log.retain(self._attempts)
        return due_keys(all_keys, self._attempts, self._task.clock())

    def put_off(self) -> list[Key]:
        """The keys that are not due, for callers that do not know all keys; keys that were not tried for long after
        they were due are forgotten."""
        now = self._task.clock()
        kept = {key: attempt for key, attempt in self._attempts.items() if now < attempt.due + self._limits[1]}
        self._attempts = kept
        self._problem_log.retain(kept)
        return [key for key, item in kept.items() if now < item.due]

    @contextmanager
    def isolated(self, key: Key) -> Iterator[None]:
        """A context around the work on one key: its failure is recorded, and not raised."""
        try:
            yield
        except self._shared:
            raise
        except Exception as error:
            self.record_failure(key, error)
        else:
            self.record_success(key)

    def record_failure(self, key: Key, error: Exception) -> None:
        """Record and log the failure of a key, and back off."""
        state, problem = self._attempts.get(key, RetryState()), describe(error)
        self._attempts[key] = state.after_failure(problem, self._task.clock(), self._limits, self._task.chance())
        self._task.failures += 1
        self._problem_log.report(key, f"{self._what} {_key_text(key)}: {problem}", error)

    def record_success(self, key: Key) -> None:
        """Record the success of a key."""
        self._attempts.pop(key, None)
        if self._problem_log.clear(key):
            log.info("%s %s: it succeeds again", self._what, _key_text(key))

    def problem(self, key: Key) -> str:
        """The problem of a key, "" if it has none."""
        return self._attempts[key].problem if key in self._attempts else ""

    @property
    def problems(self) -> dict[Key, str]:
        """The problems, by key."""
        return {key: attempt.problem for key, attempt in self._attempts.items()}


def _key_text(key: object) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


# Tasks.


def align(at: float, phase: float) -> float:
    """The nearest of the moments at which the tasks of a process wake up: tasks that are due at nearly the same time
    share a wake-up. ``phase`` (0 to 1) shifts the moments, so that processes do not wake up together."""
    return (round(at / GRID_S - phase) + phase) * GRID_S


def phase_of(pid: int) -> float:
    """The phase of a process."""
    return pid * 0.618 % 1


async def wait(woken: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, which a timer does after about that many seconds: a timeout would cost twice as
    much."""
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    timer = loop.call_at(due if seconds < GRID_S / 2 else align(due, phase_of(os.getpid())), woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()


class PeriodicTask:
    """Repeats a step about every ``interval_s`` seconds; after failures the pauses are longer.

    ``delay_s`` passes before the first step. The task is overdue if no step has ended, with or without success, for
    ``overdue_s`` beyond its interval. ``last_success`` is when a step last succeeded (seconds since the epoch), at
    first when the task was made. ``meanwhile`` is the log text that says what holds while steps fail. ``clock`` is
    monotonic, ``now`` gives seconds since the epoch; ``pause`` waits for so many seconds, or until the event is set.
    Belongs to the event loop.
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
        pause: WaitForEvent = wait,
        chance: Clock = random.random,
    ) -> None:
        self.name = name
        self.clock = clock
        self.chance = chance
        self.failures = 0
        self.last_success = now()  # a task that has not been due yet is not overdue
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
        self._problem_log = ProblemLog()

    def wake(self) -> None:
        """Run a step at once, or as soon as the present one has ended."""
        self._woken.set()

    async def run(self) -> None:
        """Repeat the step until cancelled."""
        if self._delay_s or self._dead:
            await self._pause(self._woken, self.pause_s() if self._dead else self._delay_s)
        while True:
            self._woken.clear()
            await self.attempt()
            await self._pause(self._woken, self.pause_s())

    async def attempt(self) -> None:
        """Run one step; count and log any exception."""
        try:
            await self._step()
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            self._record_failure(error)  # something that the step waited for was cancelled, not the task
        except Exception as error:
            self._record_failure(error)
        else:
            self._record_success()
        self._ended, self._dead = self.clock(), ""

    def pause_s(self) -> float:
        """The pause before the next step."""
        return interval_s(self._in_a_row, self._interval_s, self.chance())

    def _record_failure(self, error: BaseException) -> None:
        self.failures += 1
        self._in_a_row += 1
        text = describe(error)
        is_fault = isinstance(error, Fault)
        self._problem_log.report(
            self.name, f"{self._meanwhile if is_fault else f'task {self.name} failed'}: {text}", error
        )

    def _record_success(self) -> None:
        self.last_success = self._now()
        self._in_a_row = 0
        if self._problem_log.clear(self.name):
            log.info("task %s succeeds again", self.name)

    def record_death(self, error: BaseException | None) -> None:
        """Record that the task's loop has ended unexpectedly."""
        self._dead = "it ended" if error is None else describe(error)
        self._record_failure(error or RuntimeError("it ended"))

    @property
    def is_dead(self) -> bool:
        """Whether its loop has ended and was not started again yet."""
        return bool(self._dead)

    @property
    def problem(self) -> str:
        """Why the task is dead or overdue, "" if it is neither. A task whose steps fail is neither."""
        if self._dead:
            return f"it is dead: {self._dead}"
        silent_s = self.clock() - self._ended
        overdue = silent_s > self._interval_s + self._overdue_s
        return f"it is overdue: no step has ended for {silent_s:.0f} s" if overdue else ""


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Tasks:
    """The periodic tasks of a process; a loop that ends unexpectedly is started again after a pause."""

    def __init__(self) -> None:
        self._tasks: dict[str, PeriodicTask] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    def start(self, *tasks: PeriodicTask) -> None:
        """Run tasks until ``stop``; raises ``ValueError`` if a name is in use."""
        for task in tasks:
            if task.name in self._tasks:
                raise ValueError(f"there are two tasks '{task.name}'")
            self._tasks[task.name] = task
            self._launch(task)

    def _launch(self, task: PeriodicTask) -> None:
        running = self._running[task.name] = asyncio.create_task(task.run(), name=task.name)
        running.add_done_callback(lambda ended: self._note_ended(task, ended))

    def _note_ended(self, task: PeriodicTask, running: "asyncio.Task[None]") -> None:
        if not self._stopped:
            task.record_death(
                asyncio.CancelledError("it was cancelled") if running.cancelled() else running.exception()
            )
            self._launch(task)

    async def stop(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        self._stopped = True
        for running in self._running.values():
            running.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def __iter__(self) -> Iterator[PeriodicTask]:
        return iter(list(self._tasks.values()))

    @property
    def running(self) -> dict[str, "asyncio.Task[None]"]:
        """The asyncio task of each periodic task, by name."""
        return dict(self._running)

    def problems(self) -> dict[str, str]:
        """Tasks that are dead or overdue, and why."""
        return {} if self._stopped else {item.name: item.problem for item in self if item.problem}

    def readings(self) -> Iterator[Reading]:
        """When each task last succeeded, and how often it, or one of its keys, failed."""
        for task in self:
            yield Point(metrics.TASK_LAST_SUCCESS, (task.name,), task.last_success)
            yield Point(metrics.TASK_FAILURES, (task.name,), task.failures)
