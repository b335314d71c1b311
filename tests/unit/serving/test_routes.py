"""Routes in a worker, on real models: who answers, shadows beside it, what is counted, and labels that come later."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from penstock.core.desired import Desired, ModelSpec, VersionSpec, WatchSpec
from penstock.core.errors import InvalidInput, NotFound, NotReady
from penstock.core.labels import ROUTE_NAMES, Protocol
from penstock.core.routing import RouteSpec, parse_route, resolve_split
from penstock.core.tensors import Tensor
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.counters.layout import SHADOW_COUNTERS
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback
from penstock.monitor.unit_votes import MOST_A_MINUTE
from penstock.serving.infer_call import InferCall
from penstock.serving.observers import shadow
from penstock.serving.observers.shadow import share_at
from tests.calls import infer
from tests.harness import PATIENCE_S
from tests.unit.serving.test_serving import MINUTE_NS, World, counting, scaled

BLOCKS = {"1": 1, "2": 2, "3": 3}


class Traffic(World):
    """A world with three versions of one model: y = x, 2x and 3x."""

    revision = 0

    async def serve(
        self, folder: Path, route: RouteSpec | None, *versions: str, vote_round: str = "", **specs: VersionSpec
    ) -> None:
        self.revision += 1
        found = [
            specs.get(f"v{version}")
            or VersionSpec(version, scaled(folder / f"{version}.onnx", int(version)), block=BLOCKS[version], tag="a")
            for version in versions or ("1", "2", "3")
        ]
        spec = ModelSpec("m", tuple(found), {}, route=route, vote_round=vote_round)
        await self.loader.apply(Desired(self.revision, (spec,)))

    async def request(
        self, fields: Mapping[bytes, bytes] | None = None, call_id: str = "x", value: float = 1.0
    ) -> InferCall:
        loaded, why, observers = self.plane.route(("m", ""), fields or {})
        tensors = [Tensor("x", "FP32", np.array([[value, value + 1]], "<f4"))]
        now = time.monotonic_ns()
        call = InferCall(loaded, why, Protocol.REST, call_id, tensors, None, now + MINUTE_NS, now, observers)
        await infer(call)
        self.plane.record_answered([call])
        return call

    async def many(self, count: int, fields: Mapping[bytes, bytes] | None = None) -> Counter[tuple[str, str]]:
        calls = [await self.request(fields, f"r{number}") for number in range(count)]
        return Counter((call.loaded.identity.version, ROUTE_NAMES[call.route]) for call in calls)

    def shadow(self, version: str) -> dict[str, float]:
        return Totals.of([self.slot], BLOCKS[version]).shadow()

    async def settled(self, version: str) -> dict[str, float]:
        """The shadow's counts once nothing of it is under way."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                counts = self.shadow(version)
                if counts["mirrored"] == counts["pairs"] + counts["missed"] + counts["dropped"]:
                    return counts
                await asyncio.sleep(0.01)


def in_traffic(story: Any) -> None:
    async def run() -> None:
        world = Traffic()
        await story(world)
        await world.loader.close()

    asyncio.run(run())


def route(**stated: Any) -> RouteSpec:
    return parse_route({"split": {"1": 10_000}, **stated})


def test_the_split_the_rules_and_the_pinned(tmp_path: Path) -> None:
    rule = {"header": "x-canary", "equals": "always", "version": "3"}

    async def story(world: Traffic) -> None:
        await world.serve(tmp_path, route(split={"1": 5000, "2": 5000}, rules=[rule]))
        found = await world.many(400)
        assert set(found) == {("1", "stable"), ("2", "canary")}
        assert min(found.values()) > 120
        assert await world.many(5, {b"x-canary": b"always"}) == {("3", "rule"): 5}
        assert set(await world.many(50, {b"x-canary": b"never"})) <= {("1", "stable"), ("2", "canary")}
        loaded, why, observers = world.plane.route(("m", "2"), {b"x-canary": b"always"})
        assert (loaded.identity.version, ROUTE_NAMES[why], observers) == ("2", "pinned", ())
        assert world.plane.queries.metadata("m").name == "m"
        assert world.plane.queries.model_ready("m")
        with pytest.raises(NotFound):
            world.plane.route(("m", "9"), {})
        await world.serve(tmp_path, None)
        assert await world.many(5) == {("3", "stable"): 5}

    in_traffic(story)


