"""Training data: read from every form, fitted to the model's inputs, and made into a reference."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock.core.errors import InvalidInput
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature, TensorSpec
from penstock.engine import model as engine
from penstock.monitor.columns import RowValues
from penstock.monitor.profile import make_reference
from penstock.monitor.reference import decode_reference, encode_reference
from penstock.monitor.reference_builder import build
from penstock.monitor.tables import Table, inputs_of, read_table, times_of
from tests import zoo

NUMBERS = {"a": [1.0, 2.5, np.nan], "b": [4.0, 5.0, 6.0]}


def csv(folder: Path) -> Path:
    file = folder / "data.csv"
    file.write_text("a,b,name\n1,4,x\n2.5,5,y\n,6,z\n")
    return file


def npz(folder: Path) -> Path:
    file = folder / "data.npz"
    np.savez(file, a=np.array(NUMBERS["a"]), b=np.array(NUMBERS["b"]))
    return file


def columnar(folder: Path) -> Path:
    file = folder / "data.parquet"
    parquet.write_table(pa.table(NUMBERS), file)
    return file


@pytest.mark.parametrize("write", [csv, npz, columnar])
def test_every_form_is_read_by_what_it_is(tmp_path: Path, write: Any) -> None:
    table = read_table(write(tmp_path).rename(tmp_path / "without a suffix"))
    assert table["b"].tolist() == [4, 5, 6]
    assert table["a"][:2].tolist() == [1, 2.5]
    assert np.isnan(table["a"][2])
    if write is csv:
        assert table["name"].tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"a,b\n1\n", b"\xff\xfe\x00", b"PK\x03\x04 no archive", b"a\n\n"])
def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "data"
    file.write_bytes(content)
    with pytest.raises(InvalidInput):
        read_table(file)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, a=np.array([{"an": "object"}], object))
    with pytest.raises(InvalidInput, match="plain arrays"):
        read_table(file)


def signature(*specs: TensorSpec) -> Signature:
    return Signature(specs, (), batching=True)


def table() -> Table:
    return {"b": np.array([4.0, 5.0]), "a": np.array([1.0, 2.0]), "t": np.array(["x", "y"], object)}


@pytest.mark.parametrize(
    ("spec", "names", "expected"),
    [
        (TensorSpec("x", "FP32", (-1, 2)), ["a", "b"], [[1, 4], [2, 5]]),
        (TensorSpec("x", "FP32", (-1, 2)), [], [[4, 1], [5, 2]]),
        (TensorSpec("a", "FP64", (-1,)), [], [1, 2]),
        (TensorSpec("t", "BYTES", (-1,)), [], ["x", "y"]),
    ],
)
def test_inputs_are_made_of_columns(spec: TensorSpec, names: list[str], expected: Any) -> None:
    [tensor] = inputs_of(table(), signature(spec), names).tensors
    assert (tensor.name, tensor.datatype, tensor.data.tolist()) == (spec.name, spec.datatype, expected)


X2 = TensorSpec("x", "FP32", (-1, 2))
HEADED = {"age": np.array([30.0, 40.0]), "income": np.array([1.0, 2.0])}


@pytest.mark.parametrize(
    ("data", "graph", "card", "names", "first"),
    [
        (HEADED, [], [], ("age", "income"), [30, 1]),
        (HEADED, ["income", "age"], ["age", "income"], ("income", "age"), [1, 30]),
        (HEADED, ["a", "b", "c"], [], ("age", "income"), [30, 1]),
        (HEADED, [], ["income", "age"], ("age", "income"), [30, 1]),
        (HEADED, [], ["years", "money"], ("years", "money"), [30, 1]),
        (HEADED, [], ["age", "money"], ("age", "money"), [30, 1]),
        ({"label": np.array([0.0, 1.0]), **HEADED}, [], [], ("age", "income"), [30, 1]),
        ({"why": np.array([0.0, 1.0]), **HEADED}, [], ["age", "income"], ("age", "income"), [30, 1]),
        ({"0.5": np.array([1.0, 2.0]), "-1e3": np.array([3.0, 4.0])}, [], [], (), [1, 3]),
        ({"\x1b[31m": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}, [], [], (), [1, 3]),
        ({"x": np.array([[1.0, 3.0], [2.0, 4.0]])}, [], ["a", "b"], ("a", "b"), [1, 3]),
        ({" a ": np.array([1.0]), "b" * 150: np.array([3.0])}, [], [], ("a", "b" * 100), [1, 3]),
    ],
)
def test_features_are_called_by_the_graph_the_card_or_the_header(
    data: Table, graph: list[str], card: list[str], names: tuple[str, ...], first: list[float]
) -> None:
    found = inputs_of(data, signature(X2), graph, card, {"label"})
    assert found.names == names
    assert found.tensors[0].data[0].tolist() == first


def test_single_columns_of_several_inputs_are_found_by_name() -> None:
    specs = [TensorSpec(name, "FP32", (-1, 1)) for name in ("income", "age")]
    found = inputs_of(HEADED, signature(*specs), [])
    assert [tensor.data.tolist() for tensor in found.tensors] == [[[1], [2]], [[30], [40]]]


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("age,age\n1,2\n")
    with pytest.raises(InvalidInput, match="two columns 'age'"):
        read_table(file)


def test_no_two_columns_of_a_reference_have_one_name() -> None:
    rows = RowValues(np.random.default_rng(0).normal(size=(100, 5)), ())
    outputs = RowValues(np.random.default_rng(1).normal(size=(100, 1)), ())
    made = build((["y", "a", "a", "(joint)", "y"], ["y"]), rows, outputs, "training")
    names = [feature.bins.name for feature in made.features]
    assert len(set(names)) == len(names)
    assert names == ["y (input)", "a", "a (input)", "(joint) (input)", "y (input2)", "y", "(joint)"]


TIMES = [1_767_571_200.0, 1_767_574_800.5]


@pytest.mark.parametrize(
    ("column", "name", "times"),
    [
        (np.array(TIMES), "", TIMES),
        (np.array(TIMES) * 1e3, "", TIMES),
        (np.array(TIMES) * 1e6, "", TIMES),
        (np.array(TIMES) * 1e9, "", TIMES),
        (np.array(["2026-01-05T00:00:00Z", "2026-01-05 01:00:00.5"], object), "", TIMES),
        (np.array(["2026-01-05T01:00:00+01:00", "2026-01-05T01:00:00.5"], object), "", TIMES),
        (np.array([1_767_571_200_000, 1_767_574_800_500], "M8[ms]"), "", TIMES),
        (np.array(["noon", "later"], object), "", None),
        (np.array([np.nan, 1.0]), "", None),
        (np.array([[1.0], [2.0]]), "", None),
    ],
)
def test_times_are_read_from_every_form(column: np.ndarray, name: str, times: list[float] | None) -> None:
    found = times_of({"timestamp": column}, name, [], 2)
    assert (None if found is None else found.tolist()) == (times if times is None else pytest.approx(times, abs=1e-3))


def test_a_missing_column_of_times_is_refused() -> None:
    data = {"when": np.array(["noon", "later"], object)}
    for name in ("when", "timestamp"):
        with pytest.raises(InvalidInput, match=f"no column '{name}' of times"):
            times_of(data, name, [], 2)
    assert times_of({"time": np.array(TIMES)}, "", ["time"], 2) is None  # the model takes it for a feature


def seasonal(ordered: bool) -> Table:
    """A week of rows whose first feature moves with the day, in order of time or not."""
    draw = np.random.default_rng(7)
    times = TIMES[0] + np.arange(20_000) * (604_800 / 20_000)
    rows = draw.normal(size=(20_000, 5))
    rows[:, 0] += 0.5 * np.sin(2 * np.pi * times / 86_400)
    order = slice(None) if ordered else draw.permutation(20_000)
    return {"timestamp": times[order], **{f"f{index}": rows[order, index] for index in range(5)}}


def test_what_is_usual_by_the_hour_is_learned_from_times_or_order(tmp_path: Path) -> None:
    zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    loaded = engine.load(tmp_path / "m.onnx", ModelOptions(), threads=1)
    timed = make_reference(seasonal(ordered=False), loaded, [])
    names = [feature.bins.name for feature in timed.inputs]
    without = {name: column for name, column in seasonal(ordered=True).items() if name != "timestamp"}
    ordered = make_reference(without, loaded, [])
    still = make_reference({name: seasonal(ordered=False)[name] for name in without}, loaded, [])
    loaded.close()
    assert names == ["f0", "f1", "f2", "f3", "f4"]  # the times are not a feature
    assert (timed.hours, ordered.hours, still.hours) == (168, 0, 0)
    assert np.sum(timed.inputs[0].hours) == 20_000
    assert ordered.inputs[0].seasonal_variation > 0.1
    assert ordered.inputs[1].seasonal_variation == 0
    assert not any(feature.seasonal_variation for feature in still.features)
    for item in (timed, ordered, still):
        assert decode_reference(json.loads(json.dumps(encode_reference(item)))) == item


@pytest.mark.parametrize(
    "spec",
    [TensorSpec("x", "FP32", (-1, 7)), TensorSpec("x", "FP32", (-1, 3, 8, 8)), TensorSpec("x", "FP32", (-1, 3))],
    ids=["too wide", "an image", "a text among numbers"],
)
def test_data_that_does_not_fit_is_refused(spec: TensorSpec) -> None:
    with pytest.raises(InvalidInput, match="'x'"):
        inputs_of(table(), signature(spec), [])


def test_a_model_is_run_over_its_data(tmp_path: Path) -> None:
    zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    loaded = engine.load(tmp_path / "m.onnx", ModelOptions(), threads=1)
    rows = np.random.default_rng(0).normal(size=(2500, 5))
    reports: list[int] = []
    made = make_reference(
        {f"f{index}": rows[:, index] for index in range(5)},
        loaded,
        [f"f{index}" for index in range(5)],
        lambda done, _: reports.append(done),
    )
    loaded.close()
    assert reports == [1024, 2048, 2500]
    assert (made.source, made.rows) == ("training", 2500)
    assert [feature.bins.name for feature in made.inputs] == ["f0", "f1", "f2", "f3", "f4"]
    assert all(feature.rows == 2500 for feature in made.features)
    assert made.outputs
