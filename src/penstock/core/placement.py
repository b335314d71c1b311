"""Decides where a run takes place: on the event loop, or on a thread. A pure function of measured times."""

from enum import Enum
from typing import Final

INLINE_BUDGET_NS: Final = 500_000
"""A run expected to take longer than this runs on a thread; the switch costs about 75 µs."""

LONG_NS: Final = 50_000_000
"""A run on the loop that took this long was placed wrongly, whatever the warm-up had measured. Far above the budget,
as a busy machine makes short runs wait for a processor too."""

PENALTY_NS: Final = 5_000_000_000
"""Time for which a version that held the loop stays off it."""

MULTI_THREADED_FROM_NS: Final = 2_000_000
"""Minimum time of a run on one thread that is worth several intra-op threads."""

NOTE_EVERY: Final = 16
"""One in this number of runs on the loop is timed."""

STEP: Final = 1.05
"""The expected time of a run moves by that factor towards each one noted: it follows the median, and a run that had to
wait for a processor says no more than any other."""


class Parallelism(Enum):
    """Whether a run uses all cores or one."""

    MULTI_THREADED = 1
    SINGLE_THREADED = 2


def choose_parallelism(waiting: int, multi_threaded: int, single_threaded: int, cores: int) -> Parallelism | None:
    """How the first of ``waiting`` runs goes on so many cores while so many multi-threaded and single-threaded runs are
    under way; None: not before one of those has ended.

    A run that is alone has all cores. As soon as there is one for each core they stay on theirs: no run waits for the
    slowest part of a spread run, and what else disturbs a core holds up one run instead of all.
    """
    if multi_threaded or single_threaded >= cores:
        return None
    if single_threaded + waiting >= cores:
        return Parallelism.SINGLE_THREADED
    return None if single_threaded else Parallelism.MULTI_THREADED


def step_towards(expected_ns: float, seen_ns: float) -> float:
    """Return the expected time of a run after one more measurement."""
    return expected_ns * STEP if seen_ns > expected_ns else expected_ns / STEP


def runs_inline(run_ns: float | None, elements: int, measured_elements: int, budget_ns: int = INLINE_BUDGET_NS) -> bool:
    """Whether a request of ``elements`` input elements may run on the loop.

    ``run_ns`` is the warm-up's run time (None = not measured: never inline) at ``measured_elements``; the
    cost is taken to grow in proportion, never to shrink below the measured one.
    """
    if run_ns is None:
        return False
    return run_ns * max(elements, measured_elements) <= budget_ns * measured_elements
