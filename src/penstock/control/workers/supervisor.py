"""Keeps a live worker in every slot: a pure decision from observed slots, and a thin loop that performs it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from penstock.control.periodic import PeriodicTask, ProblemLog

log = logging.getLogger("penstock.control")

PERIOD_NS = 100_000_000
"""The interval between two checks of the slots, and between two heartbeats of a worker, in nanoseconds."""

OVERDUE_S = 60.0

AT_WORK: Final = 10
"""Silence of a worker that uses the processor counts a tenth: it blocks its loop, but only for a while."""

_SECOND = 1_000_000_000


class RestartReason(StrEnum):
    """Why a worker had to be replaced."""

    DIED = "died"
    FROZEN = "frozen"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class SupervisorLimits:
    """Time limits, in nanoseconds.

    ``freeze`` is the silence after which the loop of an idle process counts as frozen (of one that uses the processor,
    ``AT_WORK`` times as much), ``start`` the time in which a new process must take its slot over. After a worker that
    ends within ``quick`` of its start, the next one waits for ``first_delay``, doubled each time up to
    ``longest_delay``.
    """

    freeze: int = 1_200_000_000
    start: int = 30 * _SECOND
    quick: int = 3 * _SECOND
    first_delay: int = 100_000_000
    longest_delay: int = 10 * _SECOND


@dataclass(frozen=True, slots=True)
class SlotObservation:
    """The state of one slot at one moment.

    ``occupied``: a worker was started there and has not been reaped. ``alive``: its process has not ended.
    ``settled``: it has taken the slot over. ``silent_ns``: how long its heartbeat has not changed while it was
    watched; ``frozen_ns``: the same, with time in which it used the processor counted a tenth. ``terminating``: it
    has been killed.
    """

    index: int
    occupied: bool = False
    alive: bool = False
    settled: bool = False
    spawned_ns: int = 0
    silent_ns: int = 0
    frozen_ns: int = 0
    retry_ns: int = 0
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker in a vacant slot."""

    index: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a worker that does not work any more."""

    index: int
    reason: RestartReason


@dataclass(frozen=True, slots=True)
class Reap:
    """Release a worker that has ended; its slot becomes vacant."""

    index: int


SupervisorAction = Spawn | Kill | Reap


def decide(
    slots: Sequence[SlotObservation], now_ns: int, limits: SupervisorLimits, spawning: bool = True
) -> SupervisorAction | None:
    """The next action, or None if nothing is to be done.

    Ended workers come first, since a slot must be vacant before it can be filled. Without ``spawning``, vacant slots
    stay vacant.
    """
    for slot in slots:
        if slot.occupied and not slot.alive:
            return Reap(slot.index)
    for slot in slots:
        if slot.occupied and not slot.terminating and (reason := _find_failure(slot, now_ns, limits)):
            return Kill(slot.index, reason)
    for slot in slots:
        if spawning and not slot.occupied and now_ns >= slot.retry_ns:
            return Spawn(slot.index)
    return None


def _find_failure(slot: SlotObservation, now_ns: int, limits: SupervisorLimits) -> RestartReason | None:
    if not slot.settled:
        return RestartReason.STUCK if now_ns - slot.spawned_ns >= limits.start else None
    return RestartReason.FROZEN if slot.frozen_ns >= limits.freeze else None


def delay_ns(quick_deaths: int, limits: SupervisorLimits) -> int:
    """How long a slot stays vacant after that many quick deaths in a row, in nanoseconds."""
    if not quick_deaths:
        return 0
    return min(limits.first_delay << min(quick_deaths - 1, 32), limits.longest_delay)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker's last observed heartbeat, how long it has not changed (see ``SlotObservation``), and the processor time
    its process had used by then."""

    beat_ns: int = 0
    silent_ns: int = 0
    frozen_ns: int = 0
    processor_ns: int = 0


def track(before: Heartbeat, beat_ns: int, now_ns: int, since_ns: int, processor_ns: int = 0) -> Heartbeat:
    """The heartbeat after a check ``since_ns`` after the previous one; ``processor_ns`` is the processor time used.

    A late check proves nothing about the worker, which may have lacked processor time as this process did: at most
    two periods count. A heartbeat in the future announces work during which silence is expected. A worker that uses
    the processor is probably in a long computation: its limit is ``AT_WORK`` times as long.
    """
    if beat_ns != before.beat_ns or beat_ns > now_ns:
        return Heartbeat(beat_ns, processor_ns=processor_ns)
    silence = min(since_ns, 2 * PERIOD_NS)
    frozen = silence // AT_WORK if processor_ns > before.processor_ns else silence
    return Heartbeat(beat_ns, before.silent_ns + silence, before.frozen_ns + frozen, processor_ns)


class Process(Protocol):
    """A worker's process, whoever started it."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def ended(self) -> bool:
        """Whether it has ended; never waits."""

    def processor_ns(self) -> int:
        """The processor time used so far, in nanoseconds; 0 if unknown."""

    def kill(self) -> None:
        """End it at once; without effect if it has ended."""

    def terminate(self) -> None:
        """Ask it to drain; without effect if it has ended."""

    def close(self) -> str:
        """Release a process that has ended; return how it ended, such as "exit 1"."""


class WorkerSlot(Protocol):
    """A slot as the supervisor needs it: its owner, and the heartbeat of that worker's loop."""

    @property
    def pid(self) -> int:
        """The worker that took it over last."""

    @property
    def heartbeat_ns(self) -> int:
        """Its last heartbeat, or the time until which it announced to be busy (monotonic nanoseconds)."""


