"""Explanations of loaded versions: exact and sampled, beside predictions, within bounds, and counted as none."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.core.batching import RowProof
from penstock.core.desired import Desired, LearnSpec, ModelSpec, VersionSpec, WatchSpec
from penstock.core.errors import (
    Cancelled,
    Fault,
    Internal,
    InvalidInput,
    NotFound,
    NotReady,
    OverBudget,
    Overloaded,
    Unsupported,
)
from penstock.core.explanations import ExplanationRecord, options_in
from penstock.core.labels import Priority, Protocol, Route
from penstock.core.tensors import Tensor
from penstock.monitor.counters.totals import Totals
from penstock.monitor.reference import encode_reference
from penstock.serving.explanations import explainer as explainers
from penstock.serving.explanations.answer import note_of
from penstock.serving.explanations.background import why_no_rows
from penstock.serving.explanations.run_rows import run_call
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.model_loader import MOST_GRAPH_BYTES
from tests.unit.monitor.test_reference_rows import reference_of
from tests.unit.serving.test_serving import MINUTE_NS, World, in_world

FEATURES = 12
"""More than can be enumerated."""

WEIGHTS = np.arange(1, FEATURES + 1, dtype=np.float32).reshape(FEATURES, 1)
ROWS = np.random.default_rng(5).normal(size=(40, FEATURES)).astype(np.float32)


def linear(path: Path, factor: float) -> str:
    """y = x @ (weights * factor): exact."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return save(path, nodes, numpy_helper.from_array(WEIGHTS * np.float32(factor), "w"))


def curved(path: Path) -> str:
    """y = tanh(x @ weights) * tanh(x @ weights), in a way that has no exact form."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("Mul", ["t", "t"], ["y"]),
    ]
    return save(path, nodes, numpy_helper.from_array(WEIGHTS / 20, "w"))


def save(path: Path, nodes: list[Any], weights: Any) -> str:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return str(path)


def by_town(path: Path) -> str:
    """y = [price of the town, size] @ [2, 1], as pipelines over columns of texts and numbers are exported."""
    prices: dict[str, Any] = {"keys_strings": ["rome", "oslo"], "values_floats": [10.0, 30.0], "default_float": 5.0}
    nodes = [
        helper.make_node("LabelEncoder", ["town"], ["price"], domain="ai.onnx.ml", **prices),
        helper.make_node("Concat", ["price", "size"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "w"], ["y"]),
    ]
    text, number = TensorProto.STRING, TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(*item, ["n", 1]) for item in (("town", text), ("size", number))]
    weights = numpy_helper.from_array(np.array([[2.0], [1.0]], np.float32), "w")
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", number, ["n", 1])], [weights])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return str(path)


def towns(names: list[Any], sizes: list[float]) -> list[Tensor]:
    texts = np.array([[name] for name in names], object)
    return [Tensor("town", "BYTES", texts), Tensor("size", "FP32", np.array(sizes, np.float32)[:, None])]


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def version(name: str, path: str, block: int, watch: WatchSpec | None = None) -> VersionSpec:
    learn = WatchSpec(learn=LearnSpec(100, 10, 60.0))
    return VersionSpec(name, path, block=block, tag=path, rows=RowProof(True), watch=watch or learn)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound of rows ends sampling, and no time, which a busy machine may lack."""
    monkeypatch.setattr("penstock.serving.explanations.preparation.MOST_EVALUATED", 1500)


@pytest.fixture
def models(tmp_path: Path) -> tuple[ModelSpec, ...]:
    lines = ModelSpec(
        "lines",
        (version("1", linear(tmp_path / "1.onnx", 1), 1), version("2", linear(tmp_path / "2.onnx", 3), 2)),
        aliases={"champion": "1"},
    )
    return lines, ModelSpec("curve", (version("1", curved(tmp_path / "c.onnx"), 3),))


def serve(models: tuple[ModelSpec, ...], story: Callable[[World], Awaitable[None]], rows: int = 40) -> None:
    """Run a story in a world that serves the models, with live rows."""

    async def run(world: World) -> None:
        await world.loader.apply(Desired(1, models))
        for model in models:
            for spec in model.versions:
                loaded = found(world, model.name, spec.version)
                if loaded.live_rows is not None and rows:
                    loaded.live_rows.offer([Tensor("x", "FP32", ROWS[:rows])])
        try:
            await story(world)
        finally:
            world.plane.close_threads()

    in_world(run)


