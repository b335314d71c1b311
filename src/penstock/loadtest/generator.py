"""Sends requests at their due moments over a set of connections, and notes when each was sent and answered.

A loop on one thread. Between events it sleeps until shortly before the next request is due, and looks without sleeping
from then on, because timers of the system are delayed. Garbage collection waits meanwhile.
"""

import gc
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from penstock.loadtest.samples import INTERRUPTED, LoadWindow, Samples
from penstock.loadtest.schedule import Moments
from penstock.loadtest.wire import LOST, TIMED_OUT, UNSENT, BrokenWire, Wire

Clock = Callable[[], float]
OnProgress = Callable[[int, int, float], None]
"""Is given the requests that are done, those of them that failed, and the seconds since the start of the window."""

EACH_ONCE: Final = 1 << 62
"""As the number of ``bodies``: every request of a window has a body of its own."""

_SPIN_S: Final = 150e-6
_CHECK_S: Final = 0.05
_RETRY_S: Final = 0.25
_OPEN_S: Final = 10.0
_AFTER_STOP_S: Final = 1.0


class RequestWindow(Protocol):
    """The requests of a window: which is next, when it is due, and what becomes of it. See ``LoadWindow``."""

    finished: int
    failed: int
    stopped_at: float

    @property
    def is_complete(self) -> bool:
        """Whether every request has ended."""

    @property
    def is_stopped(self) -> bool:
        """Whether the user stopped the window."""

    def is_due(self, now: float) -> bool:
        """Whether the next request is to be sent."""

    def until_due(self, now: float) -> float:
        """Return the seconds until the next request is due, infinite without one."""

    def waited(self, number: int, now: float) -> float:
        """Return the seconds since a request was due."""

    def note_sent(self, now: float, freed: float) -> int:
        """Take the next request, over a connection that could carry it since ``freed``; return its number."""

    def note_answer(self, number: int, now: float, outcome: int, answer: bytes) -> None:
        """Note an answer, with what came if the connection keeps it."""

    def note_failure(self, number: int, outcome: int) -> None:
        """Note that a request gets no answer."""

    def give_up(self, now: float, timeout_s: float, outcome: int) -> None:
        """End the requests that are not sent and have been due for longer than the timeout."""

    def stop(self, now: float) -> None:
        """Drop the requests that are not due yet."""


class NoConnection(Exception):
    """No connection could be opened; the text says why."""


