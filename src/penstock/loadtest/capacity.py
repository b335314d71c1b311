"""Searches the highest rate that keeps the objectives: which rate to try next, and what the trials show.

The rate doubles until a window breaches; bisection brings the highest kept and the lowest breached rate together; then
the highest kept rate is confirmed by further windows. A breach there lowers the bound, and the search goes on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

TOLERANCE: Final = 0.05
"""The search ends where the bounds are this close together."""

CONFIRMATIONS: Final = 3
LOWEST_RATE: Final = 0.1

Limit = Literal["objective", "generator", "none"]


@dataclass(frozen=True, slots=True)
class CapacityTrial:
    """A window of load: whether it kept the objectives. ``limited``: the generator itself could not send in time, so
    the window says nothing of the gateway, and no higher rate can be tried."""

    rate: float
    kept: bool
    confirming: bool = False
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """The window to try next."""

    rate: float
    confirming: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """What trials show. ``rate`` is the highest rate that was kept (None: none was), ``breached`` the lowest one above
    it that was not, ``limit`` what it was for.

    ``kept_windows`` windows at the rate kept the objectives, and none did not. So with 95 % confidence at most a share
    ``breach_share`` of such windows breaches. ``confirmed``: the search came to its end.
    """

    rate: float | None
    breached: float | None
    limit: Limit
    kept_windows: int
    breach_share: float
    confirmed: bool


def next_probe(trials: Sequence[CapacityTrial], start: float) -> Probe | None:
    """Return the next window of a search that begins at a rate; None at its end."""
    kept, breached = _find_bounds(trials)
    if kept is None and breached is None:
        return Probe(_round_rate(start))
    if kept is None:
        lower = _round_rate(breached / 2) if breached is not None else start
        return Probe(lower) if lower >= LOWEST_RATE else None
    if breached is None:
        return Probe(_round_rate(2 * kept))
    middle = _round_rate(math.sqrt(kept * breached))
    if breached / kept > 1 + TOLERANCE and kept < middle < breached:
        return Probe(middle)
    return Probe(kept, confirming=True) if _kept_windows(trials, kept, confirming=True) < CONFIRMATIONS else None


def conclude(trials: Sequence[CapacityTrial], start: float) -> Capacity:
    """Return what the trials of a search show, whether it is at its end or not."""
    kept, breached = _find_bounds(trials)
    limit: Limit = "none" if breached is None else "generator" if _is_limited(trials, breached) else "objective"
    windows = _kept_windows(trials, kept) if kept is not None else 0
    share = 1 - 0.05 ** (1 / windows) if windows else 1.0
    return Capacity(kept, breached, limit, windows, share, bool(trials) and next_probe(trials, start) is None)


def _find_bounds(trials: Sequence[CapacityTrial]) -> tuple[float | None, float | None]:
    """Return the highest kept rate below every breach, and the lowest breached rate."""
    breached = min((trial.rate for trial in trials if not trial.kept), default=None)
    kept = [trial.rate for trial in trials if trial.kept and (breached is None or trial.rate < breached)]
    return max(kept, default=None), breached


def _kept_windows(trials: Sequence[CapacityTrial], rate: float, confirming: bool = False) -> int:
    return sum(trial.kept and trial.rate == rate and trial.confirming >= confirming for trial in trials)


def _is_limited(trials: Sequence[CapacityTrial], rate: float) -> bool:
    return all(trial.limited for trial in trials if trial.rate == rate and not trial.kept)


def _round_rate(rate: float) -> float:
    """Return a rate with three significant digits."""
    return float(f"{rate:.3g}")
