"""Decides when the rows that gateways have collected of a version become its reference, and how many rows of each are
drawn.

The rules live only here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

WAIT_S = 20.0
"""Time (seconds) that the decision waits for other gateways after the first contribution."""

SILENT_S = 15.0
"""Time (seconds) without a heartbeat after which the decision does not wait for a gateway."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """The contribution of a gateway: its ``rows``, and the requests that it has ``answered`` since it began to gather
    them."""

    rows: int
    answered: int


@dataclass(frozen=True, slots=True)
class GatheringState:
    """The snapshot for one version: the contribution of each gateway, the age of the last heartbeat of each gateway
    that serves the version (``serving``, seconds), the age of the first contribution (``age_s``, seconds), and whether
    the version has a reference."""

    contributions: Mapping[str, Contribution]
    serving: Mapping[str, float]
    age_s: float
    has_reference: bool = False

    def without(self, gateway: str) -> "GatheringState":
        """Return the state without the contribution of a gateway."""
        return replace(
            self,
            contributions={name: contribution for name, contribution in self.contributions.items() if name != gateway},
        )


@dataclass(frozen=True, slots=True)
class LearnReference:
    """Make the reference, with ``draws`` rows of each gateway; ``missing`` are gateways that did not contribute in
    time."""

    draws: Mapping[str, int]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DiscardContributions:
    """Delete the contributions: they are not needed."""


def decide(gathering: GatheringState, most: int) -> LearnReference | DiscardContributions | None:
    """Decide what to do, None for nothing yet; ``most`` is the number of rows of a reference."""
    if gathering.has_reference:
        return DiscardContributions()
    awaited = sorted(name for name, silent_s in gathering.serving.items() if silent_s <= SILENT_S)
    missing = tuple(name for name in awaited if name not in gathering.contributions)
    if not gathering.contributions or (missing and gathering.age_s < WAIT_S):
        return None
    drawn = draw_counts(gathering.contributions, most)
    return LearnReference(drawn, missing) if drawn else DiscardContributions()


def draw_counts(contributions: Mapping[str, Contribution], most: int) -> dict[str, int]:
    """Return how many rows of each gateway are drawn, ``most`` in all.

    The draw is in proportion to the requests that each has answered. A gateway with fewer rows gives all of them, and
    the others share the rest. A single gateway gives all.
    """
    left = {name: item for name, item in sorted(contributions.items()) if item.rows}
    if len(left) == 1:
        return {name: item.rows for name, item in left.items()}
    taken: dict[str, int] = {}
    while scarce := [
        name for name, item in left.items() if item.rows <= _find_quota(item, left, most - sum(taken.values()))
    ]:
        taken |= {name: left.pop(name).rows for name in scarce}
    return taken | _apportion(left, most - sum(taken.values()))


def _find_quota(contribution: Contribution, among: Mapping[str, Contribution], rows: int) -> float:
    return rows * _find_weight(contribution) / sum(_find_weight(other) for other in among.values())


def _apportion(left: Mapping[str, Contribution], rows: int) -> dict[str, int]:
    """Divide ``rows`` by the largest remainders of the gateways' quotas."""
    quotas = {name: _find_quota(item, left, rows) for name, item in left.items()}
    apportioned = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: apportioned[name] - quotas[name])
    for name in by_remainder[: rows - sum(apportioned.values()) if apportioned else 0]:
        apportioned[name] += 1
    return {name: number for name, number in apportioned.items() if number}


def _find_weight(contribution: Contribution) -> int:
    return max(1, contribution.answered)
