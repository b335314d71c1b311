"""For which failures a version is held responsible: what a canary's errors are counted by, over real runs."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from penstock.core.desired import Desired, VersionSpec
from penstock.core.errors import Fault
from penstock.core.labels import OUTCOMES, Protocol, is_attributed
from penstock.core.tensors import Tensor
from penstock.monitor.counters.totals import Totals
from penstock.serving.infer_call import InferCall
from tests.calls import infer
from tests.unit.serving.test_serving import MINUTE_NS, World, counting, in_world, model, turns


def vocabulary(path: Path) -> str:
    """Looks up one of three words: any other index fails in the run."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "vocabulary",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
        [table],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def word(*indices: int) -> Tensor:
    return Tensor("x", "INT64", np.array(indices, "<i8"))


async def counted(world: World, call: InferCall) -> tuple[int, int]:
    """What the split's evidence has after one more call: errors, and successes."""
    with suppress(Fault):
        await infer(call)
    world.plane.record_answered([call])
    return Totals.of([world.slot], 1).split_outcomes()


def test_a_run_that_fails_counts_whatever_the_caller_is_reported(tmp_path: Path) -> None:
    spec = VersionSpec("1", vocabulary(tmp_path / "m.onnx"), block=1, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        assert await counted(world, world.call("m", word(2))) == (0, 1)
        assert await counted(world, world.call("m", word(99))) == (1, 1)
        wrong_type = Tensor("x", "FP32", np.zeros(1, "<f4"))
        assert await counted(world, world.call("m", wrong_type)) == (1, 1)
        assert await counted(world, world.call("m", word(1), timeout_ns=0)) == (1, 1)

    in_world(story)


def test_a_deadline_counts_only_where_it_passed_during_the_run(tmp_path: Path) -> None:
    spec = VersionSpec("1", counting(tmp_path / "m.onnx"), block=1, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        assert await counted(world, world.call("m", turns(1 << 40), timeout_ns=50_000_000)) == (1, 0)
        assert await counted(world, world.call("m", turns(5), timeout_ns=MINUTE_NS)) == (1, 1)

    in_world(story)


@pytest.mark.parametrize("kind", ["invalid", "not_found", "too_large", "overloaded", "unsupported", "cancelled"])
def test_what_is_refused_before_it_becomes_a_call_is_nobodys_error(tmp_path: Path, kind: str) -> None:
    spec = VersionSpec("1", vocabulary(tmp_path / "m.onnx"), block=1, tag="a")

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        world.plane.record_rejected(world.plane.route(("m", ""), {}), Protocol.REST, kind, 0)
        assert Totals.of([world.slot], 1).split_outcomes() == (0, 0)
        assert Totals.of([world.slot], 1).outcome_count(succeeded=False) == 1

    in_world(story)


def test_every_outcome_has_its_place() -> None:
    before = {outcome for outcome in OUTCOMES if is_attributed(outcome, run_began=False)}
    during = {outcome for outcome in OUTCOMES if is_attributed(outcome, run_began=True)}
    assert before == {"internal", "damaged", "not_ready"}
    assert during - before == {"invalid", "too_large", "unsupported", "deadline"}
