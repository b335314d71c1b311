"""Gateways that share quotas through what they publish: the fleet lets the quota through, however demand moves."""

import pytest

from penstock.control.access.fleet_quotas import FleetQuotas, Shares
from penstock.control.access.worker_counts import WorkerCounts
from penstock.core.access.quota_shares import QuotaShare
from penstock.core.access.table import AccessTable, KeyRecord, Quota
from penstock.core.errors import Overloaded
from penstock.monitor.counters.slot import Slot
from penstock.serving.access.caller_quota import CallerQuotas

LIMIT = 200
BEAT_S = 5
TABLE = AccessTable(keys=(KeyRecord("1", "bot", "", ("caller",), quota=Quota(float(LIMIT))),))


class Gateway:
    """A gateway with two workers."""

    def __init__(self, name: str) -> None:
        self.name, self.now_s = name, 1.0
        slots = [Slot.in_process(), Slot.in_process()]
        self.workers = [CallerQuotas(slots[0], slots[1:]), CallerQuotas(slots[1], slots[:1])]
        counts = WorkerCounts(slots)
        counts.use(TABLE)
        for worker in self.workers:
            worker.use(TABLE, 1_000_000_000)
        self.announced: list[Shares] = []
        self.quotas = FleetQuotas(counts, self.take, lambda: self.now_s)

    def take(self, shares: Shares) -> None:
        self.announced.append(shares)
        for worker in self.workers:
            worker.use_shares(shares)

    def ask(self, rate: int) -> int:
        """Ask for so many requests in a second; return how many were let through."""
        let = 0
        for number in range(rate):
            quota = self.workers[number % 2].find("bot")
            assert quota is not None
            try:
                quota.admit(int((self.now_s + number / rate) * 1e9), 0)
                let += 1
            except Overloaded:
                pass
        return let


def run(gateways: list[Gateway], rates: list[int], seconds: int) -> int:
    """Let the gateways run for some time, and return what they let through in the last second."""
    let = 0
    for _ in range(seconds):
        let = sum(gateway.ask(rate) for gateway, rate in zip(gateways, rates, strict=True))
        for gateway in gateways:
            gateway.now_s += 1.0
        if gateways[0].now_s % BEAT_S == 0:
            published = {gateway.name: gateway.quotas.measure() for gateway in gateways}
            for gateway in gateways:
                gateway.quotas.use(gateway.name, published)
    return let


@pytest.mark.parametrize("rates", [[300, 300, 300], [600, 30, 0], [100, 60, 20], [0, 0, 500]])
def test_the_fleet_lets_the_quota_through_within_a_tenth(rates: list[int]) -> None:
    gateways = [Gateway(name) for name in "abc"]
    let = run(gateways, rates, 5 * BEAT_S)
    assert let == pytest.approx(min(LIMIT, sum(rates)), rel=0.1)


def test_shares_follow_demand_and_come_back_from_a_lost_gateway() -> None:
    gateways = [Gateway(name) for name in "ab"]
    assert run(gateways, [500, 500], 4 * BEAT_S) == pytest.approx(LIMIT, rel=0.1)
    assert run(gateways, [500, 0], 8 * BEAT_S) == pytest.approx(LIMIT, rel=0.1)
    assert run(gateways[:1], [500], 2 * BEAT_S) == pytest.approx(LIMIT, rel=0.1)
    assert gateways[0].announced[-1] == {}  # alone, it has all


def test_the_same_demands_announce_nothing_again() -> None:
    gateway = Gateway("a")
    published = {"a": {"bot": [1, 1, 1, 1, 1]}, "b": {"bot": [1, 1, 1, 1, 1]}}
    gateway.quotas.use("a", published)
    gateway.quotas.use("a", published)
    assert gateway.announced == [{"bot": QuotaShare(0.5, 0.5, 0.5, 0, 0.5)}]


def test_what_another_release_publishes_counts_as_far_as_it_is_known() -> None:
    gateway = Gateway("a")
    odd = {"bot": [3, 1, 1, 1, 1, 99], "negative": [-1], "text": "x", "texts": ["x"]}
    gateway.quotas.use("a", {"a": {"bot": [1]}, "b": odd})
    assert gateway.announced[-1]["bot"].requests == pytest.approx(0.05 / 2 + 0.95 / 4)


def test_a_gateway_without_quotas_publishes_nothing() -> None:
    quotas = FleetQuotas(WorkerCounts([Slot.in_process()]), lambda _: None)
    assert (quotas.has_quotas, quotas.measure()) == (False, {})
