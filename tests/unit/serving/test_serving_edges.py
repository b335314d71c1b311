"""The serving package at its edges: what is damaged, changed or closed, and questions about what is served."""

import asyncio
import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.batching import RowProof
from penstock.core.desired import Desired, LearnSpec, ModelSpec, ReadyState, WatchSpec
from penstock.core.desired import VersionSpec as Spec
from penstock.core.errors import Fault, Internal, InvalidInput, NotFound, NotReady, OverBudget, Refused, TooLarge
from penstock.core.labels import Priority, Protocol
from penstock.core.tensors import Tensor
from penstock.monitor.counters.block_writer import NOT_COUNTED
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback
from penstock.serving.batch_run import _batch_outcomes
from penstock.serving.infer_call import CLASS, BatchResult, InferCall, fault_of, priority_of
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.observers.capture import Capture
from penstock.serving.offload import OffloadPool, _set_outcome
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.server_queries import EXTENSIONS
from penstock.serving.shared_memory import SharedRegion, SharedRegions
from tests.calls import answered, infer
from tests.harness import PATIENCE_S
from tests.unit.serving.test_serving import World, in_world, model, scaled


def spec_of(path: Path, factor: float = 2.0, **more: Any) -> Spec:
    return Spec("1", scaled(path, factor), **{"block": 1, "tag": "a", **more})


def test_only_what_was_admitted_is_served(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "m.onnx", root=str(tmp_path))
    digest = hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    sound = replace(spec, files=(("m.onnx", digest),))

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", replace(spec, files=(("m.onnx", "0" * 64),))),)))
        (status,) = world.reports[-1]
        assert (status.state, "digest" in status.reason) == (ReadyState.UNAVAILABLE, True)
        with pytest.raises(NotReady):
            world.plane.route(("m", ""), {})
        await world.loader.apply(Desired(2, (model("m", replace(sound, tag="b")),)))
        assert await world.ask("m", [[1, 2]]) == [[2, 4]]

    in_world(story)


def test_where_memory_is_short_the_old_version_goes_first(tmp_path: Path) -> None:
    old, new = spec_of(tmp_path / "old.onnx", 2), replace(spec_of(tmp_path / "new.onnx", 3), version="2", block=2)
    kept = replace(spec_of(tmp_path / "kept.onnx", 4), version="3", block=3)

    def wanted(*versions: Spec) -> ModelSpec:
        return replace(model("m", *versions), transition="resources")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (wanted(old, kept),)))
        await world.loader.apply(Desired(2, (wanted(old, kept),)))
        assert await world.ask("m", [[1, 1]], "1") == [[2, 2]]
        await world.loader.apply(Desired(3, (wanted(new, kept),)))
        between = [{item.version: item.state for item in report} for report in world.reports]
        assert await world.ask("m", [[1, 1]]) == [[4, 4]]
        assert await world.ask("m", [[1, 1]], "2") == [[3, 3]]
        assert any("1" not in states and states.get("2") is not ReadyState.READY for states in between)
        with pytest.raises(NotFound):
            world.plane.route(("m", "1"), {})

    in_world(story)


def test_a_worker_that_waits_for_its_orders_is_not_ready_and_says_when_it_is(tmp_path: Path) -> None:
    changes: list[bool] = []

    async def story(world: World) -> None:
        world.plane.on_readiness(lambda: changes.append(world.plane.ready()))
        await world.loader.apply(Desired(1, (), waiting=True))
        assert not world.plane.ready()
        await world.loader.apply(Desired(2, (model("m", spec_of(tmp_path / "m.onnx")),)))
        world.plane.begin_drain()
        assert changes == [True, False]

    in_world(story)


def test_questions_about_what_is_served(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec_of(tmp_path / "m.onnx")), ModelSpec("empty"))))
        queries = world.plane.queries
        assert queries.extensions == EXTENSIONS
        assert [(statistic.model, statistic.version) for statistic in queries.statistics()] == [("m", "1")]
        assert [(statistic.model, statistic.version) for statistic in queries.statistics("m", "1")] == [("m", "1")]
        with pytest.raises(NotFound):
            queries.statistics("m", "2")
        assert queries.config("m")["name"] == "m"
        assert [(line.name, line.version) for line in queries.index()] == [("m", "1"), ("empty", "")]
        await world.loader.release_memory()
        assert await world.ask("m", [[1, 1]]) == [[2, 2]]

    in_world(story)


