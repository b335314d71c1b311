"""Live rows are explained beside predictions: against the reference, within a share of a core, and counted nowhere."""

import asyncio
import json
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.batching import RowProof
from penstock.core.desired import Desired, ModelSpec, VersionSpec, WatchSpec
from penstock.core.errors import Overloaded, Unsupported
from penstock.core.explanations import ExplanationOptions
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns
from penstock.monitor.counters.totals import Totals
from penstock.monitor.reference import encode_reference
from penstock.monitor.reference_rows import draw_rows
from penstock.monitor.row_attributions import RowAttributions
from penstock.serving.explanations.attributions import (
    MOST_FEATURES,
    NOT_EXACT,
    OPTIONS,
    REFUSED_NS,
    REST,
    WIDE,
    AttributionSampler,
    select_complete,
)
from penstock.serving.explanations.preparation import VersionExplanations
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.observers.explained_rows import TOGETHER, ExplainedRows
from tests.harness import PATIENCE_S
from tests.unit.monitor.test_reference_rows import reference_of
from tests.unit.serving.explanations.test_explainer import FEATURES, ROWS, WEIGHTS, curved, found, linear
from tests.unit.serving.test_serving import World, in_world

Sent = tuple[str, str, str, RowAttributions]


def watched(path: Path, name: str, model: str) -> ModelSpec:
    """A model whose live rows are explained, with a reference of its features."""
    reference = path / f"{name}.json"
    reference.write_text(json.dumps(encode_reference(reference_of([f"x[{index}]" for index in range(FEATURES)]))))
    watch = WatchSpec(path=str(reference), digest="d", explained_rate=1000.0, size=5000)
    return ModelSpec(name, (VersionSpec("1", model, tag=model, rows=RowProof(True), watch=watch, block=1),))


async def sent_by(world: World, model: str, sent: list[Sent], rows: Any) -> None:
    """Offer these rows, one after the other, until attributions are sent."""
    sampler: Any = found(world, model).sampler
    async with asyncio.timeout(PATIENCE_S):
        for row in cycle(rows):
            if sent:
                return
            sampler._keeper.offer([Tensor("x", "FP32", row[None])])
            await asyncio.sleep(0.002)


def attributions_of(model: ModelSpec, rows: Any = ROWS[:1]) -> Sent:
    """Serve a model with live rows, and return what is sent of them first."""
    sent = list[Sent]()

    async def story(world: World) -> None:
        world.loader._on_attributions = lambda *found: sent.append(found)
        await world.loader.apply(Desired(1, (model,)))
        try:
            await sent_by(world, model.name, sent, rows)
        finally:
            world.plane.close_threads()
        assert Totals.of([world.slot], 1).live_outcomes().total() == 0  # no prediction is counted

    in_world(story)
    return sent[0]


def test_live_rows_are_explained_exactly_against_rows_drawn_from_the_reference(tmp_path: Path) -> None:
    model = watched(tmp_path, "lines", linear(tmp_path / "1.onnx", 1))
    name, version, digest, sent = attributions_of(model)
    assert (name, version, digest, sent.problem) == ("lines", "1", "d", "")
    assert (sent.method, sent.scale, sent.output) == ("linear", "value", "y")
    assert list(sent.features) == [f"x[{index}]" for index in range(FEATURES)]
    columns = input_columns([TensorSpec("x", "FP32", (-1, FEATURES))], True)
    drawn = draw_rows(reference_of(list(sent.features)), columns, 50, 0)
    assert drawn is not None and sent.sizes is not None and sent.sizes.shape == (TOGETHER, FEATURES)
    expected = np.abs(WEIGHTS[:, 0] * (ROWS[:1] - drawn["x"].mean(axis=0)))
    np.testing.assert_allclose(sent.sizes, np.repeat(expected, TOGETHER, axis=0), rtol=1e-4, atol=1e-4)


def test_rows_to_which_a_model_answers_nan_are_left_out(tmp_path: Path) -> None:
    rows = ROWS[:TOGETHER].copy()
    rows[1, 3] = np.nan
    *_, sent = attributions_of(watched(tmp_path, "lines", linear(tmp_path / "1.onnx", 1)), rows)
    assert sent.problem == "" and sent.sizes is not None
    assert sent.sizes.shape == (TOGETHER - 1, FEATURES) and np.isfinite(sent.sizes).all()


