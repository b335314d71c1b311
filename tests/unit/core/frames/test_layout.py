"""How rows become the inputs of a version, in each of the three kinds, and what is said of rows that do not fit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.frames.binding import row_layout
from penstock.core.frames.csv_text import from_csv
from penstock.core.frames.frame import Frame, FrameColumn
from penstock.core.frames.json_lines import read_json_lines
from penstock.core.frames.json_numbers import load_json
from penstock.core.frames.layout import BoundRows, LayoutKind, RowLayout
from penstock.core.frames.records import from_records
from penstock.core.frames.terms import RowTerms, card_defaults, names_in_order
from penstock.core.signature import Signature, TensorSpec
from tests.frames import from_columns

NAN = float("nan")


def layout_of(*specs: TensorSpec, **terms: Any) -> RowLayout:
    """The layout of a model with these inputs."""
    return row_layout(Signature(specs, [], batching=True), RowTerms(**terms))


def values_of(bound: BoundRows) -> dict[str, Any]:
    """The inputs as lists by name."""
    return {tensor.name: tensor.data.tolist() for tensor in bound.inputs}


def counts_of(bound: BoundRows) -> dict[str, int]:
    """How many values of each column a default stands in for."""
    return {column.name: len(column.rows) for column in bound.defaulted}


def features(datatype: str = "FP32", **terms: Any) -> RowLayout:
    """The layout of one input of three features."""
    return layout_of(TensorSpec("x", datatype, (-1, 3)), **{"names": ("a", "b", "c"), **terms})


def pipeline(**terms: Any) -> RowLayout:
    """The layout of a pipeline as scikit-learn's exporter makes it."""
    return layout_of(
        TensorSpec("age", "FP32", (-1, 1)),
        TensorSpec("city", "BYTES", (-1, 1)),
        TensorSpec("visits", "INT64", (-1,)),
        **terms,
    )


def images() -> RowLayout:
    """The layout of an input of 2 x 2 values and one of one text."""
    return layout_of(TensorSpec("image", "FP32", (-1, 2, 2)), TensorSpec("tag", "BYTES", (-1,)))


@pytest.mark.parametrize(
    ("layout", "kind", "columns", "texts"),
    [
        (features(), LayoutKind.FEATURES, ("a", "b", "c"), set()),
        (features(names=("a",)), LayoutKind.FEATURES, ("x[0]", "x[1]", "x[2]"), set()),
        (layout_of(TensorSpec("x", "FP32", (-1, -1)), names=("a", "b")), LayoutKind.FEATURES, ("a", "b"), set()),
        (layout_of(TensorSpec("x", "BYTES", (-1, 1))), LayoutKind.FEATURES, ("x",), {"x"}),
        (pipeline(), LayoutKind.COLUMNS, ("age", "city", "visits"), {"city"}),
        (layout_of(TensorSpec("x", "INT8", (-1,))), LayoutKind.COLUMNS, ("x",), set()),
        (layout_of(TensorSpec("x", "FP32", (-1, -1))), LayoutKind.TENSORS, ("x",), set()),
        (layout_of(TensorSpec("x", "BF16", (-1, 1))), LayoutKind.TENSORS, ("x",), set()),
        (images(), LayoutKind.TENSORS, ("image", "tag"), {"tag"}),
        (layout_of(), LayoutKind.TENSORS, (), set()),
    ],
)
def test_the_signature_decides_the_kind(
    layout: RowLayout, kind: LayoutKind, columns: tuple[str, ...], texts: set[str]
) -> None:
    assert (layout.kind, layout.columns, set(layout.text_columns)) == (kind, columns, texts)


@pytest.mark.parametrize(
    "instances",
    [
        [[1, 2, 3], [4, 5.5, 6]],
        [{"a": 1, "b": 2, "c": 3}, {"c": 6, "b": 5.5, "a": 4}],
        [{"x": [1, 2, 3]}, {"x": [4, 5.5, 6]}],
    ],
)
def test_rows_of_features_are_lists_or_objects(instances: list[Any]) -> None:
    assert values_of(features().bind_instances(instances)) == {"x": [[1, 2, 3], [4, 5.5, 6]]}


