"""Keeps every slot served by a living worker: a pure decision from what is seen, and a thin loop that performs it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from penstock.control.periodic import Complaints, PeriodicTask

log = logging.getLogger("penstock.control")

PERIOD_NS = 100_000_000
"""Between two looks at the slots; as long as between two beats of a worker."""

OVERDUE_S = 60.0

AT_WORK: Final = 10
"""Silence of a worker that uses the processor counts a tenth: it holds its loop, but it will come back."""

_SECOND = 1_000_000_000


class Reason(StrEnum):
    """Why a worker had to be replaced."""

    DIED = "died"
    FROZEN = "frozen"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Limits:
    """Patience, in nanoseconds.

    ``freeze`` is the silence after which the loop of an idle process counts as frozen (of one that uses the processor,
    ``AT_WORK`` times as much), ``start`` the time a new process has to take its
    slot over. A worker that ends within ``quick`` of its start makes the next one wait: ``first_delay``, doubling
    up to ``longest_delay``.
    """

    freeze: int = 1_200_000_000
    start: int = 30 * _SECOND
    quick: int = 3 * _SECOND
    first_delay: int = 100_000_000
    longest_delay: int = 10 * _SECOND


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one slot at one moment.

    ``occupied``: a worker was put there and has not been buried. ``alive``: its process has not ended. ``settled``:
    it has taken the slot over. ``silent_ns``: for how long its beat stood still while it was watched; ``frozen_ns``:
    the same, with the time in which it used the processor counted a tenth.
    """

    index: int
    occupied: bool = False
    alive: bool = False
    settled: bool = False
    spawned_ns: int = 0
    silent_ns: int = 0
    frozen_ns: int = 0
    retry_ns: int = 0
    doomed: bool = False


@dataclass(frozen=True, slots=True)
class Spawn:
    """Put a new worker in a vacant slot."""

    index: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that is of no use any more."""

    index: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Bury:
    """Take note of a worker's end; its slot is vacant."""

    index: int


Action = Spawn | Kill | Bury


def decide(slots: Sequence[Seen], now_ns: int, limits: Limits, spawning: bool = True) -> Action | None:
    """The one thing to do now, or None; repeated until None, it leaves nothing undone.

    Deaths come first, since a slot must be vacant before it can be filled; without ``spawning`` vacant slots
    stay so.
    """
    for slot in slots:
        if slot.occupied and not slot.alive:
            return Bury(slot.index)
    for slot in slots:
        if slot.occupied and not slot.doomed and (reason := _useless(slot, now_ns, limits)):
            return Kill(slot.index, reason)
    for slot in slots:
        if spawning and not slot.occupied and now_ns >= slot.retry_ns:
            return Spawn(slot.index)
    return None


def _useless(slot: Seen, now_ns: int, limits: Limits) -> Reason | None:
    if not slot.settled:
        return Reason.STUCK if now_ns - slot.spawned_ns >= limits.start else None
    return Reason.FROZEN if slot.frozen_ns >= limits.freeze else None


def delay_ns(quick_deaths: int, limits: Limits) -> int:
    """How long a slot stays vacant after that many quick deaths in a row."""
    if not quick_deaths:
        return 0
    return min(limits.first_delay << min(quick_deaths - 1, 32), limits.longest_delay)


@dataclass(frozen=True, slots=True)
class Pulse:
    """A worker's last beat as we saw it, for how long it has not changed (see ``Seen``), and the processor time that
    its process had used by then."""

    beat_ns: int = 0
    silent_ns: int = 0
    frozen_ns: int = 0
    processor_ns: int = 0


def feel(before: Pulse, beat_ns: int, now_ns: int, since_ns: int, processor_ns: int = 0) -> Pulse:
    """The pulse after another look, ``since_ns`` after the one before; ``processor_ns`` is what the process has used.

    A look that comes late proves nothing about the worker, which may have been as short of time as we were: at most
    two periods count. A beat in the future announces work during which silence is no fault. A worker that uses the
    processor is busy with something that ends, or a bug: it gets ``AT_WORK`` times the patience.
    """
    if beat_ns != before.beat_ns or beat_ns > now_ns:
        return Pulse(beat_ns, processor_ns=processor_ns)
    silence = min(since_ns, 2 * PERIOD_NS)
    frozen = silence // AT_WORK if processor_ns > before.processor_ns else silence
    return Pulse(beat_ns, before.silent_ns + silence, before.frozen_ns + frozen, processor_ns)


class Process(Protocol):
    """A worker's process, whoever started it."""

    @property
    def pid(self) -> int:
        """Its id."""

    def ended(self) -> bool:
        """Whether it has ended; never waits."""

    def processor_ns(self) -> int:
        """The processor time that it has used, nanoseconds; 0 where nobody can tell."""

    def kill(self) -> None:
        """End it at once; without effect if it has ended."""

    def terminate(self) -> None:
        """Ask it to drain; without effect if it has ended."""

    def close(self) -> str:
        """Let go of a process that has ended; a few words on how it ended."""