def test_rows_are_complete_whatever_else_they_have() -> None:
    whole = Tensor("n", "INT64", np.arange(3)[:, None])
    some = Tensor("x", "FP32", np.array([[1.0], [np.inf], [2.0]], np.float32))
    complete = select_complete([whole, some])
    assert complete is not None and [item.data.ravel().tolist() for item in complete] == [[0, 2], [1.0, 2.0]]
    assert select_complete([whole]) is None
    assert select_complete([Tensor("x", "FP32", np.full((2, 1), np.nan, np.float32))]) is None


def test_a_version_without_an_exact_explanation_sends_the_reason(tmp_path: Path) -> None:
    *_, sent = attributions_of(watched(tmp_path, "curve", curved(tmp_path / "c.onnx")))
    assert "there is no exact explanation" in sent.problem and sent.sizes is None


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.mark.parametrize(
    ("fault", "took_ns", "pause_ns", "problems"),
    [
        (Overloaded("busy"), 10, REST * 10, []),
        (Unsupported("no"), 10, REFUSED_NS, ["no"]),
        (ValueError("a defect"), 10, REFUSED_NS, []),
    ],
    ids=["other work", "no exact explanation", "a defect"],
)
def test_after_rows_that_were_not_explained_there_is_a_pause(
    fault: Exception, took_ns: int, pause_ns: int, problems: list[str]
) -> None:
    clock, sent = Clock(), list[RowAttributions]()

    async def make(_: list[Tensor], options: ExplanationOptions) -> Any:
        assert (options.method, options.background) == ("exact", "reference")
        assert not sampler.is_due()
        clock.now_ns += took_ns
        raise fault

    sampler = AttributionSampler({"x": "FP32"}, make, sent.append, clock)
    rows = ExplainedRows(["x"], 1.0, lambda _: None, clock)
    rows.offer([Tensor("x", "FP32", ROWS[:1])])
    assert sampler.is_due()
    asyncio.run(sampler.explain(rows))
    assert [item.problem for item in sent] == problems
    clock.now_ns = took_ns + pause_ns - 1
    assert not sampler.is_due()
    clock.now_ns += 1
    assert sampler.is_due()


class Made:
    """What an explanation has, as far as the sampler looks at it; of itself it is what was prepared too."""

    def __init__(self, method: str, features: int) -> None:
        self.method, self.scale, self.features, self.name = method, "value", ["f"] * features, "y"
        self.attributions = np.stack([np.full((1, features), 3.0), np.full((1, features), -1.0)], axis=2)
        self.matrix = self.output = self


@pytest.mark.parametrize(
    ("made", "problem"),
    [(Made("linear", 4), ""), (Made("enumeration", 4), NOT_EXACT), (Made("tree", MOST_FEATURES + 1), WIDE)],
    ids=["exact", "not as the graph says", "wide"],
)
def test_only_exact_attributions_of_few_features_are_sent(made: Any, problem: str) -> None:
    sent = list[RowAttributions]()

    async def make(*_: object) -> Any:
        return made, made

    rows = ExplainedRows(["x"], 1.0, lambda _: None, Clock())
    rows.offer([Tensor("x", "FP32", ROWS[:1])])
    asyncio.run(AttributionSampler({"x": "FP32"}, make, sent.append).explain(rows))
    assert sent[0].problem == problem
    if not problem:
        assert sent[0].sizes is not None and sent[0].sizes.tolist() == [[2.0] * 4]


def test_live_rows_are_explained_only_in_memory_that_is_to_spare(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (watched(tmp_path, "lines", linear(tmp_path / "1.onnx", 1)),)))
        explainer = world.plane.explainer()
        explainer._memory = MemoryBudget(1)
        kept = VersionExplanations(found(world, "lines"))
        with pytest.raises(Overloaded, match="no memory left"):
            await explainer._make_beside(kept, [Tensor("x", "FP32", ROWS[:1])], OPTIONS)
        world.plane.close_threads()

    in_world(story)