@pytest.mark.parametrize(
    "values", [{"a": [1, 4], "b": [2, 5.5], "c": [3, 6]}, {"x": [[1, 2, 3], [4, 5.5, 6]]}, [[1, 2, 3], [4, 5.5, 6]]]
)
def test_columns_of_features_are_lists(values: Any) -> None:
    assert values_of(features().bind_values(values)) == {"x": [[1, 2, 3], [4, 5.5, 6]]}


ROWS = {"age": [[40.0], [41.5]], "city": [["Bern"], ["Basel"]], "visits": [1, 2]}


@pytest.mark.parametrize(
    "instances",
    [
        [[40, "Bern", 1], [41.5, "Basel", 2.0]],
        [{"visits": 1, "age": 40, "city": "Bern"}, {"visits": 2, "age": 41.5, "city": "Basel"}],
        [{"visits": 1, "age": [40], "city": ["Bern"]}, {"visits": 2, "age": [41.5], "city": ["Basel"]}],
    ],
)
def test_rows_of_pipelines_have_a_value_for_each_input(instances: list[Any]) -> None:
    bound = pipeline().bind_instances(instances)
    assert values_of(bound) == ROWS
    assert [tensor.text_bytes for tensor in bound.inputs] == [0, 9, 0]


def test_pipelines_take_columns_and_frames() -> None:
    columns = {"age": [40, 41.5], "city": ["Bern", "Basel"], "visits": [1, 2]}
    assert values_of(pipeline().bind_values(columns)) == ROWS
    assert values_of(pipeline().bind_values({**columns, "age": [[40], [41.5]]})) == ROWS
    assert values_of(pipeline().bind_frame(from_columns(columns))) == ROWS
    text = "visits,age,city\n1,40,Bern\n2,41.5,Basel\n"
    assert values_of(pipeline().bind_frame(from_csv(text, pipeline().text_columns))) == ROWS


@pytest.mark.parametrize("instances", [[1, 2], [[1], [2]], [{"x": 1}, {"x": 2}], [{"x": [1]}, {"x": [2]}]])
def test_rows_of_one_value_may_be_bare(instances: list[Any]) -> None:
    assert values_of(layout_of(TensorSpec("x", "INT64", (-1, 1))).bind_instances(instances)) == {"x": [[1], [2]]}