def found(world: World, model: str, name: str = "") -> LoadedVersion:
    return world.plane.routing_table.find((model, name))[0]


def asked(
    world: World,
    model: str,
    name: str = "",
    rows: Any = ROWS[:2],
    *,
    inputs: list[Tensor] | None = None,
    **parameters: Any,
) -> InferCall:
    tensors = inputs or [Tensor("x", "FP32", rows)]
    explained = world.plane.explainer().explained(found(world, model, name))
    now = monotonic_ns()
    call = InferCall(explained, Route.STABLE, Protocol.REST, "a", tensors, None, now + MINUTE_NS, now)
    call.explanation = ExplanationRecord(options_in({"budget_ms": 60_000, **parameters}))
    return call


async def explained(world: World, *where: str, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    call = await run_call(asked(world, *where, **parameters))
    assert call.explanation is not None
    return {tensor.name: tensor.data for tensor in call.outputs}, call.explanation.parameters


def test_a_linear_version_is_explained_exactly_and_counted_as_no_prediction(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        arrays, facts = await explained(world, "lines")
        expected = WEIGHTS[:, 0] * (ROWS[:2] - ROWS.mean(axis=0))
        np.testing.assert_allclose(arrays["attributions"], expected, atol=1e-3)
        assert facts["exact"] is True and facts["background"] == "live" and facts["background_rows"] == 40
        assert arrays["features"].tolist() == [f"x[{index}]" for index in range(FEATURES)]
        again, _ = await explained(world, "lines")
        np.testing.assert_array_equal(again["attributions"], arrays["attributions"])
        totals = Totals.of([world.slot], 1)
        assert not list(totals.requests()) and totals.explanations()["exact"] == 2
        assert totals.explanations()["ns"] > 0

    serve(models, story)


def test_texts_are_explained_exactly(tmp_path: Path) -> None:
    spec = ModelSpec("towns", (version("1", by_town(tmp_path / "t.onnx"), 1),))

    async def story(world: World) -> None:
        rows = found(world, "towns").live_rows
        assert rows is not None
        rows.offer(towns(["rome", "oslo"] * 10, [1.0, 3.0] * 10))
        for name in ("oslo", "paris", "rome"):  # paris is in no background, and texts are numbered for each request
            call = asked(world, "towns", inputs=towns([name], [4.0]))
            await run_call(call)
            assert call.explanation is not None and call.explanation.parameters["exact"] is True
            price = {"oslo": 30, "rome": 10}.get(name, 5)
            np.testing.assert_allclose(call.outputs[0].data, [[2 * price - 40, 2]], atol=1e-4)

    serve((spec,), story, rows=0)


def test_a_note_does_not_deny_that_all_coalitions_are_exact() -> None:
    assert note_of("an input is of texts", is_exact=True) == "not from the graph: an input is of texts"
    assert note_of("an input is of texts", is_exact=False) == "not exact: an input is of texts"
    assert note_of("", is_exact=True) == note_of("", is_exact=False) == ""


def test_a_curved_version_is_sampled_with_an_error(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        arrays, facts = await explained(world, "curve", rows=ROWS[:1], outputs="y:0")
        sums = arrays["base_value"] + arrays["attributions"].sum(axis=1)
        np.testing.assert_allclose(sums, arrays["prediction"][:, 0], atol=1e-6)
        assert facts["exact"] is False and facts["method"] == "permutation" and "not exact" in facts["note"]
        assert arrays["error"].any() and Totals.of([world.slot], 3).explanations()["sampled"] == 1
        _, chosen = await explained(world, "lines", rows=ROWS[:1], method="permutation")
        assert chosen["method"] == "permutation" and "was asked for" in chosen["note"]

    serve(models, story)


def test_the_difference_of_two_versions_is_explained(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        arrays, facts = await explained(world, "lines", "2", against="champion")
        np.testing.assert_allclose(arrays["prediction"], 2 * ROWS[:2] @ WEIGHTS, rtol=1e-4, atol=1e-3)
        assert facts["against"] == "champion" and facts["exact"] is True
        with pytest.raises(NotFound):
            await explained(world, "lines", against="7")

    serve(models, story)


def test_predictions_come_with_their_explanations_if_they_are_asked_for(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        call = await run_call(asked(world, "lines", predictions=True))
        assert call.explanation is not None
        [predicted] = call.explanation.predictions
        np.testing.assert_allclose(predicted.data, ROWS[:2] @ WEIGHTS, rtol=1e-4)

    serve(models, story)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"outputs": "y:3"}, InvalidInput),
        ({"outputs": "z"}, InvalidInput),
        ({"method": "enumeration"}, Unsupported),
        ({"rows": ROWS[:0]}, InvalidInput),
        ({"rows": ROWS[:, :3]}, InvalidInput),
        ({"background": "reference"}, NotReady),
    ],
)
def test_what_is_not_possible_is_refused(
    models: tuple[ModelSpec, ...], parameters: dict[str, Any], kind: type[Fault]
) -> None:
    async def story(world: World) -> None:
        with pytest.raises(kind):
            await explained(world, "lines", **parameters)
        if "rows" not in parameters:
            assert Totals.of([world.slot], 1).explanations()["failed"] == 1

    serve(models, story)


def test_an_exact_answer_is_refused_where_there_is_none(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        with pytest.raises(InvalidInput, match="no exact explanation"):
            await explained(world, "curve", method="exact")
        with pytest.raises(InvalidInput):
            await explained(world, "curve", rows=ROWS[:1], outputs="y:1")

    serve(models, story)


def test_without_rows_there_is_nothing_to_compare_with(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        for background in ("auto", "live"):
            with pytest.raises(NotReady, match="send predictions"):
                await explained(world, "lines", background=background)

    serve(models, story, rows=0)


def test_a_version_without_rows_of_its_own_is_compared_with_those_of_the_other(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        rows = found(world, "lines").live_rows
        assert rows is not None
        rows.offer([Tensor("x", "FP32", ROWS)])
        for background in ("auto", "live"):
            arrays, facts = await explained(world, "lines", "2", against="champion", background=background)
            assert (facts["background"], facts["background_rows"]) == ("live of version 1", 40)
            np.testing.assert_allclose(arrays["base_value"], 2 * ROWS.mean(axis=0) @ WEIGHTS, rtol=1e-3, atol=1e-3)
        with pytest.raises(NotReady, match="send predictions"):
            await explained(world, "lines", "2")
        own = found(world, "lines", "2").live_rows
        assert own is not None
        own.offer([Tensor("x", "FP32", ROWS[:32])])
        _, facts = await explained(world, "lines", "2", against="1")
        assert (facts["background"], facts["background_rows"]) == ("live", 32)

    serve(models, story, rows=0)


def test_an_answer_says_why_a_version_never_has_rows(models: tuple[ModelSpec, ...]) -> None:
    watch = WatchSpec(learn=LearnSpec(100, 10, 60.0), masked=("x[0]",))
    spec = ModelSpec("lines", (version("1", models[0].versions[0].path, 1, watch),))

    async def story(world: World) -> None:
        with pytest.raises(NotReady, match=r"none are kept where the policy masks inputs; push a reference"):
            await explained(world, "lines")
        with pytest.raises(NotReady, match="the version has no reference"):
            await explained(world, "lines", background="reference")
        found(world, "lines").signature.batching = False
        assert "without an axis of rows" in why_no_rows(found(world, "lines"), "auto")

    serve((spec,), story)


def test_few_live_rows_are_better_than_none(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        _, facts = await explained(world, "lines")
        assert (facts["background"], facts["background_rows"]) == ("live", 3)

    serve(models, story, rows=3)


def test_a_file_that_is_gone_or_too_large_gives_no_exact_explanation(
    models: tuple[ModelSpec, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        loaded = found(world, "lines")
        assert 0 < len(loaded.read_graph()) < MOST_GRAPH_BYTES
        path = Path(models[0].versions[0].path)
        content = loaded.read_graph()
        write(path, b"no graph")
        _, facts = await explained(world, "lines", rows=ROWS[:1])
        assert facts["exact"] is False and "cannot be read" in facts["note"]
        remove(path)
        assert loaded.read_graph() == b""
        write(path, content)
        monkeypatch.setattr("penstock.serving.model_loader.MOST_GRAPH_BYTES", 10)
        assert loaded.read_graph() == b""

    serve(models, story)


def test_explanations_are_bounded_in_number_and_memory(
    models: tuple[ModelSpec, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        monkeypatch.setattr(explainers, "MOST_RUNNING", 0)
        call = asked(world, "lines")
        assert isinstance(call.loaded.admission_error(Priority.BATCH), Overloaded)
        with pytest.raises(Overloaded, match="as many explanations"):
            await run_call(call)
        monkeypatch.setattr(explainers, "MOST_RUNNING", 2)
        assert call.loaded.admission_error(Priority.BATCH) is None
        world.plane.memory.take(world.plane.memory.limit)
        with pytest.raises(OverBudget):
            await run_call(asked(world, "lines"))
        world.plane.memory.give_back(world.plane.memory.limit)
        plain = asked(world, "lines")
        plain.explanation = None
        with pytest.raises(Fault, match="the request failed"):
            await run_call(plain)
        assert call.loaded.run_inline([call]) == ()

    serve(models, story)


def test_a_caller_that_disconnects_ends_its_explanation(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        call = asked(world, "curve", budget_ms=60_000)
        call.loaded.prepare_inline(call)
        ended: asyncio.Future[InferCall] = asyncio.get_running_loop().create_future()
        cancel = call.loaded.enqueue(call, ended.set_result)
        await asyncio.sleep(0)
        cancel()
        assert isinstance((await ended).fault, Cancelled)
        assert world.plane.memory.used == 0

    serve(models, story)


def test_rows_are_drawn_from_a_reference_where_inputs_are_masked(models: tuple[ModelSpec, ...], tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(encode_reference(reference_of([f"x[{index}]" for index in range(FEATURES)]))))
    watch = WatchSpec(path=str(path), size=0, masked=("x[0]",))
    spec = ModelSpec("lines", (version("1", models[0].versions[0].path, 1, watch),))

    async def story(world: World) -> None:
        assert found(world, "lines").live_rows is None
        _, facts = await explained(world, "lines")
        assert (facts["background"], facts["background_rows"]) == ("reference", 50)
        write(path, b"no reference")
        with pytest.raises(NotReady):
            await explained(world, "lines", seed=1)

    serve((spec,), story)


def wide(path: Path) -> str:
    """y = [x @ weights, x @ weights]: two columns where the other versions have one."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    both = numpy_helper.from_array(np.hstack([WEIGHTS, WEIGHTS]), "w")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [both],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_versions_with_other_inputs_or_outputs_are_not_compared(tmp_path: Path) -> None:
    paths = linear(tmp_path / "1.onnx", 1), by_town(tmp_path / "2.onnx"), wide(tmp_path / "3.onnx")
    specs = tuple(version(str(number), path, number) for number, path in enumerate(paths, 1))

    async def story(world: World) -> None:
        with pytest.raises(InvalidInput, match="version '2' takes other inputs"):
            await explained(world, "mixed", "1", against="2")
        with pytest.raises(InvalidInput, match="outputs of different sizes"):
            await explained(world, "mixed", "1", against="3", background="live")

    async def run(world: World) -> None:
        await world.loader.apply(Desired(1, (ModelSpec("mixed", specs, aliases={"champion": "1"}),)))
        for name in ("1", "3"):
            rows = found(world, "mixed", name).live_rows
            assert rows is not None
            rows.offer([Tensor("x", "FP32", ROWS)])
        try:
            await story(world)
        finally:
            world.plane.close_threads()

    in_world(run)


def test_one_column_of_an_output_is_explained_exactly(tmp_path: Path) -> None:
    model = ModelSpec("wide", (version("1", wide(tmp_path / "w.onnx"), 1),))

    async def story(world: World) -> None:
        arrays, facts = await explained(world, "wide", outputs="y:1")
        assert facts["exact"] is True and arrays["attributions"].shape == (2, FEATURES)
        with pytest.raises(InvalidInput, match="column"):
            await explained(world, "wide", outputs="y:2")

    serve((model,), story)


def test_only_a_loaded_version_is_explained(models: tuple[ModelSpec, ...]) -> None:
    async def story(world: World) -> None:
        explainer = world.plane.explainer()
        twice = explainer.explained(found(world, "lines"))
        assert explainer.explained(found(world, "lines")) is twice
        with pytest.raises(Internal):
            explainer.explained(twice)

    serve(models, story)
