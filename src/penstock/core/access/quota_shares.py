"""Divides the quotas of callers among the gateways of a fleet by recent demand.

Every gateway publishes what its callers ask for, and computes the same shares from the same demands. Nobody deals them
out, so a gateway that is lost takes nothing with it for longer than its demand counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from penstock.core.access.table import Quota

EVEN_PART: Final = 0.05
"""Part of each quota that is divided evenly, so that a gateway without demand so far lets some requests through at
once. So much of a quota may stay unused."""

DECAY: Final = 0.5
"""How much of a demand counts when it is measured again and has become less."""

NEGLIGIBLE: Final = 0.001
"""A demand below this counts as none."""

MOST_CALLERS: Final = 512
"""Callers whose demand a gateway publishes: those with the most requests."""


@dataclass(frozen=True, slots=True)
class CallerTotals:
    """What the workers of a gateway have counted for a caller: requests, rows, microseconds in models and refused
    requests so far, and requests and bytes that are open now."""

    requests: int = 0
    rows: int = 0
    model_us: int = 0
    refused: int = 0
    open: int = 0
    open_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """What a caller asks for at one gateway, also where it was refused: per second, and at a time."""

    requests: float = 0.0
    rows: float = 0.0
    model_ms: float = 0.0
    concurrent: float = 0.0
    body_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class QuotaShare:
    """The parts of a caller's quota that hold at one gateway; ``concurrent`` is a whole number of requests (0: all)."""

    requests: float = 1.0
    rows: float = 1.0
    model_ms: float = 1.0
    concurrent: int = 0
    body_bytes: float = 1.0

    def of(self, quota: Quota) -> Quota:
        """Return the limits at this gateway. A limit stays a limit, and lets one request at a time through."""
        concurrent = min(self.concurrent, quota.concurrent) if self.concurrent else quota.concurrent
        body_bytes = max(1, int(quota.body_bytes * self.body_bytes)) if quota.body_bytes else 0
        rates = (quota.requests * self.requests, quota.rows * self.rows, quota.model_ms * self.model_ms)
        return Quota(*rates, concurrent, body_bytes)


WHOLE: Final = QuotaShare()


class DemandMeter:
    """Measures the demand of a gateway's callers from what was counted; ``observe`` it every few seconds."""

    def __init__(self) -> None:
        self._before: dict[str, CallerTotals] = {}
        self._demands: dict[str, Demand] = {}
        self._at = 0.0

    def observe(self, now_s: float, totals: Mapping[str, CallerTotals]) -> dict[str, Demand]:
        """Return the demand of each caller who has one; ``now_s`` is in seconds of a steady clock."""
        passed_s = now_s - self._at
        known = {name: self._before[name] for name in totals if name in self._before}
        present = {name: _demand(before, totals[name], passed_s) for name, before in known.items() if passed_s > 0}
        demands = {name: _smooth(self._demands.get(name, Demand()), demand) for name, demand in present.items()}
        self._before, self._at = dict(totals), now_s
        self._demands = {name: demand for name, demand in demands.items() if demand.requests >= NEGLIGIBLE}
        return dict(sorted(self._demands.items(), key=lambda item: -item[1].requests)[:MOST_CALLERS])


def _demand(before: CallerTotals, after: CallerTotals, passed_s: float) -> Demand:
    """Return a demand: refused requests count as much as the others of the caller needed."""
    admitted, refused = max(0, after.requests - before.requests), max(0, after.refused - before.refused)
    factor = (admitted + refused) / admitted if admitted else 1.0
    unknown = 0 if admitted else refused  # nothing is known of what they need
    return Demand(
        (admitted + refused) / passed_s,
        (max(0, after.rows - before.rows) * factor + unknown) / passed_s,
        (max(0, after.model_us - before.model_us) / 1000 * factor + unknown) / passed_s,
        after.open * factor + unknown,
        after.open_bytes * factor + unknown,
    )


def _smooth(before: Demand, now: Demand) -> Demand:
    """Return a demand that grows at once and falls gradually."""
    return Demand(
        max(now.requests, before.requests * DECAY),
        max(now.rows, before.rows * DECAY),
        max(now.model_ms, before.model_ms * DECAY),
        max(now.concurrent, before.concurrent * DECAY),
        max(now.body_bytes, before.body_bytes * DECAY),
    )


def share_quotas(
    own: str, demands: Mapping[str, Mapping[str, Demand]], quotas: Mapping[str, Quota]
) -> dict[str, QuotaShare]:
    """Return the share of each caller's quota at the gateway ``own``, from the demands by gateway and caller; none if
    it is alone: then it has all of each quota."""
    if len(demands) < 2 or own not in demands:
        return {}
    return {
        name: _share(own, {gateway: demands[gateway].get(name, Demand()) for gateway in demands}, quota)
        for name, quota in quotas.items()
    }


def _share(own: str, demands: Mapping[str, Demand], quota: Quota) -> QuotaShare:
    concurrent = divide_whole(quota.concurrent, divide({name: item.concurrent for name, item in demands.items()}))
    return QuotaShare(
        divide({name: item.requests for name, item in demands.items()})[own],
        divide({name: item.rows for name, item in demands.items()})[own],
        divide({name: item.model_ms for name, item in demands.items()})[own],
        concurrent[own],
        divide({name: item.body_bytes for name, item in demands.items()})[own],
    )


def divide(demands: Mapping[str, float]) -> dict[str, float]:
    """Return the part of a quota for each gateway: they sum to 1, most of it is proportional to demand, and a little is
    divided evenly; without any demand all of it is."""
    total, even = sum(demands.values()), 1.0 / len(demands)
    if total <= 0.0:
        return dict.fromkeys(demands, even)
    return {name: EVEN_PART * even + (1.0 - EVEN_PART) * (demand / total) for name, demand in demands.items()}


def divide_whole(limit: int, parts: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers by ``parts`` (which sum to 1) that sum to ``limit``, at least 1 each: more gateways than the
    limit let one request at a time through each. 0 for no limit."""
    if limit <= 0:
        return dict.fromkeys(parts, 0)
    shares, whole = {name: max(1, int(limit * part)) for name, part in parts.items()}, max(limit, len(parts))
    while (rest := whole - sum(shares.values())) != 0:
        step = 1 if rest > 0 else -1
        may_change = sorted(name for name, share in shares.items() if share + step >= 1)
        shares[max(may_change, key=lambda name: step * (limit * parts[name] - shares[name]))] += step
    return shares
