"""The reconciler before it has models, while a version cannot be loaded, and what it says of them."""

import asyncio
import logging

import pytest

from penstock.control.reconcile.planner import ControllerState
from penstock.control.reconcile.reconciler import Reconciler
from penstock.core.errors import NotReady
from tests.unit.control.reconcile.test_reconciler import FakeFleet, FakeSource, found, served, with_reconciler


def test_while_it_waits_for_models_nothing_is_loaded_and_workers_are_notified_once() -> None:
    async def run() -> None:
        source, fleet = FakeSource(found("m", "1")), FakeFleet()
        fleet.reconciler = reconciler = Reconciler(source, fleet, ControllerState(), 20, 5.0)
        published: list[int] = []
        fleet.publish = lambda desired: published.append(desired.revision)  # type: ignore[method-assign]
        reconciler.renew()
        assert published == []
        reconciler.wait("the bucket is empty", publish=False)
        assert published == []
        reconciler.wait("the bucket is empty", publish=True)
        assert published == []  # it has waited before
        with pytest.raises(NotReady, match="no model can be loaded yet"):
            await reconciler.load("m", None)
        reconciler.begin(source.models)
        assert served(reconciler) == {"m": ["1"]}
        assert reconciler.offered_versions() == {("m", "1")}
        before = len(published)
        reconciler.renew()
        assert len(published) == before  # nothing has changed

    asyncio.run(run())


def test_an_empty_state_is_published_to_workers_that_have_none() -> None:
    async def run() -> None:
        fleet = FakeFleet()
        reconciler = Reconciler(FakeSource(), fleet, ControllerState(), 20, 5.0)
        published: list[bool] = []
        fleet.publish = lambda desired: published.append(desired.waiting)  # type: ignore[method-assign]
        reconciler.wait("nobody is there", publish=True)
        reconciler.wait("nobody is there yet", publish=True)
        assert published == [True]

    asyncio.run(run())


def test_operators_see_the_whole_reason() -> None:
    model = found(
        "m", "1", refused={"2": "it is refused"}, details={"2": "it is refused: /m/2/model.onnx", "3": "gone"}
    )

    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        assert reconciler.rejection_reason("m", "2") == "its newest content is rejected: it is refused: /m/2/model.onnx"
        assert reconciler.rejection_reason("m", "1") == reconciler.rejection_reason("n", "1") == ""
        assert reconciler.detail("m", "3") == "gone"
        assert reconciler.detail("m", "1") == reconciler.detail("n", "1") == ""

    with_reconciler(act, model)


def test_a_model_that_breaks_keeps_its_versions_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        source.models = [found("m", problem="it has no configuration")]
        with caplog.at_level(logging.WARNING):
            await reconciler.refresh()
            await reconciler.refresh()
        assert served(reconciler) == {"m": ["1"]}
        assert caplog.text.count("keeps its previous versions") == 1

    with_reconciler(act, found("m", "1"))


def test_a_version_is_tried_or_time_passes() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        assert await reconciler.wait_loaded("m", "1", 5.0)
        assert not await reconciler.wait_loaded("m", "9", 0.01)

    with_reconciler(act, found("m", "1"))