def test_marked_requests_are_answered_as_always_and_only_their_rows_are_counted(tmp_path: Path) -> None:
    """A replay or a batch is not evidence, and is not mirrored, captured or counted as rows of live traffic."""
    split = replace(route(split={"1": 5000, "2": 5000}, shadow=[{"version": "3"}]), watched=True)

    async def story(world: Traffic) -> None:
        await world.serve(tmp_path, split)
        offered = [Offered() for _ in range(3)]
        for sampler, name in zip(offered, ("1", "2", "3"), strict=True):
            world.plane.route(("m", name), {})[0].sampler = sampler
        assert set(await world.many(60, {b"penstock-source": b"replay"})) == {("1", "replay"), ("2", "replay")}
        loaded, why, observers = world.plane.route(("m", "3"), {b"penstock-source": b"batch"})
        assert (loaded.identity.version, ROUTE_NAMES[why], observers) == ("3", "batch", ())
        totals = [Totals.of([world.slot], block) for block in (1, 2)]
        assert sum(item.marked_rows()["replay"] for item in totals) == 60
        assert sum(item.outcome_count(succeeded=True) for item in totals) == 60
        assert [item.split_requests() + item.live_outcomes().total() + sum(item.output_bins(0)) for item in totals] == [
            0,
            0,
        ]
        assert world.shadow("3")["mirrored"] == 0
        assert [sampler.calls for sampler in offered] == [0, 0, 0]
        await world.many(4)
        assert sum(sampler.calls for sampler in offered) == 4
        with pytest.raises(InvalidInput, match="batch or replay"):
            world.plane.route(("m", ""), {b"penstock-source": b"live"})

    in_traffic(story)


