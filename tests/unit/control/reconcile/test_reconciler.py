"""Load and unload requests against a made-up source and made-up workers that do as they are told."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping

import pytest

from penstock.control.reconcile.planner import ControllerState, MaterializedVersion, SourceModel
from penstock.control.reconcile.reconciler import FATAL_LOADS, WAITING, Reconciler
from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired, ReadyState, VersionStatus
from penstock.core.errors import DeadlineExceeded, InvalidInput, NotFound, OverBudget, Overloaded
from penstock.core.versions import VersionKey, VersionPolicy


def found(name: str, *versions: str, tag: str = "a", problem: str = "", **rest: object) -> SourceModel:
    return SourceModel(name, {v: MaterializedVersion(f"/m/{v}", tag) for v in versions}, problem=problem, **rest)  # type: ignore[arg-type]


class FakeSource:
    """Models a test puts there."""

    def __init__(self, *models: SourceModel) -> None:
        self.models = list(models)

    async def scan(self, settled_only: bool, retry: str = "") -> list[SourceModel]:
        if not self.models:
            raise InvalidInput("the model folder holds no model")
        return self.models


class FakeFleet:
    """Two workers; ``answer`` says how loading a version ends (a reason, or "" for ready, or None for never)."""

    workers = 2

    def __init__(self) -> None:
        self.reconciler: Reconciler | None = None
        self.reports_by_slot = {0: WorkerReport(10), 1: WorkerReport(11)}
        self.saved = ControllerState()
        self.cleared: list[int] = []
        self.gone: list[VersionKey] = []
        self.answer: Callable[[str, str], str | None] = lambda model, version: ""

    @property
    def reports(self) -> Mapping[int, WorkerReport]:
        return self.reports_by_slot

    def publish(self, desired: Desired) -> None:
        if self.reconciler is not None:
            asyncio.get_running_loop().call_soon(self._obey, desired)

    def _obey(self, desired: Desired) -> None:
        for report in self.reports_by_slot.values():
            report.versions = {}
            for model in desired.models:
                for spec in model.versions:
                    reason = self.answer(model.name, spec.version)
                    if reason is not None:
                        state = ReadyState.UNAVAILABLE if reason else ReadyState.READY
                        status = VersionStatus(model.name, spec.version, state, reason, spec.tag)
                        report.versions[model.name, spec.version] = status
            report.applied = desired.revision
        assert self.reconciler is not None
        self.reconciler.on_report()

    def save(self, state: ControllerState) -> None:
        self.saved = state

    def reusable(self, state: ControllerState) -> Collection[VersionKey]:
        return ()

    def departed_versions(self, state: ControllerState) -> Collection[VersionKey]:
        return [key for key in self.gone if key in state.blocks]

    def clear(self, block: int) -> None:
        self.cleared.append(block)


def with_reconciler(
    act: Callable[[Reconciler, FakeSource, FakeFleet], Awaitable[None]],
    *models: SourceModel,
    state: ControllerState | None = None,
    load_s: float = 5.0,
) -> None:
    async def run() -> None:
        source, fleet = FakeSource(*models), FakeFleet()
        fleet.reconciler = reconciler = Reconciler(source, fleet, state or ControllerState(), 20, load_s)
        reconciler.begin(list(models))
        await asyncio.sleep(0)
        await act(reconciler, source, fleet)

    asyncio.run(run())


def served(reconciler: Reconciler) -> dict[str, list[str]]:
    return {model.name: [spec.version for spec in model.versions] for model in reconciler.desired.models}


def test_everything_found_is_desired_at_first() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        assert served(reconciler) == {"a": ["1"], "b": ["1", "2"]}
        assert fleet.saved == reconciler.state

    with_reconciler(act, found("a", "1"), found("b", "1", "2"))


def test_unload_and_load_again() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        await reconciler.unload("a")
        assert served(reconciler) == {"a": [], "b": ["1"]}
        assert fleet.saved.unloaded == {"a"}
        block = fleet.saved.blocks["a", "1"]
        await reconciler.load("a", None)
        assert served(reconciler) == {"a": ["1"], "b": ["1"]}
        assert fleet.saved.blocks["a", "1"] == block

    with_reconciler(act, found("a", "1"), found("b", "1"))


def test_load_finds_models_and_versions_that_came_later() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        source.models = [found("a", "1", "2"), found("new", "7")]
        await reconciler.load("new", None)
        assert served(reconciler) == {"a": ["1"], "new": ["7"]}
        await reconciler.load("a", None)
        assert served(reconciler) == {"a": ["1", "2"], "new": ["7"]}

    with_reconciler(act, found("a", "1"))


def test_unknown_models_are_refused() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        with pytest.raises(NotFound, match="'zzz'"):
            await reconciler.load("zzz", None)
        with pytest.raises(NotFound, match="'zzz'"):
            await reconciler.unload("zzz")
        source.models = []
        with pytest.raises(NotFound):
            await reconciler.load("a", None)
        assert served(reconciler) == {"a": ["1"]}

    with_reconciler(act, found("a", "1"))


def test_a_load_that_fails_says_why_and_is_tried_again_with_the_same_content() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        fleet.answer = lambda model, version: "the graph is odd"
        source.models = [found("a", "1"), found("b", "1")]
        with pytest.raises(InvalidInput, match="model 'b' version '1' cannot be served: the graph is odd"):
            await reconciler.load("b", None)
        first = reconciler.desired
        fleet.answer = lambda model, version: ""
        await reconciler.load("b", None)
        assert reconciler.desired.models[1].versions[0].tag != first.models[1].versions[0].tag
        again = reconciler.desired
        await reconciler.load("b", None)
        assert reconciler.desired.models == again.models  # nothing failed, nothing changed: nothing is loaded anew

    with_reconciler(act, found("a", "1"))


def test_a_model_that_became_bad_goes_on_as_it_was() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        source.models = [found("a", problem="the configuration is torn"), found("new", problem="no version")]
        with pytest.raises(InvalidInput, match="torn"):
            await reconciler.load("a", None)
        assert served(reconciler) == {"a": ["1"]}
        with pytest.raises(InvalidInput, match="no version"):
            await reconciler.load("new", None)
        assert reconciler.desired.models[1].unavailable == {"": "no version"}

    with_reconciler(act, found("a", "1"))


def test_a_configuration_given_with_load_holds_until_the_next_load() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        with pytest.raises(InvalidInput, match="JSON object"):
            await reconciler.load("a", "bad")
        await reconciler.load("a", '{"max_batch_size":4}')
        assert json.loads(reconciler.desired.models[0].versions[0].config) == {"max_batch_size": 4}
        assert fleet.saved.configs == {"a": '{"max_batch_size":4}'}
        await reconciler.load("a", None)
        assert reconciler.desired.models[0].versions[0].config == ""

    with_reconciler(act, found("a", "1"))


def test_a_successor_keeps_unloads_and_configurations() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        assert served(reconciler) == {"a": [], "b": ["1"], "c": ["1"]}
        assert reconciler.desired.models[1].versions[0].config == "{}"
        assert reconciler.desired.models[2].versions[0].config == ""
        assert reconciler.desired.revision == 8

    state = ControllerState(revision=7, unloaded=frozenset({"a"}), configs={"b": "{}", "c": "bad"})
    with_reconciler(act, found("a", "1"), found("b", "1"), found("c", "1"), state=state)


def test_a_load_without_end_ends_at_its_limit() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        fleet.answer = lambda model, version: None
        source.models = [found("a", "1", tag="changed")]
        with pytest.raises(DeadlineExceeded):
            await reconciler.load("a", None)

    with_reconciler(act, found("a", "1"), load_s=0.01)


def test_only_so_many_requests_wait() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        fleet.answer = lambda model, version: None
        source.models = [found("a", "1", tag="changed")]
        waiting = [asyncio.create_task(reconciler.load("a", None)) for _ in range(WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await reconciler.unload("a")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        fleet.answer = lambda model, version: ""
        await reconciler.load("a", None)

    with_reconciler(act, found("a", "1"))


def test_a_version_that_ends_its_workers_is_left_out_until_it_is_asked_for() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        tag = reconciler.desired.models[0].versions[0].tag
        loading = VersionStatus("a", "1", ReadyState.LOADING, tag=tag)
        innocent = VersionStatus("b", "1", ReadyState.READY, tag="x")
        for _ in range(FATAL_LOADS):
            assert served(reconciler) == {"a": ["1"], "b": ["1"]}
            reconciler.on_worker_death(WorkerReport(9, versions={("a", "1"): loading, ("b", "1"): innocent}))
        assert served(reconciler) == {"a": [], "b": ["1"]}
        assert "killed the worker" in reconciler.desired.models[0].unavailable["1"]
        await reconciler.load("a", None)
        assert reconciler.desired.models[0].versions[0].tag != tag

    with_reconciler(act, found("a", "1"), found("b", "1"))


def test_a_look_at_the_source_publishes_only_what_is_different() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        before = reconciler.desired
        await reconciler.refresh()
        assert reconciler.desired is before
        source.models = [found("a", "1", "2"), found("b", "1")]
        await reconciler.refresh()
        assert served(reconciler) == {"a": ["1", "2"], "b": ["1"]}
        source.models = [found("b", "1")]
        await reconciler.refresh()
        assert served(reconciler) == {"b": ["1"]}

    with_reconciler(act, found("a", "1"))


def test_a_failing_look_changes_nothing() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        source.models = []
        with pytest.raises(InvalidInput):
            await reconciler.refresh()
        assert served(reconciler) == {"a": ["1"]}
        source.models = [found("a", problem="torn")]
        await reconciler.refresh()
        assert served(reconciler) == {"a": ["1"]}

    with_reconciler(act, found("a", "1"))


def test_an_alias_moves_when_every_worker_has_its_version() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        fleet.answer = lambda model, version: None if version == "2" else ""
        source.models = [found("a", "1", "2", aliases={"champion": "2"})]
        await reconciler.refresh()
        assert not await reconciler.wait_applied(0.01)
        assert reconciler.desired.models[0].aliases == {"champion": "1"}
        fleet.answer = lambda model, version: ""
        fleet.publish(reconciler.desired)
        assert await reconciler.wait_applied(5.0)
        assert reconciler.desired.models[0].aliases == {"champion": "2"}

    with_reconciler(act, found("a", "1", aliases={"champion": "1"}))


def test_what_is_kept_warm_goes_when_its_time_has_come() -> None:
    async def act() -> None:
        now = 1000.0
        latest = VersionPolicy("latest", 1)
        source, fleet = FakeSource(found("a", "1", policy=latest, keep_warm_s=60.0)), FakeFleet()
        fleet.reconciler = reconciler = Reconciler(source, fleet, ControllerState(), 20, 5.0, lambda: now)
        reconciler.begin(source.models)
        source.models = [found("a", "1", "2", policy=latest, keep_warm_s=60.0)]
        await reconciler.refresh()
        assert served(reconciler) == {"a": ["1", "2"]}
        now = 1059.0
        reconciler.step()
        assert served(reconciler) == {"a": ["1", "2"]}
        now = 1061.0
        reconciler.step()
        assert served(reconciler) == {"a": ["2"]}

    asyncio.run(act())


def test_blocks_of_versions_that_went_long_ago_are_cleared_and_free_for_others() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        block = fleet.saved.blocks["a", "1"]
        source.models = [found("a", "2")]
        await reconciler.refresh()
        reconciler.step()
        assert set(fleet.saved.blocks) == {("a", "1"), ("a", "2")}  # its series are still told
        fleet.cleared.clear()
        fleet.gone = [("a", "1")]
        reconciler.step()
        assert (fleet.cleared, set(fleet.saved.blocks)) == ([block], {("a", "2")})
        source.models = [found("a", "2", "3")]
        await reconciler.refresh()
        assert (fleet.cleared, fleet.saved.blocks["a", "3"]) == ([block, block], block)

    with_reconciler(act, found("a", "1"))


def test_a_model_without_memory_or_counter_block_is_refused_as_such() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        source.models = [found("a", *map(str, range(1, 21)), policy=VersionPolicy("all")), found("b", "1")]
        await reconciler.load("a", None)
        with pytest.raises(OverBudget, match="no counter block is free"):
            await reconciler.load("b", None)
        large = MaterializedVersion("/m/1", "a", memory_bytes=1 << 62)
        reconciler._memory_bytes = 1 << 30
        source.models = [*source.models, SourceModel("c", {"1": large})]
        with pytest.raises(OverBudget, match=r"model 'c' version '1' cannot be served: it needs .* MiB of memory"):
            await reconciler.load("c", None)
        assert len(served(reconciler)["a"]) == 20

    with_reconciler(act, found("a", "1"))


def test_unload_returns_when_the_memory_is_free() -> None:
    async def act(reconciler: Reconciler, source: FakeSource, fleet: FakeFleet) -> None:
        fleet.reports_by_slot[1].closing = frozenset({"a"})
        unloading = asyncio.ensure_future(reconciler.unload("a"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not served(reconciler)["a"]
        assert reconciler.is_applied()
        assert not unloading.done()
        await reconciler.load("b", None)  # others need not wait for the last calls of a model
        fleet.reports_by_slot[1].closing = frozenset()
        reconciler.on_report()
        await unloading

    with_reconciler(act, found("a", "1"), found("b", "1"))
