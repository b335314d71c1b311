"""Inputs from signatures and from references, and the times of stages from two answers of the statistics."""

from typing import Any

import numpy as np
import pytest

from penstock.loadtest.inputs import REQUESTS, BadInputs, make_requests, match_columns, parse_shapes
from penstock.loadtest.reference import draw_columns
from penstock.loadtest.stages import stage_times

IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 3, -1, -1]}
ROW = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}


def spec(datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": list(shape)}


@pytest.mark.parametrize(
    ("datatype", "kind"),
    [("FP32", float), ("FP16", float), ("INT64", int), ("UINT8", int), ("BOOL", bool), ("BYTES", str)],
)
def test_values_are_of_the_datatype_and_fill_the_shape(datatype: str, kind: type) -> None:
    requests = make_requests([spec(datatype, -1, 4)], 3, {}, seed=1)
    assert len(requests) == REQUESTS
    for request in requests:
        (tensor,) = request["inputs"]
        assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("x", datatype, [3, 4])
        assert [type(value) for value in tensor["data"]] == [kind] * 12
    assert requests == make_requests([spec(datatype, -1, 4)], 3, {}, seed=1)
    assert requests[0] != requests[1]


def test_a_shape_of_any_size_is_stated_or_one() -> None:
    (first, *_) = make_requests([IMAGE], 2, {}, seed=1)
    assert first["inputs"][0]["shape"] == [2, 3, 1, 1]
    (first, *_) = make_requests([IMAGE], 2, parse_shapes(["image=1,3,4,5"]), seed=1)
    assert first["inputs"][0]["shape"] == [1, 3, 4, 5] and len(first["inputs"][0]["data"]) == 60


@pytest.mark.parametrize("text", ["image", "image=", "=1,2", "image=1,x", "image=0,1", "image=1,-2"])
def test_a_shape_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BadInputs, match="--shape: expected INPUT=SIZE"):
        parse_shapes([text])


@pytest.mark.parametrize("shapes", [{"other": [1]}, {"image": [1, 3, 4]}, {"image": [1, 4, 4, 4]}])
def test_a_shape_that_does_not_fit_is_refused(shapes: dict[str, list[int]]) -> None:
    with pytest.raises(BadInputs, match="image FP32"):
        make_requests([IMAGE], 1, shapes, seed=1)


def test_requests_are_bounded() -> None:
    with pytest.raises(BadInputs, match="at most"):
        make_requests([spec("FP32", -1, 1 << 24)], 2, {}, seed=1)


def feature(name: str, bins: list[str], counts: list[int]) -> dict[str, Any]:
    return {"name": name, "bins": bins, "reference_counts": counts}


def test_values_of_a_reference_follow_its_bins() -> None:
    features = [
        feature("x[0]", ["(below)", "0..1", "5", "(above)", "-inf", "+inf", "(missing)"], [9, 100, 300, 9, 9, 9, 9]),
        feature("x[1]", ["red", "green", "(rest)", "(unseen)", "(missing)"], [100, 0, 50, 0, 3]),
        feature("lost", ["(below)", "(missing)"], [5, 5]),
    ]
    columns = draw_columns(features, 4000, seed=2)
    assert set(columns) == {"x[0]", "x[1]"}
    numbers = columns["x[0]"]
    assert ((numbers == 5) | ((numbers >= 0) & (numbers <= 1))).all()
    assert (numbers == 5).mean() == pytest.approx(0.75, abs=0.03)
    assert set(columns["x[1]"]) == {"red"}


def test_columns_of_a_reference_replace_random_values() -> None:
    columns = {"x[1]": np.array([7.0, 8.0])}
    requests = make_requests([ROW], 2, {}, seed=1, columns=columns)
    for request in requests:
        assert request["inputs"][0]["data"][1::2] == [7.0, 8.0]
    (first, *_) = make_requests([spec("INT64", -1, 1)], 1, {}, seed=1, columns={"x": np.array([2.6])})
    assert first["inputs"][0]["data"] == [3]
    (first, *_) = make_requests([spec("BYTES", -1, 1)], 1, {}, seed=1, columns={"x": np.array(["red"], object)})
    assert first["inputs"][0]["data"] == ["red"]
    (first, *_) = make_requests([spec("BOOL", -1, 1)], 1, {}, seed=1, columns={"x": np.array([1.0])})
    assert first["inputs"][0]["data"] == [True]


def test_columns_with_names_of_their_own_are_in_the_order_of_the_values() -> None:
    columns = {"age": np.array([1.0]), "income": np.array([2.0])}
    assert list(match_columns([ROW], columns)) == ["x[0]", "x[1]"]
    assert list(match_columns([ROW], {"x[1]": np.array([1.0]), "y": np.array([2.0])})) == ["x[1]"]
    for inputs in ([ROW, IMAGE], [IMAGE]):
        with pytest.raises(BadInputs, match="no values of single inputs"):
            match_columns(inputs, columns)


def statistics(version: str, count: int, run_ns: int) -> dict[str, Any]:
    durations = {"success": {"count": count, "ns": 10 * run_ns}, "compute_infer": {"count": count, "ns": run_ns}}
    return {"version": version, "inference_stats": durations}


def test_stage_times_are_what_lies_between_two_answers() -> None:
    found = stage_times(
        [statistics("1", 10, 1_000_000)], [statistics("1", 30, 41_000_000), statistics("2", 20, 40_000_000)]
    )
    assert found is not None
    assert found.requests == {"1": 20, "2": 20}
    assert found.mean_ms == {"run": 2.0}


def test_a_restarted_gateway_is_counted_from_zero() -> None:
    found = stage_times([statistics("1", 100, 9_000_000)], [statistics("1", 10, 5_000_000)])
    assert found is not None and found.requests == {"1": 10} and found.mean_ms == {"run": 0.5}


def test_without_statistics_there_are_no_stages() -> None:
    assert stage_times([], []) is None
    assert stage_times([statistics("1", 5, 9)], [statistics("1", 5, 9)]) is None