class Generator:
    """Keeps connections open to one gateway, and sends windows of load over them. Not safe for threads.

    ``timeout_s`` counts from the moment at which a request was due. ``should_stop`` is asked 20 times a second.

    Raises:
        NoConnection: by the constructor, if a connection cannot be opened.
    """

    def __init__(
        self,
        open_wire: Callable[[], Wire],
        connections: int,
        bodies: int,
        timeout_s: float,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: OnProgress = lambda _done, _failed, _seconds: None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._open_wire = open_wire
        self._bodies = bodies
        self._timeout_s = timeout_s
        self._should_stop = should_stop
        self._on_progress = on_progress
        self._clock = clock
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self._free: deque[Wire] = deque()
        self._missing = connections
        self._retry_at = self._check_at = self._started = 0.0
        self._problem = ""
        self._window: RequestWindow = LoadWindow(())
        self._open_all()

    def close(self) -> None:
        """Close every connection."""
        for wire in self._wires.values():
            wire.close()
        self._epoll.close()

    def run(self, due: Moments) -> Samples:
        """Send a window of load, and wait for the answers; the moments are seconds from now."""
        window = LoadWindow(due)
        with _without_collection():
            self.run_window(window)
        return window.samples()

    def run_window(self, window: RequestWindow) -> None:
        """Send the requests of a window, and wait for the answers."""
        self._window = window
        self._started, self._retry_at, self._check_at = self._clock(), 0.0, 0.0
        for wire in self._wires.values():
            wire.freed = 0.0
        while not window.is_complete:
            self._turn(window)

    def _now(self) -> float:
        return self._clock() - self._started

    def _open_all(self) -> None:
        """Open every connection; a refused one is not a gateway."""
        self._started = self._clock()
        while self._missing or len(self._free) < len(self._wires):
            now = self._now()
            if self._problem or now > _OPEN_S:
                self.close()
                raise NoConnection(self._problem or f"no connection within {_OPEN_S:g} s")
            self._open_missing(now)
            select.select([self._epoll], [], [], _CHECK_S)
            self._serve_events()

    def _turn(self, window: RequestWindow) -> None:
        now = self._now()
        while self._free and window.is_due(now):
            self._send(window)
        if now >= self._check_at:
            self._check(window, now)
        if self._missing and now >= self._retry_at:
            self._open_missing(now)
        if (pause := self._pause_s(window, now)) > 0:
            select.select([self._epoll], [], [], pause)
        self._serve_events()

    def _pause_s(self, window: RequestWindow, now: float) -> float:
        """Return how long nothing is to be done unless an answer comes."""
        return min(window.until_due(now) - _SPIN_S, _CHECK_S) if self._free else _CHECK_S

    def _send(self, window: RequestWindow) -> None:
        wire = self._free.popleft()
        wire.request = window.note_sent(self._now(), wire.freed)
        try:
            wire.send(wire.request % self._bodies)
            self._watch(wire)
        except BrokenWire as broken:
            self._lose(wire, str(broken))

    def _serve_events(self) -> None:
        for number, event in self._epoll.poll(0):
            wire = self._wires.get(number)
            if wire is None:
                continue
            try:
                self._serve(wire, event)
                self._watch(wire)
            except BrokenWire as broken:
                self._lose(wire, str(broken))

    def _serve(self, wire: Wire, event: int) -> None:
        if not wire.is_open:
            wire.open_further()
            if wire.is_open:
                self._release(wire)
            return
        if event & select.EPOLLOUT:
            wire.flush()
        if event & ~select.EPOLLOUT and wire.receive():
            self._finish(wire)

    def _finish(self, wire: Wire) -> None:
        if wire.request < 0:
            raise BrokenWire("an answer came without a request")
        self._release(wire)
        self._window.note_answer(wire.request, wire.freed, wire.outcome, wire.answer)
        wire.request = -1
        if wire.has_ended:
            raise BrokenWire("the gateway closed a connection")

    def _release(self, wire: Wire) -> None:
        wire.freed = self._now()
        self._free.append(wire)

    def _watch(self, wire: Wire) -> None:
        if wire.wants_output != wire.watched:
            wire.watched = wire.wants_output
            self._epoll.modify(wire.fileno(), select.EPOLLIN | (select.EPOLLOUT if wire.watched else 0))

    def _lose(self, wire: Wire, problem: str, outcome: int = LOST) -> None:
        """Close a connection, whose request has failed; another one takes its place."""
        self._epoll.unregister(wire.fileno())
        del self._wires[wire.fileno()]
        wire.close()
        self._missing += 1
        if wire.request >= 0:
            self._window.note_failure(wire.request, outcome)
        elif wire.is_open:
            self._free.remove(wire)
        else:
            self._problem, self._retry_at = problem, self._now() + _RETRY_S

    def _open_missing(self, now: float) -> None:
        try:
            while self._missing:
                wire = self._open_wire()
                wire.freed = now
                self._wires[wire.fileno()] = wire
                self._epoll.register(wire.fileno(), select.EPOLLIN | select.EPOLLOUT)
                self._missing -= 1
        except (BrokenWire, OSError) as refused:
            self._problem, self._retry_at = str(refused), now + _RETRY_S

    def _check(self, window: RequestWindow, now: float) -> None:
        """Do what is not urgent: give requests up, stop where it is asked, and show the progress."""
        if not window.is_stopped and self._should_stop():
            window.stop(now)
        stop_is_over = window.is_stopped and now > window.stopped_at + _AFTER_STOP_S
        for wire in list(self._wires.values()):
            if wire.request >= 0 and (stop_is_over or window.waited(wire.request, now) > self._timeout_s):
                self._lose(wire, "timed out", INTERRUPTED if stop_is_over else TIMED_OUT)
            elif not wire.is_open and now - wire.freed > _OPEN_S:
                self._lose(wire, "a connection did not open")
        window.give_up(now, 0.0 if stop_is_over else self._timeout_s, INTERRUPTED if stop_is_over else UNSENT)
        self._on_progress(window.finished, window.failed, now)
        self._check_at = now + _CHECK_S


@contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: the pause would be charged to the gateway."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
