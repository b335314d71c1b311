"""The serving package on real models: who answers, where runs take place, deadlines, bounds, loading and unloading."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from penstock.core.desired import Desired, LearnSpec, ModelSpec, ReadyState, VersionSpec, VersionStatus, WatchSpec
from penstock.core.errors import DeadlineExceeded, Fault, InvalidInput, NotFound, NotReady, Overloaded
from penstock.core.frames.terms import RowTerms, decode_terms
from penstock.core.labels import Protocol, Route
from penstock.core.tensors import Tensor
from penstock.monitor.columns import RowValues
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, new_id
from penstock.serving.model_loader import ModelLoader
from penstock.serving.requested_outputs import RequestedOutput
from tests.calls import infer
from tests.harness import reached

MINUTE_NS = 60_000_000_000


def scaled(path: Path, factor: float) -> str:
    """y = x * factor over FP32 [N, 2]."""
    constant = helper.make_tensor("f", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "f"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [constant],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def counting(path: Path) -> str:
    """A loop that runs as many turns as the input says: its time lies in its data."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum", "one"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.INT64, []),
        ],
        [helper.make_tensor("one", TensorProto.INT64, [], [1])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "yes", "zero"], ["total"], body=body)],
        "counting",
        [helper.make_tensor_value_info("turns", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("total", TensorProto.INT64, [])],
        [helper.make_tensor("yes", TensorProto.BOOL, [], [1]), helper.make_tensor("zero", TensorProto.INT64, [], [0])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


class World:
    """The serving part of one worker, without transports; nobody else loads and unloads."""

    def __init__(self) -> None:
        self.slot = Slot.in_process()
        self.plane = DataPlane(self.slot, lambda block: Totals.of([self.slot], block), self, MINUTE_NS)
        self.reports: list[tuple[VersionStatus, ...]] = []
        self.gathered: list[int] = []
        self.closing: list[tuple[str, ...]] = []
        self.loader = ModelLoader(
            self.plane, self.slot, 2, self.reports.append, self._gathered, on_closing=self.closing.append
        )
        self.asked: list[tuple[str, str | None]] = []

    def _gathered(self, model: str, version: str, names: Any, inputs: Sequence[RowValues], *_: Any) -> None:
        self.gathered.append(sum(map(len, inputs)))

    async def load(self, model: str, config: str | None, author: object = None) -> None:
        self.asked.append((model, config))

    async def unload(self, model: str, author: object = None) -> None:
        self.asked.append((model, None))

    async def feedback(self, model: str, entries: Sequence[Feedback]) -> FeedbackResult:
        return FeedbackResult(sum(entry.id.startswith("unknown") for entry in entries))

    def call(self, model: str, tensor: Tensor, version: str = "", timeout_ns: int = MINUTE_NS) -> InferCall:
        loaded, route, _ = self.plane.route((model, version), {})
        now = monotonic_ns()
        return InferCall(loaded, route, Protocol.REST, new_id(), [tensor], None, now + timeout_ns, now)

    async def ask(self, model: str, values: list[list[float]], version: str = "") -> list[list[float]]:
        call = self.call(model, Tensor("x", "FP32", np.array(values, "<f4")), version)
        await infer(call)
        self.plane.record_answered([call])
        answer: list[list[float]] = call.outputs[0].data.tolist()
        return answer


def in_world(story: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World()
        await story(world)
        await world.loader.close()

    asyncio.run(run())


def model(name: str, *versions: VersionSpec, aliases: dict[str, str] | None = None) -> ModelSpec:
    return ModelSpec(name, versions, aliases or {})


def test_versions_aliases_and_the_default(tmp_path: Path) -> None:
    one = VersionSpec("1", scaled(tmp_path / "one.onnx", 1), block=1, tag="a")
    ten = VersionSpec("10", scaled(tmp_path / "ten.onnx", 10), block=2, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", one, ten),)))
        assert world.plane.ready()
        assert await world.ask("m", [[1, 2]]) == [[10, 20]]
        assert await world.ask("m", [[1, 2]], "1") == [[1, 2]]
        assert world.plane.route(("m", ""), {})[1] is Route.STABLE
        assert world.plane.route(("m", "10"), {})[1] is Route.PINNED
        await world.loader.apply(Desired(2, (model("m", one, ten, aliases={"champion": "1"}),)))
        assert await world.ask("m", [[1, 2]]) == [[1, 2]]
        assert await world.ask("m", [[1, 2]], "champion") == [[1, 2]]
        with pytest.raises(NotFound, match="no version '7'"):
            world.plane.route(("m", "7"), {})
        with pytest.raises(NotFound, match="unknown model 'q'"):
            world.plane.route(("q", ""), {})
        counts = {statistic.version: statistic.totals.executions for statistic in world.plane.queries.statistics("m")}
        assert counts == {"1": 3, "10": 1}

    in_world(story)


def test_rows_that_are_awaited_are_handed_over_and_gathering_is_not_begun_anew(tmp_path: Path) -> None:
    watch = WatchSpec(learn=LearnSpec(1000))
    spec = VersionSpec("1", scaled(tmp_path / "one.onnx", 1), block=1, tag="a", watch=watch)
    awaited = replace(spec, watch=replace(watch, learn=replace(watch.learn, is_awaited=True)))

    async def story(world: World) -> None:
        for revision, wanted in enumerate((spec, spec, awaited, awaited, spec)):
            await world.loader.apply(Desired(revision, (model("m", wanted),)))
            await world.ask("m", [[1, 2]])
        assert world.gathered == [2], "the rows of before they were awaited, once"
        await world.loader.apply(Desired(9, (model("m", replace(awaited, watch=WatchSpec())),)))

    in_world(story)


def test_what_a_version_says_about_its_rows_can_change_while_it_serves(tmp_path: Path) -> None:
    spec = VersionSpec("1", scaled(tmp_path / "one.onnx", 1), block=1, tag="a", row_terms=RowTerms(("a", "b")))

    async def story(world: World) -> None:
        for revision, names in enumerate((("a", "b"), ("b", "a"))):
            await world.loader.apply(Desired(revision, (model("m", replace(spec, row_terms=RowTerms(names))),)))
            loaded = world.plane.route(("m", ""), {})[0]
            bound = loaded.row_layout.bind_instances([{"a": 1, "b": 2}])
            assert bound.inputs[0].data.tolist() == [[1, 2] if names[0] == "a" else [2, 1]]
            assert loaded.row_layout is loaded.row_layout, "it is made once"
            assert decode_terms(world.plane.queries.metadata("m").properties["rows"]) == RowTerms(names)

    in_world(story)


def test_omission_unloads_and_a_new_tag_loads_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", VersionSpec("1", scaled(path, 2), block=1, tag="a")),)))
        scaled(path, 3)
        await world.loader.apply(Desired(2, (model("m", VersionSpec("1", str(path), block=1, tag="a")),)))
        assert await world.ask("m", [[1, 1]]) == [[2, 2]]
        await world.loader.apply(Desired(3, (model("m", VersionSpec("1", str(path), block=1, tag="b")),)))
        assert await world.ask("m", [[1, 1]]) == [[3, 3]]
        await world.loader.apply(Desired(4, (ModelSpec("m", unavailable={"1": "unloaded"}),)))
        with pytest.raises(NotReady, match="unloaded"):
            world.plane.route(("m", ""), {})
        await world.loader.apply(Desired(5, ()))
        with pytest.raises(NotFound):
            world.plane.route(("m", "1"), {})

    in_world(story)


def test_a_model_is_closing_until_its_last_call_has_ended(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        spec = VersionSpec("1", scaled(tmp_path / "m.onnx", 2), block=1, tag="a")
        await world.loader.apply(Desired(1, (model("m", spec),)))
        loaded, _, _ = world.plane.route(("m", ""), {})
        loaded.hold()
        await world.loader.apply(Desired(2, ()))
        assert world.closing == [("m",)]
        loaded.release()
        await reached(lambda: world.closing == [("m",), ()])

    in_world(story)


def test_a_broken_model_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"this is not a graph")
    good = VersionSpec("1", scaled(tmp_path / "good.onnx", 2), block=1, tag="a")

    async def story(world: World) -> None:
        broken = VersionSpec("1", str(bad), block=2, tag="a")
        await world.loader.apply(Desired(1, (model("bad", broken), model("good", good))))
        assert world.plane.ready()
        assert await world.ask("good", [[1, 1]]) == [[2, 2]]
        assert not world.plane.queries.model_ready("bad")
        with pytest.raises(NotReady):
            world.plane.route(("bad", "1"), {})
        states = {line.name: (line.state, bool(line.reason)) for line in world.plane.queries.index()}
        assert states == {"bad": (ReadyState.UNAVAILABLE, True), "good": (ReadyState.READY, False)}
        assert [line.name for line in world.plane.queries.index(ready_only=True)] == ["good"]

    in_world(story)


def test_content_that_fails_to_load_leaves_the_old_one_answering(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", VersionSpec("1", scaled(path, 2), block=1, tag="a")),)))
        path.write_bytes(b"torn")
        await world.loader.apply(Desired(2, (model("m", VersionSpec("1", str(path), block=1, tag="b")),)))
        assert await world.ask("m", [[1, 1]]) == [[2, 2]]
        [status] = world.reports[-1]
        assert (status.state, status.tag, bool(status.reason)) == (ReadyState.READY, "b", True)

    in_world(story)


def turns(count: int) -> Tensor:
    return Tensor("turns", "INT64", np.array(count, "<i8"))


def test_long_runs_leave_the_loop_free_and_end_at_their_deadline(tmp_path: Path) -> None:
    spec = VersionSpec("1", counting(tmp_path / "m.onnx"), block=1, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        quick = world.call("m", turns(5))
        await infer(quick)
        assert quick.outputs[0].data.tolist() == 5
        endless = world.call("m", turns(1 << 40), timeout_ns=50_000_000)
        beats = asyncio.create_task(asyncio.sleep(0))
        with pytest.raises(DeadlineExceeded):
            await infer(endless)
        assert beats.done()
        after = world.call("m", turns(7))
        await infer(after)  # the thread is free again: the endless run was stopped
        assert after.outputs[0].data.tolist() == 7
        assert Totals.of([world.slot], 1).inflight == 0

    in_world(story)


def test_the_queue_is_bounded_and_waiting_is_too(tmp_path: Path) -> None:
    path = counting(tmp_path / "m.onnx")
    policy = '{"max_queue_size": 2, "default_timeout_microseconds": 50000}'
    config = f'{{"name": "m", "max_batch_size": 0, "dynamic_batching": {{"default_queue_policy": {policy}}}}}'
    spec = VersionSpec("1", path, str(tmp_path), config, block=1, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        calls = [world.call("m", turns(1 << 40), timeout_ns=300_000_000) for _ in range(3)]
        ends = await asyncio.gather(*(infer(call) for call in calls), return_exceptions=True)
        texts = [str(end) for end in ends]
        assert isinstance(ends[2], Overloaded)
        assert "an answer was ready" in texts[0]
        assert "queue timeout" in texts[1]

    in_world(story)


def test_a_caller_who_goes_away_frees_the_thread(tmp_path: Path) -> None:
    spec = VersionSpec("1", counting(tmp_path / "m.onnx"), block=1, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        gone = asyncio.create_task(infer(world.call("m", turns(1 << 40))))
        await asyncio.sleep(0)
        gone.cancel()
        next_one = world.call("m", turns(3))
        await infer(next_one)
        assert next_one.outputs[0].data.tolist() == 3

    in_world(story)


@pytest.mark.parametrize(
    ("requested", "timeout_ns", "fault"),
    [([RequestedOutput("q")], MINUTE_NS, InvalidInput), (None, 0, DeadlineExceeded)],
)
def test_faults_are_the_calls_own(
    tmp_path: Path, requested: list[RequestedOutput] | None, timeout_ns: int, fault: type[Fault]
) -> None:
    spec = VersionSpec("1", scaled(tmp_path / "m.onnx", 1), block=1, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        call = world.call("m", Tensor("x", "FP32", np.zeros((1, 2), "<f4")), timeout_ns=timeout_ns)
        call.requested = requested
        with pytest.raises(fault):
            await infer(call)
        world.plane.record_answered([call])
        assert Totals.of([world.slot], 1).outcome_count(succeeded=False) == 1

    in_world(story)


def test_what_reached_no_version_is_counted_too() -> None:
    async def story(world: World) -> None:
        world.plane.record_rejected(None, Protocol.GRPC, "not_found", monotonic_ns())
        assert list(Totals.of([world.slot], 0).requests()) == [("stable", "grpc", "not_found", 1)]

    in_world(story)


def test_loading_on_request_is_the_repositorys_work() -> None:
    async def story(world: World) -> None:
        await world.plane.queries.load("m", "{}")
        await world.plane.queries.unload("m")
        assert world.asked == [("m", "{}"), ("m", None)]

    in_world(story)


def test_draining_ends_readiness_for_good(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert not world.plane.ready()
        await world.loader.apply(Desired(1, ()))
        assert world.plane.ready()
        world.plane.begin_drain()
        await world.loader.apply(Desired(2, ()))
        assert not world.plane.ready()

    in_world(story)