@pytest.mark.parametrize("kind", [InvalidInput, NotFound, Refused])
def test_a_model_that_cannot_be_loaded_is_said_in_the_words_of_triton(kind: type[Fault]) -> None:
    class Refusing(World):
        async def load(self, model: str, config: str | None, author: object = None) -> None:
            raise kind("it is not there")

    async def story() -> None:
        world = Refusing()
        with pytest.raises(kind, match="failed to load 'm': it is not there"):
            await world.plane.queries.load("m")
        await world.loader.close()

    asyncio.run(story())


def test_rejections_for_memory_are_counted_apart(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec_of(tmp_path / "m.onnx")),)))
        decision = world.plane.route(("m", ""), {})
        world.plane.record_rejected(decision, Protocol.REST, OverBudget.kind, 0)
        totals = Totals.of([world.slot], 1)
        assert totals.outcome_count(succeeded=False) == 1
        assert totals.shed == {"queue_full": 0, "too_late": 0, "gave_way": 0, "memory": 1}

    in_world(story)


def test_a_reference_that_cannot_be_read_leaves_the_version_unwatched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = WatchSpec(path=str(tmp_path / "none.json"), digest="d", captures=str(tmp_path / "captures"), capture=1.0)
    spec = spec_of(tmp_path / "m.onnx", watch=watch)

    async def story(world: World) -> None:
        with caplog.at_level(logging.ERROR):
            await world.loader.apply(Desired(1, (model("m", spec),)))
        assert "its reference cannot be read" in caplog.text
        assert await world.ask("m", [[1, 1]]) == [[2, 2]]

    in_world(story)


def test_what_the_outputs_take_at_least(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec_of(tmp_path / "m.onnx")),)))
        loaded = world.plane.route(("m", ""), {})[0]
        assert loaded.output_bytes(3, None) == loaded.output_bytes(3, [RequestedOutput("y")]) == 3 * 2 * 4
        with pytest.raises(InvalidInput, match="unknown output"):
            loaded.output_bytes(3, [RequestedOutput("z")])

    in_world(story)


def call_of(world: World, rows: int = 1) -> InferCall:
    return world.call("m", Tensor("x", "FP32", np.ones((rows, 2), "<f4")))


def test_a_version_that_shares_no_runs_any_more_stays_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.loader.apply(
            Desired(
                1,
                (
                    model(
                        "m",
                        spec_of(tmp_path / "m.onnx", rows=RowProof(True)),
                    ),
                ),
            )
        )
        loaded = world.plane.route(("m", ""), {})[0]
        assert isinstance(loaded, LoadedVersion)
        loaded.check = None
        before = loaded.sharing
        loaded._stop_sharing("late news")
        assert loaded.sharing is before

    in_world(story)


@pytest.mark.parametrize("other", [0, 1])
def test_runs_that_callers_share_are_counted_once(tmp_path: Path, other: int) -> None:
    """Also where the calls came by different transports."""

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec_of(tmp_path / "m.onnx")),)))
        calls = [call_of(world), call_of(world)]
        for call in calls:
            await infer(call)
            call.ran_ns = calls[0].ran_ns
        calls[0].run_rows, calls[1].run_rows = 2, NOT_COUNTED
        calls[1].series += other
        world.plane.record_answered(calls)
        totals = Totals.of([world.slot], 1)
        assert (totals.inferences, totals.executions) == (2, 1)
        assert sorted(count for *_, count in totals.requests()) == ([1, 1] if other else [2])

    in_world(story)


def test_a_queue_without_memory_refuses_and_counts(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec_of(tmp_path / "m.onnx")),)))
        loaded = world.plane.route(("m", ""), {})[0]
        assert isinstance(loaded, LoadedVersion)
        memory = loaded.memory
        call = call_of(world)
        assert loaded.prepare_inline(call)
        assert memory.take(memory.limit - memory.used)
        with pytest.raises(OverBudget, match="try again later"):
            loaded._pool.enqueue(call, lambda *_: None)
        memory.give_back(memory.limit)
        assert Totals.of([world.slot], 1).shed["memory"] == 1

    in_world(story)


@pytest.mark.parametrize(
    ("stated", "priority"),
    [
        (None, Priority.DEFAULT),
        (b"critical", Priority.CRITICAL),
        (b"default", Priority.DEFAULT),
        (b"batch", Priority.BATCH),
    ],
)
def test_the_class_of_a_request(stated: bytes | None, priority: Priority) -> None:
    assert priority_of({} if stated is None else {CLASS: stated}) is priority