def test_rows_of_one_vector_have_bare_values() -> None:
    layout = layout_of(TensorSpec("x", "BYTES", (-1,)))
    assert values_of(layout.bind_instances(["a", "b"])) == {"x": ["a", "b"]}
    assert values_of(layout.bind_values(["a", "b"])) == {"x": ["a", "b"]}


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([], "no rows"),
        ([[1, 2]], "row 0 has 2 values; expected 3: 'a', 'b', 'c'"),
        ([[1, 2, 3], [1, "2", 3]], "row 1, column 'b': expected a number, got '2'"),
        ([[1, 2, 3], {"a": 1, "b": 2, "c": 3}], "row 1: expected a list as in the rows before"),
        ([{"a": 1, "b": 2, "c": 3}, [1, 2, 3]], "row 1: expected an object as in the rows before"),
        ([{"a": 1, "b": 2}], "row 0, column 'c': expected a number, got no value"),
        ([{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "d": 3, "c": 1}], "row 1: unknown column 'd'"),
        ([{"a": 1, "b": 2, "d": 3}], "row 0, column 'c'|unknown column 'd'"),
        ([{"a": 1, "b": 2, "c": [3]}], "row 0, column 'c': expected a number, got a list"),
        ([{"a": 1, "b": 2, "c": {}}], "row 0, column 'c': expected a number, got an object"),
        ([{"a": 1, "b": 2, "c": 1e39}], "row 0, column 'c': expected a number in the range of FP32, got 1e\\+39"),
        ([{"a": 1, "b": 2, "c": 10**400}], "row 0, column 'c': expected a number"),
        ([{"x": [1, 2, 3]}, {"y": [1, 2, 3]}], "row 1: expected an object with 'x' only"),
        ([5], "row 0: expected a list or an object of 3 values, 'a', 'b', 'c'; got 5"),
    ],
)
def test_rows_that_do_not_fit_are_named(instances: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        features().bind_instances(instances)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": [1], "b": [1, 2], "c": [1]}, "column 'b' has 2 values; column 'a' has 1"),
        ({"a": [1], "b": 5, "c": [1]}, "column 'b': expected a list of values, got 5"),
        ({"a": [1], "b": [1]}, "row 0, column 'c'"),
        ({"a": [1], "d": [1]}, "unknown column 'd'"),
        ({"a": [], "b": [], "c": []}, "no rows"),
        (5, "expected an object with a list of values"),
    ],
)
def test_columns_that_do_not_fit_are_named(values: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        features().bind_values(values)


def test_only_a_single_input_takes_values_without_a_name() -> None:
    with pytest.raises(InvalidInput, match="for each of 'age', 'city', 'visits'"):
        pipeline().bind_values([[1]])


def test_extra_columns_are_ignored_where_the_setting_says_so() -> None:
    layout = features(extra_columns="ignore")
    row = {"a": 1, "b": 2, "c": 3, "d": "x"}
    assert values_of(layout.bind_instances([row])) == {"x": [[1, 2, 3]]}
    assert values_of(layout.bind_values({name: [value] for name, value in row.items()})) == {"x": [[1, 2, 3]]}
    assert values_of(layout.bind_frame(from_records([row]))) == {"x": [[1, 2, 3]]}
    with pytest.raises(InvalidInput, match="unknown column 'd'"):
        features().bind_frame(from_records([row]))


DEFAULTS = {"a": 7, "c": None}


@pytest.mark.parametrize(
    ("row", "found", "counted"),
    [
        ({"b": 2, "c": 3}, [7, 2, 3], {"a": 1}),
        ({"a": None, "b": 2, "c": 3}, [7, 2, 3], {"a": 1}),
        ({"a": 1, "b": 2}, [1, 2, NAN], {}),
        ({"a": 1, "b": None, "c": None}, [1, NAN, NAN], {}),
    ],
)
def test_defaults_of_the_card_stand_in_and_are_counted(row: dict[str, Any], found: list[float], counted: Any) -> None:
    layout = features(defaults=DEFAULTS)
    for bound in (
        layout.bind_instances([row]),
        layout.bind_values({name: [value] for name, value in row.items()}),
        layout.bind_frame(from_records([row])),
    ):
        np.testing.assert_array_equal(bound.inputs[0].data, [found])
        assert counts_of(bound) == counted


def test_every_value_that_a_default_stands_in_for_is_counted() -> None:
    frame = from_csv("a,b,c\n,1,1\n2,1,1\n,1,1\n")
    bound = features(defaults=DEFAULTS).bind_frame(frame)
    assert bound.inputs[0].data[:, 0].tolist() == [7, 2, 7]
    assert counts_of(bound) == {"a": 2}
    assert bound.defaulted[0].rows.tolist() == [0, 2]
    absent = features(defaults=DEFAULTS).bind_frame(frame.select(["b", "c"]))
    assert counts_of(absent) == {"a": 3}


def test_it_is_known_where_a_default_stands_in() -> None:
    rows = [{"a": 1, "b": 2}, {"a": None, "b": 2, "c": 3}, {"c": 1}]
    [a, b] = features(defaults={"a": 7, "b": 8, "c": None}).bind_instances(rows).defaulted
    assert (a.name, a.tensor, a.index, a.rows.tolist()) == ("a", "x", 0, [1, 2])
    assert (b.name, b.tensor, b.index, b.rows.tolist()) == ("b", "x", 1, [2])
    [city] = pipeline(defaults={"city": "?"}).bind_instances([{"age": 1, "visits": 1}]).defaulted
    assert (city.name, city.tensor, city.index, city.rows.tolist()) == ("city", "city", 0, [0])


def test_a_column_without_a_default_must_have_values() -> None:
    layout = pipeline(defaults={"city": "?"})
    rows = [{"age": 1, "city": None, "visits": 3}]
    assert values_of(layout.bind_instances(rows)) == {"age": [[1.0]], "city": [["?"]], "visits": [3]}
    with pytest.raises(InvalidInput, match=r"row 1, column 'visits': expected a whole number .*, got no value"):
        layout.bind_instances([*rows, {**rows[0], "visits": None}])
    with pytest.raises(InvalidInput, match="row 0, column 'visits'"):
        layout.bind_frame(from_records([{**rows[0], "visits": None}]))
    with pytest.raises(InvalidInput, match="row 0, column 'visits'"):
        layout.bind_frame(from_records([{"age": 1}]))


def test_a_default_that_does_not_fit_is_refused_when_it_is_needed() -> None:
    with pytest.raises(InvalidInput, match="row 0, column 'a': expected a number"):
        features(defaults={"a": "forty"}).bind_instances([{"b": 1, "c": 2}])
    with pytest.raises(InvalidInput, match="row 0, column 'a': expected a number"):
        features(defaults={"a": "forty"}).bind_frame(from_records([{"a": None, "b": 1, "c": 2}]))


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        ("FP64", [1, True, 2.5, 1e300], ["1", [1], 10**400]),
        ("FP16", [1, 0.5], [1e6]),
        ("INT8", [1, -128, True, 3.0], [128, 1.5, "1", NAN, float("inf")]),
        ("INT64", [2**63 - 1, -(2**63)], [2**63, 1e19]),
        ("UINT64", [2**64 - 1, 0], [-1, 2**64]),
        ("UINT8", [255], [256, -1]),
        ("BOOL", [True, False, 1, 0], [2, "true", 0.5]),
        ("BYTES", ["a", ""], [1, True, "\ud800"]),
    ],
)
def test_values_fit_a_datatype_exactly_or_are_refused(datatype: str, good: list[Any], bad: list[Any]) -> None:
    layout = layout_of(TensorSpec("x", datatype, (-1,)))
    for value in good:
        assert values_of(layout.bind_instances([value])) == {"x": [value]}
    for value in bad:
        with pytest.raises(InvalidInput, match="row 1"):
            layout.bind_instances([good[0], value])


