"""Rules of a queue: who may join it, and how long it may be, by the expected time of the calls ahead."""

from dataclasses import dataclass, replace
from typing import Final

from penstock.core.labels import Priority

SMOOTHING: Final = 0.2
"""Weight of the newest run in the expected time of a run."""

SHARES: Final = {Priority.CRITICAL: 1.0, Priority.DEFAULT: 1.0, Priority.BATCH: 0.5}
"""Part of the limit up to which each class may fill a queue."""

WINDOW_NS: Final = 25_000_000
"""Interval of the updates of a limit."""

USUAL_RUNS: Final = 7
"""At four fifths of what one thread can do, with even runs, one call in a hundred waits for about so many; where more
threads serve the queue, for as many times fewer."""

TOLERATED_TURNS, TOLERATED_NS = 4, 5_000_000
"""What a call may take under overload: twice what is usual, so many whole runs, or that long, whatever is longest."""

GROWTH: Final = 1.05
"""Factor by which a limit grows back in a window without refused calls."""

RISING, WINDOWS_RISING = 1.1, 2
"""A queue that is longer by that factor in each of so many windows only grows, unless patient callers who came at the
same time could have made it so long."""

PATIENT, PATIENT_OF_SHORT = 64, 512
"""So many callers may come at the same time and wait patiently: in general, and where runs are short."""


def update_expected_ns(expected_ns: float, ran_ns: float) -> float:
    """Return the expected time of a run after one more that took ``ran_ns``; without any before, that time."""
    return float(ran_ns) if expected_ns <= 0 else expected_ns + SMOOTHING * (ran_ns - expected_ns)


def expected_wait_ns(before: int, threads: int, call_ns: float) -> float:
    """Return the wait of a call behind ``before`` others that wait or run, each on a thread for ``call_ns``: 0 while a
    thread is free.
    """
    return before // threads * call_ns


def misses_deadline(before: int, threads: int, call_ns: float, run_ns: float, left_ns: int) -> bool:
    """Whether a call would have its answer after the time it has left, and is better rejected now; one that finds a
    free thread never does, so that an estimate from one long run is tried again."""
    return before >= threads and expected_wait_ns(before, threads, call_ns) + run_ns > left_ns


def class_limits(limit: float) -> list[float]:
    """Return the number of calls in the system below which one more of each priority class may enter, at least 1."""
    return [max(1.0, limit * SHARES[priority]) for priority in Priority]


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """How many calls may wait and run at once, between ``least`` and ``most``; how many did at most in the last window,
    and for how many windows that has been rising. ``patient`` callers are taken to wait for their answers."""

    value: float
    least: float
    most: float
    inside: int = 0
    rising: int = 0
    patient: int = PATIENT


def tolerated_ns(call_ns: float, run_ns: float, threads: int) -> float:
    """Return the time that a call may take under overload, if its share of a run takes ``call_ns`` and a run
    ``run_ns``.
    """
    return max(TOLERATED_NS, 2 * (1 + USUAL_RUNS / threads) * call_ns, TOLERATED_TURNS * run_ns)


def next_limit(before: ConcurrencyLimit, inside: int, refused: int, tolerated: float) -> ConcurrencyLimit:
    """The limit after one more window, in which at most ``inside`` calls waited and ran, and ``refused`` were turned
    away; ``tolerated`` are the calls that are answered in what a call may take.

    A queue that stands, however long, belongs to callers who wait for their answers, and is theirs. One that only
    grows, or turns callers away, is cut to what is tolerated; once nobody is refused the limit grows back.
    """
    rising = before.rising + 1 if inside > RISING * before.inside and before.inside else 0
    value = min(before.most, before.value * GROWTH)
    if refused or (rising >= WINDOWS_RISING and inside > max(tolerated, before.patient)):
        value = min(before.most, max(before.least, tolerated))
    return replace(before, value=value, inside=inside, rising=rising)