@dataclass(slots=True)
class _WatchedWorker:
    slot: WorkerSlot
    process: Process | None = None
    reason: RestartReason | None = None
    spawned_ns: int = 0
    retry_ns: int = 0
    quick_deaths: int = 0
    heartbeat: Heartbeat = Heartbeat()

    def is_well(self) -> bool:
        """Whether nothing is to be done; ``decide`` would find the same, but this is asked ten times a second."""
        if self.process is None or self.heartbeat.frozen_ns or self.slot.pid != self.process.pid:
            return False
        return not self.process.ended()

    def observe(self, index: int) -> SlotObservation:
        if self.process is None:
            return SlotObservation(index, retry_ns=self.retry_ns)
        return SlotObservation(
            index,
            occupied=True,
            alive=not self.process.ended(),
            settled=self.slot.pid == self.process.pid,
            spawned_ns=self.spawned_ns,
            silent_ns=self.heartbeat.silent_ns,
            frozen_ns=self.heartbeat.frozen_ns,
            terminating=self.reason is not None,
        )


class Supervisor:
    """Watches one worker per slot; ``step`` does one check. Belongs to the event loop.

    ``spawn`` starts a worker for a slot; ``lost`` is called with slot, process id and reason for every worker that
    ended unexpectedly. ``clock`` is monotonic, in nanoseconds.
    """

    def __init__(
        self,
        slots: Sequence[WorkerSlot],
        spawn: Callable[[int], Process],
        lost: Callable[[int, int, RestartReason], None],
        clock: Callable[[], int],
        limits: SupervisorLimits | None = None,
    ) -> None:
        self._watches = [_WatchedWorker(slot) for slot in slots]
        self._spawn = spawn
        self._lost = lost
        self._clock = clock
        self._limits = limits or SupervisorLimits()
        self._looked_ns = clock()
        self._spawning = True
        self._problem_log = ProblemLog()
        self.task = PeriodicTask("supervisor", self._observe_slots, PERIOD_NS / 1e9, overdue_s=OVERDUE_S)

    def adopt(self, index: int, process: Process) -> None:
        """Watch a worker that a previous control process started."""
        watch = self._watches[index]
        watch.process, watch.spawned_ns = process, self._clock()

    def processes(self) -> list[Process | None]:
        """The living worker of each slot."""
        return [None if watch.process is None or watch.process.ended() else watch.process for watch in self._watches]

    def responsive(self, index: int) -> bool:
        """Whether the slot's worker is alive, has taken its slot over and has not missed several heartbeats."""
        observed = self._watches[index].observe(index)
        return observed.alive and observed.settled and observed.silent_ns < 4 * PERIOD_NS

    def retire(self) -> None:
        """Replace no worker from now on: the workers are about to be stopped."""
        self._spawning = False

    def wake(self) -> None:
        """Check at once: a process has ended."""
        self.task.wake()

    async def _observe_slots(self) -> None:
        self.step()

    def step(self) -> None:
        """Check all slots once and perform every action that is due."""
        now = self._clock()
        for watch in self._watches:
            used = 0 if watch.process is None else watch.process.processor_ns()
            watch.heartbeat = track(watch.heartbeat, watch.slot.heartbeat_ns, now, now - self._looked_ns, used)
        self._looked_ns = now
        if all(watch.is_well() for watch in self._watches):
            return
        while action := decide(self._observe(), now, self._limits, self._spawning):
            self._perform(action, now)

    def _observe(self) -> list[SlotObservation]:
        return [watch.observe(index) for index, watch in enumerate(self._watches)]

    def _perform(self, action: SupervisorAction, now_ns: int) -> None:
        watch = self._watches[action.index]
        match action:
            case Spawn(index):
                self._fill(index, watch, now_ns)
            case Kill(index, reason):
                log.warning("worker %d is %s; it is killed", index, reason)
                watch.reason = reason
                if watch.process is not None:
                    watch.process.kill()
            case Reap():
                self._reap(action.index, watch, now_ns)

    def _fill(self, index: int, watch: _WatchedWorker, now_ns: int) -> None:
        watch.reason, watch.spawned_ns, watch.heartbeat = None, now_ns, Heartbeat()
        try:
            watch.process = self._spawn(index)
        except OSError as error:
            self._problem_log.report(index, f"worker {index} cannot be started; retrying: {error.strerror}")
            self._put_off(watch, now_ns)
        else:
            self._problem_log.clear(index)

    def _put_off(self, watch: _WatchedWorker, now_ns: int) -> None:
        quick = now_ns - watch.spawned_ns < self._limits.quick
        watch.quick_deaths = watch.quick_deaths + 1 if quick else 0
        watch.retry_ns = now_ns + delay_ns(watch.quick_deaths, self._limits)

    def _reap(self, index: int, watch: _WatchedWorker, now_ns: int) -> None:
        if watch.process is None:
            return
        pid, how = watch.process.pid, watch.process.close()
        watch.process = None
        if not self._spawning:
            return
        self._put_off(watch, now_ns)
        log.warning(
            "worker %d (pid %d) ended (%s); it is replaced in %.1f s", index, pid, how, (watch.retry_ns - now_ns) / 1e9
        )
        self._lost(index, pid, watch.reason or RestartReason.DIED)