def test_whole_numbers_beyond_floats_are_exact_beside_fractions_of_zero() -> None:
    layout = layout_of(TensorSpec("x", "INT64", (-1, 2)))
    assert values_of(layout.bind_instances([[2**60 + 1, 2.0]])) == {"x": [[2**60 + 1, 2]]}


@pytest.mark.parametrize(
    ("datatype", "values", "found"),
    [
        ("INT8", np.array([1.0, 2.0]), [1, 2]),
        ("INT8", np.array([1.0, 200.0]), None),
        ("INT8", np.array([1.0, 1.5]), None),
        ("INT64", np.array([1.0, 2.0**63]), None),
        ("INT64", np.array([1, 2**63], np.uint64), None),
        ("INT8", np.array([0, 200]), None),
        ("BOOL", np.array([0, 1]), [False, True]),
        ("BOOL", np.array([0, 2]), None),
        ("BOOL", np.array([False, True]), [False, True]),
        ("INT16", np.array([False, True]), [0, 1]),
        ("FP32", np.array([0, 1e39]), None),
        ("FP32", np.array(["a", "b"], object), None),
        ("BYTES", np.array(["a", "b"], object), ["a", "b"]),
        ("BYTES", np.array([1, 2]), None),
    ],
)
def test_columns_of_frames_fit_exactly_or_are_refused(datatype: str, values: Any, found: list[Any] | None) -> None:
    layout = layout_of(TensorSpec("x", datatype, (-1,)))
    frame = Frame({"x": FrameColumn(values)}, 2)
    if found is not None:
        assert values_of(layout.bind_frame(frame)) == {"x": found}
        return
    with pytest.raises(InvalidInput, match=r"row \d, column 'x': expected"):
        layout.bind_frame(frame)


def test_frames_bind_by_position_where_no_name_is_known() -> None:
    frame = from_csv("1,2,3\n", names=["0", "1", "2"])
    assert values_of(features().bind_frame(frame)) == {"x": [[1, 2, 3]]}
    with pytest.raises(InvalidInput, match="unknown column"):
        features().bind_frame(from_csv("1,2\n", names=["0", "1"]))
    with pytest.raises(InvalidInput, match="no rows"):
        features().bind_frame(from_csv("a,b,c\n"))


