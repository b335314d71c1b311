"""Publishes what the callers of a gateway ask for, and sends its workers their share of the quotas of a fleet."""

import time
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any

from penstock.control.access.worker_counts import WorkerCounts
from penstock.core.access.quota_shares import Demand, DemandMeter, QuotaShare, share_quotas

Shares = dict[str, QuotaShare]

DIGITS = 3
"""Significant digits of a published demand: small changes change no share."""


class FleetQuotas:
    """The quotas of one gateway's callers; ``announce`` sends their shares to the workers. ``clock`` gives steady
    seconds. Belongs to the event loop."""

    def __init__(
        self, counts: WorkerCounts, announce: Callable[[Shares], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts = counts
        self._announce = announce
        self._clock = clock
        self._meter = DemandMeter()
        self._shares: Shares = {}

    @property
    def has_quotas(self) -> bool:
        """Whether any caller has a quota."""
        return bool(self._counts.quotas)

    def measure(self) -> dict[str, Any]:
        """Return the demand of each caller since the last call, as JSON values."""
        demands = self._meter.observe(self._clock(), self._counts.totals())
        return {name: [_round_share(value) for value in astuple(demand)] for name, demand in demands.items()}

    def use(self, own: str, published: Mapping[str, Mapping[str, Any]]) -> None:
        """Use the shares that follow from the demands of all gateways that are alive, by their ids."""
        demands = {gateway: _decode_demands(values) for gateway, values in published.items()}
        shares = share_quotas(own, demands, self._counts.quotas)
        if shares != self._shares:
            self._shares = shares
            self._announce(shares)


def _round_share(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _decode_demands(values: Mapping[str, Any]) -> dict[str, Demand]:
    """Return the demands of a gateway by caller; what cannot be read may be of another release, and counts as none."""
    found = {}
    for name, item in values.items():
        if isinstance(item, list) and all(isinstance(part, int | float) and part >= 0 for part in item):
            known = [float(part) for part in item[: len(Demand.__slots__)]]
            found[name] = Demand(*known)
    return found
