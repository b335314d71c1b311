"""What the workers count of access: refused requests by reason, and requests that quotas refused, by caller."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock.control.access.refusals import RefusalKey
from penstock.core.access.callers import ANONYMOUS
from penstock.core.access.quota_shares import CallerTotals
from penstock.core.access.quotas import place_callers, quotas_of
from penstock.core.access.table import UNLIMITED, AccessTable, Quota
from penstock.monitor.counters.layout import CALLER_REFUSED, CALLER_TOTALS, CALLERS
from penstock.monitor.counters.slot import Slot
from penstock.telemetry.metrics import QUOTA_REFUSED
from penstock.telemetry.readings import Point, Reading


@dataclass(frozen=True, slots=True)
class _CallerCount:
    """A caller's place, what was counted there before, and what was counted for the caller at earlier places."""

    place: int
    before: int
    earlier: int = 0


class WorkerCounts:
    """The refusals of the workers of these slots. Quotas are counted by the place of the caller (see
    ``core.access.quotas``); callers without a quota have no series."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self.quotas: dict[str, Quota] = {}
        self._counts: dict[str, _CallerCount] = {}
        self._has_addresses = False
        self._before = self._earlier = 0

    def use(self, table: AccessTable) -> None:
        """Count for the callers of another access table; the counts of those that stay go on."""
        self._earlier = self._of_addresses() if self._has_addresses else 0
        counts, self.quotas = {}, quotas_of(table)
        for name, place in place_callers(self.quotas, CALLERS).items():
            known = self._counts.get(name)
            if known is None or known.place != place:
                earlier = 0 if known is None else self._total(known)
                known = _CallerCount(place, self._refused(place), earlier)
            counts[name] = known
        self._counts, self._has_addresses = counts, table.addresses != UNLIMITED
        self._before = self._unnamed()

    def totals(self) -> dict[str, CallerTotals]:
        """Return what was counted for each caller with a quota, over all workers."""
        return {
            name: CallerTotals(*[self._sum(count.place, cell) for cell in CALLER_TOTALS])
            for name, count in self._counts.items()
        }

    def refusals(self) -> Mapping[RefusalKey, int]:
        """Return the requests that access control refused, or would refuse."""
        totals: Counter[RefusalKey] = Counter()
        for slot in self._slots:
            totals.update(slot.auth_refusals)
        return totals

    def readings(self) -> Iterator[Reading]:
        """Return the metric of quotas; all client addresses have one series."""
        for name, count in self._counts.items():
            yield Point(QUOTA_REFUSED, (name,), self._total(count))
        if self._has_addresses:
            yield Point(QUOTA_REFUSED, (ANONYMOUS.name,), self._of_addresses())

    def _of_addresses(self) -> int:
        """Return the refusals of client addresses, which go on when a caller gets one of their places."""
        return self._earlier + self._unnamed() - self._before

    def _unnamed(self) -> int:
        """Return what was counted so far at places that are of no caller now."""
        callers = sum([self._refused(count.place) for count in self._counts.values()])
        return sum([slot.caller_refusals() for slot in self._slots]) - callers

    def _total(self, count: _CallerCount) -> int:
        return count.earlier + self._refused(count.place) - count.before

    def _refused(self, place: int) -> int:
        return self._sum(place, CALLER_REFUSED)

    def _sum(self, place: int, cell: int) -> int:
        return sum([slot.caller(place)[cell] for slot in self._slots])
