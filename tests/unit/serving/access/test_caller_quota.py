"""Quotas in workers: rates, requests at a time and bytes, over all slots; leases end with their last reference."""

import pytest

from penstock.control.access.worker_counts import WorkerCounts
from penstock.core.access.quota_shares import QuotaShare
from penstock.core.access.table import AccessTable, KeyRecord, Quota
from penstock.core.errors import Overloaded
from penstock.monitor.counters.slot import Slot
from penstock.serving.access.caller_quota import CallerQuota, CallerQuotas
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
    lease = fleet.quota(0).admit(SECOND, 10)
    with pytest.raises(Overloaded):
        fleet.quota(1).admit(SECOND, 0)
    fleet.slots[0].take_over(1)
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
