"""Quotas of callers, over all workers of a gateway: rates per second, requests at a time, and bytes at a time.

Each worker counts what its callers use in cells that every worker reads (see ``monitor.counters.layout``), so each
decides by the sum of all, and no share of a limit has to be dealt out. What a worker may spend without looking at the
others again is its allowance: together they are at most half of what is left, and near a limit there is none.
"""

import hashlib
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

from penstock.core.access.callers import Caller
from penstock.core.access.table import UNLIMITED, AccessTable, Binding, Quota

SAMPLES: Final = 20
"""Parts of a window in which usage leaves it."""

GROUP: Final = "group:"
"""Stands before the name of a group: the name of its quota, which its members share."""


def quotas_of(table: AccessTable) -> dict[str, Quota]:
    """Return all quotas by name: those of callers with API keys (of several keys of one name the last one counts), and
    those of bindings, by caller or by group (of several the first one counts)."""
    bound = {binding_name(item): item.quota for item in reversed(table.bindings) if item.quota != UNLIMITED}
    return bound | {record.name: record.quota for record in table.keys if record.quota != UNLIMITED}


def binding_name(binding: Binding) -> str:
    """Return the name of the quota of a binding."""
    return binding.caller or f"{GROUP}{binding.group}"


def quota_names(table: AccessTable, caller: Caller) -> list[str]:
    """Return the names of the quotas that may be the caller's, the first one that there is counts: its own, and else
    those of its groups in the order of the bindings. An API key has its own alone."""
    groups = [binding_name(item) for item in table.bindings if item.group and item.group in caller.groups]
    return [caller.name] if caller.key_id else [caller.name, *groups]


def place_callers(names: Iterable[str], places: int) -> dict[str, int]:
    """Return the place of each caller in a table of so many ``places``; a name keeps its place as long as others do not
    need it. More names than places share some, and then the limits of those that share one hold for them together."""
    taken: dict[int, str] = {}
    found = {}
    for name in sorted(set(names)):
        place = _hash(name) % places
        if len(taken) < places:
            while place in taken:
                place = (place + 1) % places
        taken[place] = name
        found[name] = place
    return found


def place_address(address: str, taken: Collection[int], places: int) -> int:
    """Return the place of a client address beside the callers whose places are ``taken``. Addresses are not known in
    advance, so two of them may have one place, and then its limits hold for them together."""
    place = _hash(address) % places
    while place in taken and len(taken) < places:
        place = (place + 1) % places
    return place


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


class RateLimit:
    """A limit of ``per_second``, as one worker sees it: by the total of all workers, which only grows.

    Within any window (a second; for less than one a second, the time for one) at most the limit is used, and what was
    used beyond, because it became known afterwards, has to be earned first. Times are in seconds of one clock.
    """

    __slots__ = ("_at", "_earned", "_last", "_samples", "capacity", "per_second", "window_s")

    def __init__(self, per_second: float, now_s: float, total: float) -> None:
        self.per_second = per_second
        self.window_s = max(1.0, 1.0 / per_second)
        self.capacity = per_second * self.window_s
        self._earned = self.capacity
        self._at = now_s
        self._last = total
        self._samples: deque[tuple[float, float]] = deque(maxlen=2 * SAMPLES + 4)
        self._samples.extend([(now_s - self.window_s, total), (now_s, total)])

    def rescale(self, per_second: float) -> None:
        """Limit to another rate from now on; what was used counts on."""
        self.per_second = per_second
        self.window_s = max(1.0, 1.0 / per_second)
        self.capacity = per_second * self.window_s
        self._earned = min(self._earned, self.capacity)

    def observe(self, now_s: float, total: float) -> None:
        """Take note of the total at a time. What was used since the last time counts as used evenly over that time."""
        earned = self._earned + max(0.0, now_s - self._at) * self.per_second
        self._earned = min(self.capacity, earned - (total - self._last))
        self._sample(now_s, total)
        self._at, self._last = now_s, total
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - self.window_s:
            self._samples.popleft()

    def _sample(self, now_s: float, total: float) -> None:
        """Keep the totals of the window, one for each of its parts."""
        step = self.window_s / SAMPLES
        if now_s - self._samples[-1][0] < step:
            return
        self._samples.append((self._at, self._last))
        at, before = self._samples[-1]
        gap_s = now_s - at
        for number in range(min(int(gap_s / step), SAMPLES + 1) - 1, -1, -1):
            back_s = number * step
            self._samples.append((now_s - back_s, total - (total - before) * back_s / gap_s))

    def left(self) -> float:
        """Return what may still be used now, after ``observe``; negative if more was used than was known."""
        return min(self._earned, self.capacity - (self._last - self._samples[0][1]))

    def wait_s(self, cost: float) -> float:
        """Return the seconds until ``cost`` may be used, if nobody uses anything meanwhile."""
        cost = min(cost, self.capacity)
        wait_s = (cost - self._earned) / self.per_second
        for at, total in self._samples:
            if self.capacity - (self._last - total) >= cost:
                return max(0.0, wait_s, at + self.window_s - self._at)
        return max(0.0, wait_s, self.window_s)


def find_allowance(left: float, workers: int) -> int:
    """Return how much a worker may use without looking at the others again."""
    return max(0, int(left / (2 * workers)))
