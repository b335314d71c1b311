"""The reconciler before it has models, while a version cannot be loaded, and what it says of them."""

import asyncio
import errno
import logging

import pytest

from penstock.control.reconcile.planner import ControllerState
from penstock.control.reconcile.reconciler import FATAL_LOADS, Reconciler
from penstock.control.workers.server import WorkerReport
from penstock.core.desired import ReadyState, VersionStatus
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
        for _ in range(2):
            reconciler.wait("the bucket is empty", publish=True)
            assert len(published) == 1
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


class FullDisk:
    """Takes the place of ``save``: fails while ``is_full``."""

    def __init__(self, fleet: FakeFleet) -> None:
        self._save, self.is_full = fleet.save, True
        fleet.save = self  # type: ignore[method-assign]

    def __call__(self, state: ControllerState) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._save(state)


def test_a_state_that_could_not_be_stored_is_published_once_it_can_be() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        disk = FullDisk(fleet)
        source.models = [found("a", "1", "2")]
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                await reconciler.refresh()
            assert served(reconciler) == {"a": ["1"]}
        disk.is_full = False
        await reconciler.refresh()
        assert served(reconciler) == {"a": ["1", "2"]}
        assert await reconciler.wait_loaded("a", "2", 5.0)
        assert fleet.saved == reconciler.state

    with_reconciler(act, found("a", "1"))


def test_the_first_models_are_published_though_storing_them_failed_at_first() -> None:
    async def run() -> None:
        fleet = FakeFleet()
        reconciler = Reconciler(FakeSource(found("m", "1")), fleet, ControllerState(), 20, 5.0)
        published: list[bool] = []
        fleet.publish = lambda desired: published.append(desired.waiting)  # type: ignore[method-assign]
        disk = FullDisk(fleet)
        with pytest.raises(OSError, match="No space"):
            reconciler.wait("nobody is there", publish=True)
        disk.is_full = False
        reconciler.wait("nobody is there", publish=True)
        disk.is_full = True
        with pytest.raises(OSError, match="No space"):
            reconciler.begin([])
        disk.is_full = False
        reconciler.renew()
        assert published == [True, False]

    asyncio.run(run())


def test_a_version_is_quarantined_though_storing_that_failed_at_first() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        tag = reconciler.desired.models[0].versions[0].tag
        loading = VersionStatus("a", "1", ReadyState.LOADING, tag=tag)
        report = WorkerReport(9, versions={("a", "1"): loading})
        for _ in range(FATAL_LOADS - 1):
            reconciler.on_worker_death(report)
        disk = FullDisk(fleet)
        with pytest.raises(OSError, match="No space"):
            reconciler.on_worker_death(report)
        disk.is_full = False
        reconciler.on_worker_death(report)
        assert served(reconciler) == {"a": []}
        before = reconciler.desired.revision
        reconciler.on_worker_death(report)  # of a worker that loaded it at the same time
        assert reconciler.desired.revision == before

    with_reconciler(act, found("a", "1"))


def test_the_block_of_a_departed_version_is_free_only_once_that_is_stored() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        fleet.gone = [("a", "1")]
        disk = FullDisk(fleet)
        with pytest.raises(OSError, match="No space"):
            reconciler.step()
        assert ("a", "1") in reconciler.state.blocks
        disk.is_full = False
        reconciler.step()
        assert ("a", "1") not in reconciler.state.blocks
        assert fleet.saved == reconciler.state

    with_reconciler(act, found("a", "1"))
