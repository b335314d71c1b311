"""Quotas in workers: rates, requests at a time and bytes, over all slots; leases end with their last reference."""

import pytest

from penstock.control.access.worker_counts import WorkerCounts
from penstock.core.access.callers import Caller, CallerKind
from penstock.core.access.quota_shares import QuotaShare
from penstock.core.access.table import AccessTable, Binding, KeyRecord, Quota
from penstock.core.errors import Overloaded
from penstock.monitor.counters.slot import Slot
from penstock.serving.access.caller_quota import MOST_ADDRESSES, CallerQuota, CallerQuotas
from penstock.telemetry.readings import Point

SECOND = 1_000_000_000


def table(**quota: float) -> AccessTable:
    """A table with one caller, who has this quota."""
    values = {name: int(value) if name in ("concurrent", "body_bytes") else value for name, value in quota.items()}
    return AccessTable(keys=(KeyRecord("1", "slow", "", ("caller",), quota=Quota(**values)),))  # type: ignore[arg-type]


class Fleet:
    """Workers that share their slots."""

    def __init__(self, workers: int, **quota: float) -> None:
        self.slots = [Slot.in_process() for _ in range(workers)]
        self.quotas = [CallerQuotas(slot, [other for other in self.slots if other is not slot]) for slot in self.slots]
        self.counts = WorkerCounts(self.slots)
        self.counts.use(table(**quota))
        for quotas in self.quotas:
            quotas.use(table(**quota), SECOND)

    def quota(self, worker: int = 0) -> CallerQuota:
        """The quota in one worker."""
        found = self.quotas[worker].find("slow")
        assert found is not None
        return found

    def refused(self) -> float:
        """The refusals of the caller."""
        return sum([reading.value for reading in self.counts.readings() if isinstance(reading, Point)])


@pytest.mark.parametrize("workers", [1, 4])
def test_a_rate_holds_over_all_workers(workers: int) -> None:
    fleet, let, waits = Fleet(workers, requests=10), 0, []
    for number in range(100):
        try:
            fleet.quota(number % workers).admit(SECOND + number * 1_000_000, 0)
            let += 1
        except Overloaded as fault:
            waits.append(fault.retry_after_s)
    assert let == 10 and fleet.refused() == 90
    assert all(0 < wait_s <= 1.1 for wait_s in waits)


def test_a_high_rate_is_kept_without_looking_at_the_others_each_time() -> None:
    fleet, let = Fleet(4, requests=1000), 0
    for number in range(40_000):
        try:
            fleet.quota(number % 4).admit(SECOND + number * 50_000, 0)
            let += 1
        except Overloaded:
            pass
    assert let == pytest.approx(2000, rel=0.1)


def test_requests_at_a_time_are_counted_over_all_workers_until_they_end() -> None:
    fleet = Fleet(2, concurrent=2)
    leases = [fleet.quota(0).admit(SECOND, 0), fleet.quota(1).admit(SECOND, 0)]
    with pytest.raises(Overloaded, match="requests at a time"):
        fleet.quota(0).admit(SECOND, 0)
    leases.pop()
    fleet.quota(0).admit(SECOND, 0)


def test_bytes_at_a_time() -> None:
    fleet = Fleet(2, body_bytes=100)
    held = fleet.quota(0).admit(SECOND, 80)
    with pytest.raises(Overloaded, match="bytes at a time"):
        fleet.quota(1).admit(SECOND, 21)
    fleet.quota(1).admit(SECOND, 20)
    del held
    fleet.quota(1).admit(SECOND, 100)


@pytest.mark.parametrize(("quota", "part"), [({"model_ms": 50}, "milliseconds"), ({"rows": 10}, "rows")])
def test_what_is_known_afterwards_holds_up_the_next_requests(quota: dict[str, float], part: str) -> None:
    fleet = Fleet(2, **quota)
    fleet.quota(0).admit(SECOND, 0).charge(10, 50_000_000)
    with pytest.raises(Overloaded, match=part) as caught:
        fleet.quota(1).admit(SECOND, 0)
    after = SECOND + int((caught.value.retry_after_s + 0.06) * SECOND)
    fleet.quota(1).admit(after, 0)


def test_a_new_worker_in_a_slot_has_no_open_requests() -> None:
    fleet = Fleet(2, concurrent=1)
    fleet.slots[0].take_over(1)
    lease = fleet.quota(0).admit(SECOND, 10)
    with pytest.raises(Overloaded):
        fleet.quota(1).admit(SECOND, 0)
    fleet.slots[0].take_over(2)
    fleet.quota(1).admit(SECOND, 0)
    del lease


def test_open_requests_outlive_a_change_of_the_quota() -> None:
    fleet = Fleet(1, concurrent=2)
    leases = [fleet.quota().admit(SECOND, 0) for _ in range(2)]
    fleet.quotas[0].use(table(concurrent=3), SECOND)
    leases.append(fleet.quota().admit(SECOND, 0))
    with pytest.raises(Overloaded):
        fleet.quota().admit(SECOND, 0)
    leases.clear()
    leases += [fleet.quota().admit(SECOND, 0) for _ in range(3)]


def test_refusals_go_on_counting_when_the_table_changes() -> None:
    fleet = Fleet(1, concurrent=1)
    held = fleet.quota().admit(SECOND, 0)
    for _ in range(3):
        with pytest.raises(Overloaded):
            fleet.quota().admit(SECOND, 0)
    fleet.counts.use(table(concurrent=2))
    assert fleet.refused() == 3
    fleet.counts.use(AccessTable())
    assert list(fleet.counts.readings()) == []
    del held