class Offered:
    """A sampler that counts the calls it is offered."""

    calls = 0

    def offer(self, call: InferCall) -> None:
        self.calls += 1

    def flush(self) -> None:
        """Nothing waits."""

    def publish_baseline(self) -> None:
        """Nothing is collected."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("ready", ["1", "2", "3", "12", "13", "23", "123"])
@pytest.mark.parametrize("stable", ["1", "2"])
def test_the_versions_that_answer_are_those_that_are_said_to(tmp_path: Path, ready: str, stable: str) -> None:
    """What the control process says and measures of a route follows the rule by which workers pick."""
    split = route(split={"1": 5000, "2": 5000}, stable=stable)

    async def story(world: Traffic) -> None:
        await world.serve(tmp_path, split, *ready)
        found = await world.many(100)
        points = resolve_split(split, None, set(ready))
        assert {version for version, _ in found} == {version for version, weight in points.items() if weight}

    in_traffic(story)


def test_sticky_callers_stay(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        await world.serve(tmp_path, route(split={"1": 5000, "2": 5000}, sticky="header:x-user"))
        for user in (b"ann", b"bob", b"cleo", b"dan"):
            assert len(await world.many(20, {b"x-user": user})) == 1
        assert len(await world.many(100)) == 2  # without the header, each request by itself

    in_traffic(story)


async def failing(world: Traffic, fields: Mapping[bytes, bytes], times: int) -> None:
    """Requests for which the version that answers is to blame."""
    for _ in range(times):
        world.plane.record_rejected(world.plane.route(("m", ""), fields), Protocol.REST, "internal", 0)


def test_a_unit_of_a_sticky_split_has_one_vote(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        def evidence() -> tuple[int, int]:
            found = [Totals.of([world.slot], block).split_outcomes() for block in (1, 2)]
            return sum(bad for bad, _ in found), sum(good for _, good in found)

        spec = route(split={"1": 5000, "2": 5000}, sticky="header:x-user")
        await world.serve(tmp_path, spec)
        early = world.plane.route(("m", ""), {b"x-user": b"ann"})
        await failing(world, {b"x-user": b"ann"}, 500)
        await world.many(50, {b"x-user": b"ann"})
        assert evidence() == (0, 0)  # no round is open: what came too early has cost no vote
        await world.serve(tmp_path, spec, vote_round="rollout/1")
        world.plane.record_rejected(early, Protocol.REST, "internal", 0)
        assert evidence() == (0, 0)  # it began in another round
        await failing(world, {b"x-user": b"ann"}, 500)
        assert evidence() == (1, 0)
        await world.many(50, {b"x-user": b"ann"})
        assert evidence()[1] in (MOST_A_MINUTE, 2 * MOST_A_MINUTE)  # a minute may end
        for user in range(30):
            await failing(world, {b"x-user": b"user %d" % user}, 5)
        assert evidence()[0] == 31
        await failing(world, {}, 7)  # without the header, each request is a unit
        assert evidence()[0] == 38
        await world.serve(tmp_path, spec, vote_round="rollout/2")  # under the same weights
        await failing(world, {b"x-user": b"ann"}, 500)
        assert evidence()[0] == 39
        raw = [Totals.of([world.slot], block).outcome_count(succeeded=False) for block in (1, 2)]
        assert sum(raw) == 500 + 1 + 500 + 150 + 7 + 500  # the metrics count all

    in_traffic(story)


def test_versions_that_cannot_answer_give_their_requests_to_the_stable_one(tmp_path: Path) -> None:
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(b"no graph")
    bad = VersionSpec("2", str(torn), block=2, tag="a")

    async def story(world: Traffic) -> None:
        split = {"1": 2000, "2": 8000}
        spec = route(split=split, rules=[{"header": "x", "equals": "y", "version": "2"}], stable="1")
        await world.serve(tmp_path, spec, "1", "2", v2=bad)
        assert await world.many(30) == {("1", "stable"): 30}
        assert await world.many(5, {b"x": b"y"}) == {("1", "stable"): 5}
        await world.serve(tmp_path, replace(spec, stable="2"), "1", "2", v2=bad)
        assert await world.many(10) == {("1", "stable"): 10}  # the stable one itself cannot: whoever has weight

    in_traffic(story)


def test_a_weight_of_zero_is_never(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        await world.serve(tmp_path, route(split={"1": 10_000, "2": 0}))
        assert await world.many(300) == {("1", "stable"): 300}

    in_traffic(story)


def test_shadows_are_paired_counted_and_sampled(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        shadows = [{"version": "2", "percent": 100}, {"version": "3", "percent": 0}, {"version": "1", "percent": 100}]
        turned = VersionSpec("2", scaled(tmp_path / "turned.onnx", -2), block=2, tag="a")
        await world.serve(tmp_path, route(shadow=shadows), "1", "2", "3", v2=turned)
        for number in range(40):
            await world.request(call_id=f"r{number}", value=float(number))
            await asyncio.sleep(0.002)
        counts = await world.settled("2")
        assert counts["mirrored"] == 40
        assert counts["pairs"] + counts["missed"] + counts["dropped"] == 40
        assert counts["pairs"] > 0
        assert counts["missed"] == 0
        assert counts["shadow_ns"] > 0
        assert (
            world.shadow("3") == world.shadow("1") == dict.fromkeys(SHADOW_COUNTERS, 0)
        )  # not asked; not beside itself
        executor = next(shadow for shadow in world.loader.shadows() if shadow.identity.version == "2")
        assert executor.changed
        worst = executor.worst()
        assert not executor.changed
        assert 0 < len(worst) <= shadow.SAMPLES
        assert worst[0].badness == max(item.badness for item in worst) == 1 + counts["max_abs_diff"]
        assert worst[0].request["version"] == "1"
        assert worst[0].request["shadow_outputs"][0]["data"] == [
            -2 * item for item in worst[0].request["outputs"][0]["data"]
        ]

    in_traffic(story)


def test_a_part_of_the_requests_is_mirrored(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        await world.serve(tmp_path, route(shadow=[{"version": "2", "percent": 30}]))
        await world.many(600)
        counts = await world.settled("2")
        assert 110 < counts["mirrored"] < 250

    in_traffic(story)


def test_a_shadow_that_does_not_take_the_inputs_is_missed_and_nobody_notices(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        other = VersionSpec("2", counting(tmp_path / "other.onnx"), block=2, tag="a")
        await world.serve(tmp_path, route(shadow=[{"version": "2", "percent": 100}]), "1", "2", v2=other)
        assert await world.many(20) == {("1", "stable"): 20}
        counts = await world.settled("2")
        assert counts["pairs"] == 0
        assert counts["missed"] > 0

    in_traffic(story)


def test_a_shadow_that_hangs_is_stopped_and_the_rest_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "DEADLINE_NS", 50_000_000)
    endless = tmp_path / "endless.onnx"
    _endless(endless)

    async def story(world: Traffic) -> None:
        hanging = VersionSpec("2", str(endless), block=2, tag="a")
        await world.serve(tmp_path, route(shadow=[{"version": "2", "percent": 100}]), "1", "2", v2=hanging)
        assert await world.many(200) == {("1", "stable"): 200}  # it would take for ever if one waited for the shadow
        counts = await world.settled("2")
        assert counts["pairs"] == 0
        assert counts["missed"] > 0
        assert counts["dropped"] >= 200 - shadow.MAX_WAITING - 5

    in_traffic(story)


def _endless(path: Path) -> None:
    """y = x, after more turns than anybody waits for; with the input of the scaled models."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["v"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 2]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, ["N", 2]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["turns0"], to=TensorProto.INT64),
            helper.make_node("Mul", ["turns0", "many"], ["turns1"]),
            helper.make_node("Squeeze", ["turns1"], ["turns"]),
            helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body),
        ],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [
            helper.make_tensor("yes", TensorProto.BOOL, [], [1]),
            helper.make_tensor("many", TensorProto.INT64, [1], [1 << 40]),
            helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_a_version_that_is_unloaded_leaves_its_shadow_in_order(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        await world.serve(tmp_path, route(shadow=[{"version": "2", "percent": 100}]))
        await world.many(30)
        await world.serve(tmp_path, route(), "1")
        counts = await world.settled("2")
        assert counts["mirrored"] == 30

    in_traffic(story)


def test_a_successor_settles_what_its_predecessor_had_not_come_to() -> None:
    slot = Slot.in_process()
    slot.take_over(6)
    block = slot.block(1)
    for _ in range(10):
        block.count_mirrored()
    block.add_shadow("pairs", 4)
    block.add_shadow("dropped", 1)
    slot.take_over(7)
    counts = Totals.of([slot], 1).shadow()
    assert (counts["mirrored"], counts["pairs"], counts["dropped"]) == (10, 4, 6)


@pytest.mark.parametrize(("load", "share"), [(0.0, 0.25), (0.25, 0.25), (0.5, 0.1275), (0.75, 0.005), (1.0, 0.005)])
def test_a_shadow_holds_itself_back_under_load(load: float, share: float) -> None:
    assert share_at(load) == pytest.approx(share)


def test_outputs_are_counted_where_a_route_asks_for_it(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        spec = route(split={"1": 5000, "2": 5000})
        await world.serve(tmp_path, spec)
        await world.many(20)
        await world.serve(tmp_path, replace(spec, watched=True))
        found = await world.many(60)
        await asyncio.sleep(0)
        for version, why in (("1", "stable"), ("2", "canary")):
            assert sum(Totals.of([world.slot], BLOCKS[version]).output_bins(0)) == found[version, why]

    in_traffic(story)


def test_answers_are_remembered_for_labels(tmp_path: Path) -> None:
    async def story(world: Traffic) -> None:
        spec = VersionSpec(
            "1", scaled(tmp_path / "1.onnx", 1), block=1, tag="a", watch=WatchSpec(answers=str(tmp_path))
        )
        await world.serve(tmp_path, route(), "1", v1=spec)
        for number in range(4):
            await world.request(call_id=f"r{number}")
        entries = [Feedback("r0", label=1), Feedback("unknown", label=1)]
        accepted, matched = await world.plane.queries.feedback("m", entries)
        assert (accepted, matched.unmatched) == (2, 1)  # as whoever joins says; what waited is written down
        taken = AnswerStore(tmp_path).join_feedback("m", entries, time.time(), 60.0)
        assert [(item.version, item.answer, item.label) for item in taken.joined] == [("1", 1.0, 1.0)]
        assert [item.id for item in taken.unknown] == ["unknown"]
        with pytest.raises(NotFound):
            await world.plane.queries.feedback("nobody", entries)

    in_traffic(story)


def answering(folder: Path, aliases: Mapping[str, str], *withheld: str) -> str:
    """The version that answers a request without one, or why none does."""
    found: list[str] = []

    async def story(world: Traffic) -> None:
        graphs = {version: scaled(folder / f"{version}.onnx", int(version)) for version in BLOCKS}
        specs = [VersionSpec(version, graph, block=BLOCKS[version]) for version, graph in graphs.items()]
        await world.loader.apply(Desired(1, (ModelSpec("m", tuple(specs), dict(aliases), withheld=withheld),)))
        assert world.plane.route(("m", "3"), {})[0].identity.version == "3"
        try:
            found.append(world.plane.route(("m", ""), {})[0].identity.version)
        except NotReady as fault:
            found.append(str(fault))

    in_traffic(story)
    return found[0]


@pytest.mark.parametrize(
    ("aliases", "withheld", "answers"),
    [
        ({}, (), "3"),
        ({}, ("3",), "2"),
        ({"champion": "1"}, ("2", "3"), "1"),
        ({}, ("1", "2", "3"), "model 'm' is not ready: no version has passed its gates"),
    ],
)
def test_a_withheld_version_answers_only_calls_that_name_it(
    aliases: Mapping[str, str], withheld: tuple[str, ...], answers: str, tmp_path: Path
) -> None:
    assert answering(tmp_path, aliases, *withheld) == answers