def test_a_class_that_does_not_exist() -> None:
    with pytest.raises(InvalidInput, match="must be one of critical, default and batch"):
        priority_of({CLASS: b"urgent"})


def test_a_bug_is_logged_and_hidden_from_callers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found = fault_of(KeyError("/srv/secret"))
    assert (type(found), str(found)) == (Internal, "the request failed")
    assert "/srv/secret" in caplog.text
    own = TooLarge("it is too large")
    assert fault_of(own) is own


def test_a_call_has_no_outputs_before_it_has_any() -> None:
    call = answered([])
    call.outputs = None  # type: ignore[assignment]
    assert call.outputs == []


def test_work_whose_loop_is_gone_ends_its_thread_alone() -> None:
    async def scene() -> None:
        offload = OffloadPool(100)
        future = asyncio.ensure_future(offload.run(lambda: 7, 10))
        assert await asyncio.wait_for(future, PATIENCE_S) == 7
        failing = asyncio.ensure_future(offload.run(refuse, 10))
        with pytest.raises(InvalidInput):
            await asyncio.wait_for(failing, PATIENCE_S)

    asyncio.run(scene())


def refuse() -> None:
    raise InvalidInput("no")


def test_all_regions_are_forgotten_at_once(tmp_path: Path) -> None:
    regions = SharedRegions(["/*"], tmp_path / "regions.json")
    path = Path("/dev/shm") / f"penstock-edges-{id(regions)}"
    path.write_bytes(bytes(64))
    try:
        for name in ("a", "b"):
            regions.register(SharedRegion(name, path.name, 0, 64))
        assert len(regions.status()) == 2
        regions.unregister()
        assert regions.status() == []
        regions.unregister("a")  # no error
    finally:
        path.unlink()


def test_outputs_that_are_too_large_are_refused_to_all_who_share_the_run(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec_of(tmp_path / "m.onnx", rows=RowProof(True))),)))
        calls = [call_of(world), call_of(world)]
        for call in calls:
            assert call.loaded.prepare_inline(call)
        calls[0].loaded.max_output_bytes = 7
        large = [np.zeros((2, 2), "<f4")]
        assert [type(outcome) for outcome in _batch_outcomes(calls, large)] == [TooLarge, TooLarge]
        calls[0].loaded.max_output_bytes = 8
        assert [type(outcome) for outcome in _batch_outcomes(calls, large)] == [BatchResult, BatchResult]

    in_world(story)


def test_a_capture_writes_a_share_of_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    class Writer:
        """Counts what it is given."""

        def write(self, seen: list[Any], tally: object) -> None:
            written.append(len(seen))

    drawn = iter([0.1, 0.9, 0.9, 0.9])
    monkeypatch.setattr("penstock.serving.observers.capture.random", lambda: next(drawn))
    capture = Capture(Writer(), 0.5, Slot.in_process().block(1))  # type: ignore[arg-type]
    capture.take([answered([]), answered([])])
    capture.take([answered([]), answered([])])  # nothing is chosen, and nothing is written
    assert written == [1]


def test_what_is_settled_already_stays_so() -> None:
    async def run() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        _set_outcome(future, 7, None)
        _set_outcome(future, None, InvalidInput("late"))
        assert await future == 7

    asyncio.run(run())


def test_an_alias_of_a_version_that_is_not_loaded_names_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        aliases = {"champion": "1", "before": "7"}
        await world.loader.apply(Desired(1, (model("m", spec_of(tmp_path / "m.onnx"), aliases=aliases),)))
        assert await world.ask("m", [[1, 1]], "champion") == [[2, 2]]
        with pytest.raises(NotFound):
            world.plane.route(("m", "before"), {})

    in_world(story)


def test_feedback_finds_answers_that_were_given_a_moment_ago(tmp_path: Path) -> None:
    watched = spec_of(tmp_path / "m.onnx", watch=WatchSpec(learn=LearnSpec(1000, is_awaited=True)))

    async def story(world: World) -> None:
        unwatched = replace(spec_of(tmp_path / "other.onnx"), version="2", block=2)
        await world.loader.apply(Desired(1, (model("m", watched, unwatched),)))
        await world.ask("m", [[1, 2]], "1")
        count, found = await world.plane.queries.feedback("m", [Feedback("unknown-1", 1)])
        assert (count, found.unmatched) == (1, 1)
        assert (await world.plane.queries.feedback("m", []))[0] == 0

    in_world(story)