def test_a_quota_that_stays_goes_on_and_a_changed_one_begins_anew() -> None:
    fleet = Fleet(1, requests=10)
    before = fleet.quota()
    fleet.quotas[0].use(table(requests=10), SECOND)
    assert fleet.quota() is before
    fleet.quotas[0].use(table(requests=20), SECOND)
    assert fleet.quota() is not before and fleet.quota().quota.requests == 20
    fleet.quotas[0].use(AccessTable(), SECOND)
    assert fleet.quotas[0].find("slow") is None


def test_a_share_of_a_quota_holds_from_its_arrival_on() -> None:
    fleet = Fleet(1, requests=100, concurrent=4, body_bytes=100)
    quota = fleet.quota()
    fleet.quotas[0].use_shares({"slow": QuotaShare(0.1, concurrent=1, body_bytes=0.2)})
    held = quota.admit(SECOND, 90)  # alone, it may have more than the share
    with pytest.raises(Overloaded, match="requests at a time"):
        quota.admit(SECOND, 0)
    del held
    with pytest.raises(Overloaded, match="bytes at a time"):
        quota.admit(SECOND, 101)
    let = 0
    for number in range(2000):
        try:
            quota.admit(2 * SECOND + number * 1_000_000, 0)
            let += 1
        except Overloaded:
            pass
    assert let == pytest.approx(20, abs=2)
    fleet.quotas[0].use_shares({})
    assert len([quota.admit(9 * SECOND + number, 10) for number in range(4)]) == 4


def test_a_caller_who_comes_later_has_the_share_too() -> None:
    fleet = Fleet(1, concurrent=4)
    fleet.quotas[0].use_shares({"slow": QuotaShare(concurrent=1)})
    held = fleet.quota().admit(SECOND, 0)
    with pytest.raises(Overloaded, match="requests at a time"):
        fleet.quota().admit(SECOND, 0)
    del held


GROUPS = AccessTable(
    1,
    enabled=True,
    bindings=(
        Binding("caller", group="first"),
        Binding("caller", group="shared", quota=Quota(concurrent=1)),
        Binding("caller", group="wide", quota=Quota(concurrent=9)),
        Binding("caller", caller="ann", quota=Quota(concurrent=2)),
    ),
)


def by_token(name: str, *groups: str) -> Caller:
    return Caller(name, CallerKind.OIDC, groups=frozenset(groups))


def test_a_caller_by_token_has_its_own_quota_or_shares_that_of_a_group() -> None:
    slot = Slot.in_process()
    quotas = CallerQuotas(slot)
    quotas.use(GROUPS, SECOND)
    own = quotas.find_caller(by_token("ann", "shared"))
    shared = quotas.find_caller(by_token("bob", "wide", "first", "shared"))
    assert own is not None and own.quota == Quota(concurrent=2)
    assert shared is not None and shared.quota == Quota(concurrent=1)
    assert quotas.find_caller(by_token("cid", "shared")) is shared
    assert quotas.find_caller(by_token("dan", "first")) is None
    assert quotas.find_caller(Caller("dan", CallerKind.KEY, groups=frozenset({"shared"}), key_id="k")) is None
    held = shared.admit(SECOND, 0)
    with pytest.raises(Overloaded, match="requests at a time"):
        shared.admit(SECOND, 0)
    del held


ADDRESSES = AccessTable(1, addresses=Quota(requests=5))


def admitted(quotas: CallerQuotas, address: str, requests: int) -> int:
    """How many requests of an address are let through at once."""
    let = 0
    for _ in range(requests):
        quota = quotas.find_address(address)
        assert quota is not None
        try:
            quota.admit(SECOND + 1, 0)
            let += 1
        except Overloaded:
            pass
    return let


def test_each_client_address_has_a_quota_over_all_workers() -> None:
    slots = [Slot.in_process(), Slot.in_process()]
    workers = [CallerQuotas(slots[0], slots[1:]), CallerQuotas(slots[1], slots[:1])]
    counts = WorkerCounts(slots)
    counts.use(ADDRESSES)
    for worker in workers:
        worker.use(ADDRESSES, SECOND)
    assert admitted(workers[0], "192.0.2.1", 4) + admitted(workers[1], "192.0.2.1", 6) == 5
    assert admitted(workers[1], "2001:db8:0:1", 9) == 5
    assert [(item.labels, item.value) for item in counts.readings() if isinstance(item, Point)] == [(("anonymous",), 9)]
    counts.use(AccessTable(2, keys=table(requests=1).keys, addresses=Quota(requests=5)))
    found = {item.labels: item.value for item in counts.readings() if isinstance(item, Point)}
    assert found == {("slow",): 0, ("anonymous",): 9}  # a place that a caller gets takes nothing away


def test_the_quotas_of_addresses_are_bounded() -> None:
    quotas = CallerQuotas(Slot.in_process())
    assert quotas.find_address("192.0.2.1") is None
    quotas.use(ADDRESSES, SECOND)
    first = quotas.find_address("a0")
    assert quotas.find_address("a0") is first
    for number in range(MOST_ADDRESSES):
        quotas.find_address(f"a{number + 1}")
    assert len(quotas._addresses) == MOST_ADDRESSES
    assert quotas.find_address("a0") is not first
