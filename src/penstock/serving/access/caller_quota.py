"""Enforces the quotas of callers in a worker: counts what they use in cells that all workers read, and refuses more.

A request takes a lease at its beginning and gives it back when its answer is done; rows and time in the model are
counted when they are known, so they hold up the requests after them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from penstock.core.access.callers import Caller
from penstock.core.access.quota_shares import WHOLE, QuotaShare
from penstock.core.access.quotas import (
    RateLimit,
    find_allowance,
    place_address,
    place_callers,
    quota_names,
    quotas_of,
)
from penstock.core.access.table import UNLIMITED, AccessTable, Quota
from penstock.core.bounded_cache import BoundedCache
from penstock.core.errors import Overloaded
from penstock.monitor.counters.layout import (
    CALLER_BYTES,
    CALLER_IN_FLIGHT,
    CALLER_MODEL_US,
    CALLER_REFUSED,
    CALLER_REQUESTS,
    CALLER_ROWS,
    CALLERS,
)
from penstock.monitor.counters.slot import Slot, caller_cells

SYNC_NS: Final = 20_000_000
"""Time after which a worker looks at the usage of the others again, whatever its allowance."""

MOST_ADDRESSES: Final = CALLERS
"""Client addresses whose quotas a worker keeps; of more, those that came last."""

RETRY_S: Final = 0.1
"""What a refused caller is asked to wait for another of its requests to end."""

_RATES: Final = (CALLER_REQUESTS, CALLER_ROWS, CALLER_MODEL_US)
_NAMES: Final = ("requests per second", "rows per second", "milliseconds in the model per second")
_SOME: Final = 0.001
"""What has to be left of a rate whose cost is known afterwards."""


class CallerUsage:
    """What a caller uses in this worker. Only this object writes the ``cells`` of its place, so it need not read them.

    ``open`` counts its requests that are open, ``open_bytes`` the bytes of their bodies.
    """

    __slots__ = ("_cells", "_model_us", "_refused", "_requests", "_rows", "open", "open_bytes")

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._requests: int = cells[CALLER_REQUESTS]
        self._rows: int = cells[CALLER_ROWS]
        self._model_us: int = cells[CALLER_MODEL_US]
        self._refused: int = cells[CALLER_REFUSED]
        self.open: int = cells[CALLER_IN_FLIGHT]
        self.open_bytes: int = cells[CALLER_BYTES]

    def begin(self, size: int) -> None:
        """Count a request with a body of ``size`` bytes that begins."""
        cells = self._cells
        self._requests += 1
        self.open += 1
        cells[CALLER_REQUESTS] = self._requests
        cells[CALLER_IN_FLIGHT] = self.open
        if size:
            self.open_bytes += size
            cells[CALLER_BYTES] = self.open_bytes

    def end(self, size: int) -> None:
        """Note that a request has ended."""
        self.open -= 1
        self._cells[CALLER_IN_FLIGHT] = self.open
        if size:
            self.open_bytes -= size
            self._cells[CALLER_BYTES] = self.open_bytes

    def charge(self, rows: int, model_us: int) -> None:
        """Count rows, and microseconds in a model."""
        self._rows += rows
        self._model_us += model_us
        self._cells[CALLER_ROWS] = self._rows
        self._cells[CALLER_MODEL_US] = self._model_us

    def refuse(self) -> None:
        """Count a refused request."""
        self._refused += 1
        self._cells[CALLER_REFUSED] = self._refused


class QuotaLease:
    """What an open request of a caller holds, until nothing refers to it any more: of its concurrency and its bytes.

    ``is_charged`` says whether rows or time in the model are limited.
    """

    __slots__ = ("_size", "_usage", "is_charged")

    def __init__(self, usage: CallerUsage, size: int, is_charged: bool) -> None:
        self._usage = usage
        self._size = size
        self.is_charged = is_charged
        usage.begin(size)

    def charge(self, rows: int, model_ns: int) -> None:
        """Count the rows of the request and its time in the model."""
        self._usage.charge(rows, model_ns // 1000)

    def __del__(self) -> None:
        self._usage.end(self._size)


class CallerQuota:
    """The quota of one caller in one worker; lives on its event loop. ``cells`` are those of each worker, the own ones
    first, and ``before`` what was in them at ``since_ns`` (``time.monotonic_ns``)."""

    def __init__(
        self,
        quota: Quota,
        usage: CallerUsage,
        cells: Sequence[memoryview],
        before: Sequence[memoryview],
        since_ns: int,
    ) -> None:
        self.quota = quota
        self._usage = usage
        self._concurrent: int = quota.concurrent
        self._body_bytes: int = quota.body_bytes
        self._whole_bytes: int = quota.body_bytes
        self._is_charged: bool = quota.rows > 0 or quota.model_ms > 0
        self._all = list(cells)
        self._others = list(cells[1:])
        self._allowance = 0
        self._until_ns = 0
        per_second = (quota.requests, quota.rows, quota.model_ms * 1000)
        self._limits = [
            (RateLimit(limit, since_ns / 1e9, _total(before, cell)), cell)
            for limit, cell in zip(per_second, _RATES, strict=True)
            if limit > 0
        ]

    def use_share(self, share: QuotaShare) -> None:
        """Limit the caller to this share of the quota from now on; the other gateways of the fleet have the rest."""
        local = share.of(self.quota)
        self._concurrent, self._body_bytes = local.concurrent, local.body_bytes
        per_second = {CALLER_REQUESTS: local.requests, CALLER_ROWS: local.rows, CALLER_MODEL_US: local.model_ms * 1000}
        for limit, cell in self._limits:
            limit.rescale(per_second[cell])
        self._allowance = 0

    def admit(self, now_ns: int, size: int) -> QuotaLease:
        """Return the lease of a request with a body of ``size`` bytes (``now_ns`` is ``time.monotonic_ns``).

        Raises:
            Overloaded: the quota is used up; says which part of it, and when to try again.
        """
        if self._allowance > 0 and now_ns < self._until_ns:
            self._allowance -= 1
        else:
            self._check_rates(now_ns)
        usage = self._usage
        if self._concurrent and usage.open + _total(self._others, CALLER_IN_FLIGHT) >= self._concurrent:
            raise self._refuse("requests at a time", RETRY_S)
        if self._body_bytes:
            held = usage.open_bytes + _total(self._others, CALLER_BYTES)
            if held + size > self._body_bytes and (held or size > self._whole_bytes):  # one alone may use it all
                raise self._refuse("bytes at a time", RETRY_S)
        return QuotaLease(usage, size, self._is_charged)

    def _check_rates(self, now_ns: int) -> None:
        """Look at the usage of all workers, and set the allowance."""
        now_s, least = now_ns / 1e9, float(SYNC_NS)
        for limit, cell in self._limits:
            limit.observe(now_s, float(_total(self._all, cell)))
            cost = 1.0 if cell == CALLER_REQUESTS else _SOME
            left = limit.left()
            if left < cost:
                raise self._refuse(_NAMES[_RATES.index(cell)], limit.wait_s(cost))
            least = min(least, left if cell == CALLER_REQUESTS else 0.0)
        self._allowance = find_allowance(least, len(self._all))
        self._until_ns = now_ns + SYNC_NS

    def _refuse(self, part: str, wait_s: float) -> Overloaded:
        self._usage.refuse()
        return Overloaded(f"the quota of this caller for {part} is used up; try again later", wait_s)


class CallerQuotas:
    """The quotas of a worker's callers, under the present access table."""

    def __init__(self, own: Slot, others: Sequence[Slot] = ()) -> None:
        self._slots = (own, *others)
        self._usages: dict[int, CallerUsage] = {}  # by place; kept, as open requests refer to them
        self._since_ns = 0
        self._before: list[memoryview] = []
        self._wanted: dict[str, Quota] = {}
        self._places: dict[str, int] = {}
        self._quotas: dict[str, CallerQuota] = {}
        self._shares: Mapping[str, QuotaShare] = {}
        self._table = AccessTable()
        self._addresses = _new_addresses()

    def use_shares(self, shares: Mapping[str, QuotaShare]) -> None:
        """Limit callers to these shares of their quotas; those without one have all of it."""
        self._shares = shares
        for name, quota in self._quotas.items():
            quota.use_share(shares.get(name, WHOLE))

    def use(self, table: AccessTable, now_ns: int) -> None:
        """Use the quotas of another access table from now on (``time.monotonic_ns``); those that stay go on."""
        self._since_ns, self._before = now_ns, [slot.copy_callers() for slot in self._slots]
        before, self._wanted, self._table = self._places, quotas_of(table), table
        self._addresses = _new_addresses()
        self._places = place_callers(self._wanted, CALLERS)
        self._quotas = {
            name: quota
            for name, quota in self._quotas.items()
            if quota.quota == self._wanted.get(name) and self._places[name] == before[name]
        }

    def find_caller(self, caller: Caller) -> CallerQuota | None:
        """Return the quota that counts for a caller: its own, or that of one of its groups; None if there is none."""
        for name in quota_names(self._table, caller):
            if (quota := self.find(name)) is not None:
                return quota
        return None

    def find_address(self, address: str) -> CallerQuota | None:
        """Return the quota of a client address (see ``core.access.attempts.address_key``), None if there is none; those
        that came first make way for others."""
        limits = self._table.addresses
        if limits == UNLIMITED:
            return None
        known = self._addresses.get(address)
        if known is None:
            place = place_address(address, set(self._places.values()), CALLERS)
            known = self._open(limits, place)
            self._addresses.put(address, known, 1)
        return known

    def find(self, name: str) -> CallerQuota | None:
        """Return the quota of a caller, None if there is none."""
        if name in self._wanted and name not in self._quotas:
            quota = self._open(self._wanted[name], self._places[name])
            quota.use_share(self._shares.get(name, WHOLE))
            self._quotas[name] = quota
        return self._quotas.get(name)

    def _open(self, limits: Quota, place: int) -> CallerQuota:
        """Return a quota over the cells of a place; what was used there since the access table came counts."""
        cells = [slot.caller(place) for slot in self._slots]
        before = [caller_cells(copy, place) for copy in self._before]
        usage = self._usages.setdefault(place, CallerUsage(cells[0]))
        return CallerQuota(limits, usage, cells, before, self._since_ns)


def _new_addresses() -> BoundedCache[str, CallerQuota]:
    return BoundedCache(MOST_ADDRESSES, MOST_ADDRESSES)


def _total(workers: Sequence[memoryview], cell: int) -> int:
    total = 0
    for cells in workers:
        total += cells[cell]
    return total