@pytest.mark.parametrize(
    ("layout", "in_order", "refused"),
    [
        (features(names=()), [("p", "q", "r"), ("0", "1", "2")], [("p", "q"), ("x[0]", "q", "r")]),
        (features(), [("0", "1", "2")], [("p", "q", "r"), ("A", "B", "C"), ("1", "0", "2"), ("0", "1")]),
        (pipeline(), [("0", "1", "2")], [("Age", "City", "Visits"), ("age", "q", "r")]),
        (layout_of(TensorSpec("x", "FP32", (-1, 2, 2))), [("a", "b", "c", "d")], [("a", "b"), ("x[0]", "b", "c", "d")]),
        (images(), [], [("0", "1", "2", "3", "4")]),
    ],
)
def test_columns_count_in_order_only_where_no_names_can_be_confused(
    layout: RowLayout, in_order: list[tuple[str, ...]], refused: list[tuple[str, ...]]
) -> None:
    assert [names for names in in_order if not layout.counts_in_order(names)] == []
    assert [names for names in refused if layout.counts_in_order(names)] == []


def test_a_frame_with_other_names_than_the_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown column 'C'; the model takes 'a', 'b', 'c'"):
        features().bind_frame(from_csv("C,B,A\n1,2,3\n"))


def test_the_text_in_a_column_of_numbers_is_named() -> None:
    with pytest.raises(InvalidInput, match="row 2, column 'b': expected a number, got 'n/a'"):
        features().bind_frame(from_csv("a,b,c\n1,2,3\n1,,3\n1,n/a,3\n"))


def test_arrays_bind_by_position() -> None:
    assert values_of(features().bind_array(np.array([[1, 2, 3]]))) == {"x": [[1, 2, 3]]}
    assert values_of(layout_of(TensorSpec("x", "FP32", (-1, 1))).bind_array(np.array([1, 2]))) == {"x": [[1], [2]]}
    with pytest.raises(InvalidInput, match="expected 3 columns"):
        features().bind_array(np.zeros((2, 2)))


def test_optional_inputs_may_be_left_out() -> None:
    layout = layout_of(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,), optional=True))
    assert values_of(layout.bind_instances([{"a": 1}])) == {"a": [1]}
    assert values_of(layout.bind_values({"a": [1]})) == {"a": [1]}
    assert values_of(layout.bind_frame(from_records([{"a": 1}]))) == {"a": [1]}
    with pytest.raises(InvalidInput, match="row 0, column 'b'"):
        layout.bind_instances([{"a": 1}, {"a": 1, "b": 2}])


IMAGES = [[[1, 2], [3, 4]], [[5, 6], [7, 8.5]]]


def test_tensors_take_nested_lists() -> None:
    rows = [{"image": image, "tag": tag} for image, tag in zip(IMAGES, ["a", "\u00e9"], strict=True)]
    found = images().bind_instances(rows)
    assert values_of(found) == {"image": IMAGES, "tag": ["a", "\u00e9"]}
    assert [tensor.text_bytes for tensor in found.inputs] == [0, 3]
    assert values_of(images().bind_values({"tag": ["a", "\u00e9"], "image": IMAGES})) == values_of(found)


def test_a_single_tensor_needs_no_name() -> None:
    layout = layout_of(TensorSpec("x", "FP32", (-1, 2, 2)))
    for bound in (layout.bind_instances(IMAGES), layout.bind_values(IMAGES), layout.bind_array(np.array(IMAGES))):
        assert values_of(bound) == {"x": IMAGES}
    assert values_of(layout.bind_values({"x": 5})) == {"x": 5.0}


