"""Where a run takes place: on the event loop, or on a thread of its own. A pure function of measured times."""

from enum import Enum
from typing import Final

INLINE_BUDGET_NS: Final = 500_000
"""A run expected to take longer than this leaves the loop; a thread hop costs about 75 µs."""

LONG_NS: Final = 50_000_000
"""A run on the loop that took this long was placed wrongly, whatever the warm-up had measured. Far above the budget,
as a busy machine makes short runs wait for a processor too."""

PENALTY_NS: Final = 5_000_000_000
"""For how long a version that held the loop up stays off it."""

WIDE_BUDGET_NS: Final = 2_000_000
"""A run at least this long on one thread is worth several intra-op threads."""

NOTED: Final = 16
"""Of so many runs on the loop, the time of one is noted."""

NUDGE: Final = 1.05
"""What is thought of a run's time moves by that factor towards each one noted: it follows the median, and a run that
had to wait for a processor says no more than any other."""


class Breadth(Enum):
    """Whether a run is spread over all cores or stays on one."""

    WIDE = 1
    NARROW = 2


def breadth(waiting: int, wide: int, narrow: int, cores: int) -> Breadth | None:
    """How the first of ``waiting`` runs goes on so many cores while ``wide`` and ``narrow`` ones are under way; None:
    not before one of those has ended.

    A run that is alone has all cores. As soon as there is one for each core they stay on theirs: nobody waits for the
    slowest part of a spread run, and what else disturbs a core holds up one run instead of all.
    """
    if wide or narrow >= cores:
        return None
    if narrow + waiting >= cores:
        return Breadth.NARROW
    return None if narrow else Breadth.WIDE


def nudged(thought_ns: float, seen_ns: float) -> float:
    """What is thought of a run's time after one more was seen."""
    return thought_ns * NUDGE if seen_ns > thought_ns else thought_ns / NUDGE


def runs_inline(run_ns: float | None, elements: int, measured_elements: int, budget_ns: int = INLINE_BUDGET_NS) -> bool:
    """Whether a request of ``elements`` input elements may run on the loop.

    ``run_ns`` is the warm-up's run time (None = not measured: never inline) at ``measured_elements``; the
    cost is taken to grow in proportion, never to shrink below the measured one.
    """
    if run_ns is None:
        return False
    return run_ns * max(elements, measured_elements) <= budget_ns * measured_elements
