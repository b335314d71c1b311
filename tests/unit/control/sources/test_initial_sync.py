"""When the first models are served, with a made-up source and clock."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from penstock.control.reconcile.planner import MaterializedVersion, SourceModel
from penstock.control.reconcile.reconciler import NoModelsYet
from penstock.control.sources.folder import ARRIVING, BEING_EXAMINED
from penstock.control.sources.initial_sync import PATIENCE_S, InitialSync
from penstock.core.errors import InvalidInput, NotReady

HERE = SourceModel("m", {"1": MaterializedVersion("/m/1", "a")})
DELAYED = [SourceModel("m", {}, {"1": ARRIVING}), SourceModel("m", {}, {"1": BEING_EXAMINED})]


class Script:
    """Offers one thing after the other; ``asked`` is what was wanted."""

    def __init__(self, *offers: Exception | list[SourceModel]) -> None:
        self.offers = list(offers)
        self.asked: list[bool] = []

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[SourceModel]:
        self.asked.append(settled_only)
        offer = self.offers.pop(0)
        if isinstance(offer, Exception):
            raise offer
        return offer


def test_what_is_there_at_the_start_is_served_as_it_is() -> None:
    source = Script([HERE])
    first = InitialSync(source)
    assert asyncio.run(first.at_start()) == [HERE]
    assert (first.reason, source.asked) == ("", [False])


@pytest.mark.parametrize("fault", [NotReady("the database is away"), InvalidInput("no such registry")])
def test_a_source_that_offers_nothing_is_reported(fault: Exception) -> None:
    with pytest.raises(type(fault)):
        asyncio.run(InitialSync(Script(fault)).at_start())


def test_it_waits_for_a_source_and_for_what_arrives_there(caplog: pytest.LogCaptureFixture) -> None:
    away = [NoModelsYet("it cannot be reached", f"it cannot be reached: attempt {number}") for number in range(3)]
    first = InitialSync(Script(*away, RuntimeError("a bug"), RuntimeError("a bug"), [DELAYED[0]], [DELAYED[1]], [HERE]))

    async def run() -> None:
        assert await first.at_start() is None
        for reason in ["cannot be reached"] * 2 + ["cannot be read"] * 2 + ["being examined"] * 2:
            assert await first.again() is None
            assert reason in first.reason
        assert await first.again() == [HERE]
        assert first.reason == ""

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "no model can be served yet; the source is scanned again until it offers one",
        "the source of the models cannot be read",
    ]
    assert "attempt 0" in caplog.text


def test_files_that_keep_changing_are_waited_for_only_so_long() -> None:
    now = 0.0
    offers = [[HERE, DELAYED[0]]] * 3
    first = InitialSync(Script(NoModelsYet("empty"), *offers), lambda: now)

    async def run() -> None:
        nonlocal now
        assert await first.at_start() is None
        assert await first.again() is None
        now += PATIENCE_S - 1
        assert await first.again() is None
        now += 1
        assert await first.again() == [HERE, DELAYED[0]]

    asyncio.run(run())