def test_null_is_nan_in_tensors_of_floats() -> None:
    bound = layout_of(TensorSpec("x", "FP32", (-1, -1))).bind_instances([[1, None]])
    np.testing.assert_array_equal(bound.inputs[0].data, [[1, NAN]])


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([], "no rows"),
        ([{"image": IMAGES[0], "tag": "a"}, {"image": IMAGES[0]}], "row 1: expected an object with 'image', 'tag'"),
        ([IMAGES[0]], "expected each row to be an object with values for each of 'image', 'tag'"),
        ([{"image": IMAGES[0], "tag": "a", "z": 1}], "unknown input 'z'"),
        ([{"image": [[1, 2], [3]], "tag": "a"}], "row 0, input 'image': expected lists of the shape \\[2, 2\\]"),
        ([{"image": image, "tag": "a"} for image in (IMAGES[0], [[1, 2], 3])], "row 1, input 'image'"),
        ([{"image": image, "tag": "a"} for image in (IMAGES[0], 5)], "row 1, input 'image'"),
        ([{"image": image, "tag": "a"} for image in (IMAGES[0], [[1, 2], [3, "x"]])], "row 1, input 'image': expected"),
        ([{"image": IMAGES[0], "tag": 5}], "row 0, input 'tag': expected a text"),
    ],
)
def test_nested_lists_that_do_not_fit_are_named(instances: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        images().bind_instances(instances)


def test_numbers_beyond_the_range_name_the_row_and_what_was_sent() -> None:
    for text in ("1e400", "-1e400"):
        with pytest.raises(
            InvalidInput, match=f"row 1, column 'b': expected a number in the range of FP32, got {text}"
        ):
            features().bind_instances(load_json(f"[[1, 2, 3], [1, {text}, 3]]"))
        with pytest.raises(InvalidInput, match=f"column 'visits': expected a whole number from .*, got {text}"):
            pipeline().bind_instances(load_json(f'[{{"age": 1, "city": "x", "visits": {text}}}]'))
    for value in ("1e400", "1e39"):
        rows = load_json(
            f'[{{"image": [[1, 2], [3, 4]], "tag": "a"}}, {{"image": [[1, {value}], [3, 4]], "tag": "a"}}]'
        )
        with pytest.raises(InvalidInput, match="row 1, input 'image': expected a number in the range of FP32"):
            images().bind_instances(rows)
    with pytest.raises(InvalidInput, match="row 1, column 'a'"):
        from_records(read_json_lines('{"a": 1.5}\n{"a": 1e400}\n'))
    assert load_json("[1e300, Infinity, NaN]")[:2] == [1e300, float("inf")]


def test_nested_lists_are_bounded() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(InvalidInput, match="too many dimensions"):
        layout_of(TensorSpec("x", "FP32", (-1, -1))).bind_instances(deep)


def test_bf16_has_no_rows() -> None:
    with pytest.raises(InvalidInput, match="BF16, which rows cannot have"):
        layout_of(TensorSpec("x", "BF16", (-1, 2))).bind_instances([[1, 2]])
    with pytest.raises(InvalidInput, match="input 'x'"):
        layout_of(TensorSpec("x", "FP32", (-1, -1))).bind_array(np.array(["a"], object))


@pytest.mark.parametrize("shape", [(20_000,), (3, 20_000), (2, 150, 200), (40_000, 2)])
def test_large_arrays_are_read_in_slices(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    pauses: list[int] = []
    layout = layout_of(TensorSpec("x", "FP32", (-1,) * (len(shape) + 1)))
    bound = layout.bind_instances([array.tolist()], lambda: pauses.append(1))
    np.testing.assert_array_equal(bound.inputs[0].data, array[None])
    assert len(pauses) >= array.size // (1 << 14)


def test_faults_in_large_arrays_name_the_row() -> None:
    layout = layout_of(TensorSpec("x", "FP32", (-1, -1, -1)))
    for bad, message in (("x", "expected a number"), (None, "the first row has 9000")):
        rows: Any = np.zeros((3, 2, 9000)).tolist()
        if bad is None:
            rows[2][1] = [0.0]
        else:
            rows[2][1][5] = bad
        with pytest.raises(InvalidInput, match=f"row 2, input 'x': .*{message}|row 2, input 'x': expected lists"):
            layout.bind_instances(rows)
    rows = np.zeros((2, 3, 9000)).tolist()
    rows[1] = 5
    with pytest.raises(InvalidInput, match="row 1, input 'x': expected a list"):
        layout.bind_instances(rows)


def test_frames_of_tensors_have_columns_by_name_or_place() -> None:
    one = layout_of(TensorSpec("x", "FP32", (-1, 2, 2)))
    by_name = from_columns({f"x[{index}]": [float(index)] for index in reversed(range(4))})
    other = from_columns({name: [float(index)] for index, name in enumerate("pqrs")})
    for frame in (by_name, other):
        assert values_of(one.bind_frame(frame)) == {"x": [[[0, 1], [2, 3]]]}
    columns = {**{f"image[{index}]": [1.0] for index in range(4)}, "tag": ["a"]}
    assert values_of(images().bind_frame(from_columns(columns))) == {"image": [[[1, 1], [1, 1]]], "tag": ["a"]}
    for frame, message in (
        (from_columns({"p": [1]}), "the data has 1 columns; expected 4"),
        (from_columns({"x[0]": [1]}), r"row 0, column 'x\[1\]'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            one.bind_frame(frame)
    with pytest.raises(InvalidInput, match="no fixed number of values"):
        layout_of(TensorSpec("x", "FP32", (-1, -1)), TensorSpec("y", "FP32", (-1, 2))).bind_frame(
            from_columns({"x": [1], "y[0]": [1], "y[1]": [1]})
        )


def test_optional_tensors_may_be_left_out_of_frames() -> None:
    layout = layout_of(TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "FP32", (-1, 2), optional=True))
    assert values_of(layout.bind_frame(from_columns({"x[0]": [1], "x[1]": [2]}))) == {"x": [[1, 2]]}


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3), min_size=1, max_size=6))
@settings(max_examples=50)
def test_all_forms_of_rows_give_the_same_input(rows: list[list[float]]) -> None:
    layout, names = features(), ("a", "b", "c")
    records = [dict(zip(names, row, strict=True)) for row in rows]
    expected = np.array(rows, np.float32)
    for bound in (
        layout.bind_instances(rows),
        layout.bind_instances(records),
        layout.bind_instances([{"x": row} for row in rows]),
        layout.bind_values({name: [row[index] for row in rows] for index, name in enumerate(names)}),
        layout.bind_frame(from_records(records)),
        layout.bind_array(np.array(rows)),
    ):
        np.testing.assert_array_equal(bound.inputs[0].data, expected)
        assert bound.inputs[0].data.dtype == np.float32