class Post(Protocol):
    """A slot as the supervisor needs it: who took it over, and the beat of that worker's loop."""

    @property
    def pid(self) -> int:
        """The worker that took it over last."""

    @property
    def heartbeat_ns(self) -> int:
        """Its last beat, or the time until which it announced to be busy."""


@dataclass(slots=True)
class _Place:
    post: Post
    process: Process | None = None
    reason: Reason | None = None
    spawned_ns: int = 0
    retry_ns: int = 0
    quick_deaths: int = 0
    pulse: Pulse = Pulse()

    def seen(self, index: int) -> Seen:
        if self.process is None:
            return Seen(index, retry_ns=self.retry_ns)
        return Seen(
            index,
            occupied=True,
            alive=not self.process.ended(),
            settled=self.post.pid == self.process.pid,
            spawned_ns=self.spawned_ns,
            silent_ns=self.pulse.silent_ns,
            frozen_ns=self.pulse.frozen_ns,
            doomed=self.reason is not None,
        )


class Supervisor:
    """Watches one worker per slot; ``step`` may be called by hand.

    ``spawn`` starts a worker for a slot; ``lost`` is told slot, process id and reason of every worker that ended
    unasked.
    """

    def __init__(
        self,
        posts: Sequence[Post],
        spawn: Callable[[int], Process],
        lost: Callable[[int, int, Reason], None],
        clock: Callable[[], int],
        limits: Limits | None = None,
    ) -> None:
        self._places = [_Place(post) for post in posts]
        self._spawn = spawn
        self._lost = lost
        self._clock = clock
        self._limits = limits or Limits()
        self._looked_ns = clock()
        self._spawning = True
        self._complaints = Complaints()
        self.task = PeriodicTask("supervisor", self._look, PERIOD_NS / 1e9, overdue_s=OVERDUE_S)

    def adopt(self, index: int, process: Process) -> None:
        """Watch a worker that somebody else started."""
        place = self._places[index]
        place.process, place.spawned_ns = process, self._clock()

    def processes(self) -> list[Process | None]:
        """The living worker of each slot."""
        return [None if one.process is None or one.process.ended() else one.process for one in self._places]

    def responsive(self, index: int) -> bool:
        """Whether the slot's worker is alive, has taken its slot over and has not missed several beats."""
        seen = self._places[index].seen(index)
        return seen.alive and seen.settled and seen.silent_ns < 4 * PERIOD_NS

    def retire(self) -> None:
        """Replace nobody from now on: the workers are about to be stopped."""
        self._spawning = False

    def wake(self) -> None:
        """Look at once: a process has ended."""
        self.task.wake()

    async def _look(self) -> None:
        self.step()

    def step(self) -> None:
        """Look once and do all there is to do."""
        now = self._clock()
        for place in self._places:
            used = 0 if place.process is None else place.process.processor_ns()
            place.pulse = feel(place.pulse, place.post.heartbeat_ns, now, now - self._looked_ns, used)
        self._looked_ns = now
        while action := decide(self._seen(), now, self._limits, self._spawning):
            self._perform(action, now)

    def _seen(self) -> list[Seen]:
        return [place.seen(index) for index, place in enumerate(self._places)]

    def _perform(self, action: Action, now_ns: int) -> None:
        place = self._places[action.index]
        match action:
            case Spawn(index):
                self._fill(index, place, now_ns)
            case Kill(index, reason):
                log.warning("worker %d is %s and is ended", index, reason)
                place.reason = reason
                if place.process is not None:
                    place.process.kill()
            case Bury():
                self._bury(action.index, place, now_ns)

    def _fill(self, index: int, place: _Place, now_ns: int) -> None:
        place.reason, place.spawned_ns, place.pulse = None, now_ns, Pulse()
        try:
            place.process = self._spawn(index)
        except OSError as error:
            self._complaints.tell(index, f"worker {index} cannot be started: {error.strerror}")
            self._put_off(place, now_ns)
        else:
            self._complaints.over(index)

    def _put_off(self, place: _Place, now_ns: int) -> None:
        quick = now_ns - place.spawned_ns < self._limits.quick
        place.quick_deaths = place.quick_deaths + 1 if quick else 0
        place.retry_ns = now_ns + delay_ns(place.quick_deaths, self._limits)

    def _bury(self, index: int, place: _Place, now_ns: int) -> None:
        if place.process is None:
            return
        pid, how = place.process.pid, place.process.close()
        place.process = None
        if not self._spawning:
            return
        self._put_off(place, now_ns)
        log.warning(
            "worker %d (pid %d) ended (%s); replaced in %.1f s", index, pid, how, (place.retry_ns - now_ns) / 1e9
        )
        self._lost(index, pid, place.reason or Reason.DIED)