def test_many_rows_are_bound_in_slices() -> None:
    pauses: list[int] = []
    rows = [[index, index + 0.5, None if index == 9_000 else 1] for index in range(10_000)]
    bound = features(defaults={"c": 8}).bind_instances(rows, lambda: pauses.append(1))
    assert bound.inputs[0].data[[0, 9_000, 9_999]].tolist() == [[0, 0.5, 1], [9_000, 9_000.5, 8], [9_999, 9_999.5, 1]]
    assert counts_of(bound) == {"c": 1}
    assert pauses
    with pytest.raises(InvalidInput, match="row 9001, column 'c'"):
        features().bind_instances([*rows[:9_001], [1, 2, "x"]])


def test_defaults_come_from_the_features_of_a_card() -> None:
    card = {
        "features": {
            "a": {"default": 40},
            "b": "in years",
            "c": {"description": "d"},
            "d": {"default": None},
            "e": {"default": [1]},
        }
    }
    assert card_defaults(card) == {"a": 40, "d": None}
    assert card_defaults({"features": ["a"]}) == card_defaults(None) == {}


@pytest.mark.parametrize(
    ("stated", "reference", "names"),
    [
        ((), ("a", "b"), ("a", "b")),
        (("b", "a"), ("a", "b"), ("a", "b")),
        (("b", "a"), ("x[0]", "x[1]"), ("b", "a")),
        (("b", "a"), (), ("b", "a")),
        ((), (), ()),
    ],
)
def test_the_data_that_a_model_was_trained_with_has_the_order_of_its_features(
    stated: tuple[str, ...], reference: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert names_in_order(stated, reference) == names


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([[1, 2, 3], [1, 2]], "row 1 has 2 values; expected 3: 'a', 'b', 'c'"),
        ([[1, 2, 3], {"a": 1}], "row 1: expected a list as in the rows before"),
        ([{"a": 1, "b": 2, "c": 3}, [1, 2, 3]], "row 1: expected an object as in the rows before"),
        ([[1, 2, 3], [1, None, "x"]], "row 1, column 'c': expected a number, got 'x'"),
        ([{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}], "row 1, column 'c': expected a number, got no value"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_its_number(instances: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}$"):
        features().bind_instances(instances)


def test_many_rows_of_each_kind_are_bound_in_slices_with_a_pause_between() -> None:
    rows, pauses = 20_000, list[int]()
    bound = features().bind_instances([[1, 2, index] for index in range(rows)], lambda: pauses.append(1))
    assert bound.inputs[0].data[:, 2].tolist() == list(map(float, range(rows)))
    assert pauses
    counted = list[int]()
    values = {"age": [1.0] * rows, "city": ["x"] * rows, "visits": list(range(rows))}
    found = pipeline().bind_values(values, lambda: counted.append(1))
    assert found.inputs[2].data.tolist() == list(range(rows))
    assert len(counted) > len(pauses)  # texts come in shorter slices
