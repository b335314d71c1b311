"""Answers in rows and columns say what plain encoders say, also for calls that shared a run and in slices."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.rest.dialects import json_answer
from penstock.api.rest.dialects.json_answer import encode_by_name, encode_columns, encode_records, encode_rows
from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.limits import RequestLimits
from penstock.core.slices import no_pause
from penstock.core.tensors import Tensor
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from tests.unit.api.grpc.test_answer_template import call_of, outputs_of, together, versions
from tests.unit.serving.stubs import served

ON_THREAD = RequestWork(RequestLimits(), no_pause)


def python_values(tensor: Tensor) -> Any:
    """The values of a tensor, as nested lists of Python's."""
    if tensor.datatype == "BF16":
        return (tensor.data.astype(np.uint32) << 16).view(np.float32).tolist()
    return tensor.data.tolist()


def equal(found: Any, expected: Any, tokens: bool) -> bool:
    """Whether parsed JSON has these values; without tokens, null stands for what is not finite."""
    if isinstance(expected, list):
        pairs = zip(found, expected, strict=True) if len(found) == len(expected) else [(0, 1)]
        return all(equal(one, other, tokens) for one, other in pairs)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[key], expected[key], tokens) for key in expected)
    if isinstance(expected, float) and not math.isfinite(expected):
        return found is None if not tokens else repr(found) == repr(expected)
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-45)
    return bool(found == expected)


@st.composite
def calls(draw: st.DrawFn) -> list[InferCall]:
    """Calls of one version, alone or of one run."""
    version = draw(versions())
    found = draw(st.sampled_from((_alone, together)))(draw, version)
    return draw(st.permutations(found))


def _alone(draw: st.DrawFn, version: LoadedVersion) -> list[InferCall]:
    call = call_of(version, None, "id")
    call.outputs = version.tensors(outputs_of(draw, version, draw(st.integers(1, 4))))
    return [call]


@settings(max_examples=80)
@given(calls(), st.booleans(), st.integers(1, 5))
def test_rows_and_columns_equal_the_plain_ones(found: list[InferCall], tokens: bool, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_answer, "NUMBER_SLICE", most)
        patch.setattr(json_answer, "TEXT_SLICE", most)
        for call in found:
            columns = {tensor.name: python_values(tensor) for tensor in call.outputs}
            count = len(call.outputs[0].data)
            rows = [{name: values[row] for name, values in columns.items()} for row in range(count)]
            if len(columns) == 1:
                [columns] = columns.values()
                rows = columns
            assert equal(json.loads(b"".join(encode_rows(call, ON_THREAD, tokens=tokens))), rows, tokens)
            assert equal(json.loads(b"".join(encode_columns(call.outputs, ON_THREAD, tokens=tokens))), columns, tokens)


def answered(*outputs: Tensor) -> InferCall:
    """A call with these outputs."""
    return served([Tensor("x", "FP32", np.zeros(1, np.float32))], list(outputs))


def test_numbers_are_in_their_shortest_form() -> None:
    call = answered(Tensor("y", "FP32", np.array([[0.1, 2.0]], np.float32)))
    assert b"".join(encode_rows(call, ON_THREAD)) == b"[[0.1,2.0]]"


def test_single_values_that_are_not_finite_have_tokens_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_answer, "NUMBER_SLICE", 1)
    values = np.array([[0.1, np.inf]], np.float32)
    call = answered(Tensor("a", "FP32", values[:, 0]), Tensor("b", "FP32", values[:, 1]))
    assert b"".join(encode_rows(call, ON_THREAD, tokens=True)) == b'[{"a":0.1,"b":Infinity}]'
    assert b"".join(encode_rows(call, ON_THREAD)) == b'[{"a":0.1,"b":null}]'


def test_records_and_named_outputs() -> None:
    call = answered(Tensor("a", "FP32", np.ones((2, 1), np.float32)), Tensor("b", "INT64", np.array([[1, 2], [3, 4]])))
    assert b"".join(encode_records(call, ON_THREAD)) == b'[{"a":1.0,"b":[1,2]},{"a":1.0,"b":[3,4]}]'
    assert b"".join(encode_by_name(call, ON_THREAD)) == b'{"a":[[1.0],[1.0]],"b":[[1,2],[3,4]]}'
    alone = answered(Tensor('"%', "INT64", np.array([[1, 2], [3, 4], [5, 6]])))
    rows = b'[{"\\"%":[1,2]},{"\\"%":[3,4]},{"\\"%":[5,6]}]'
    assert b"".join(encode_records(alone, ON_THREAD)) == rows


def test_outputs_without_rows_have_no_row_form() -> None:
    call = answered(Tensor("a", "FP32", np.zeros(2, np.float32)), Tensor("b", "FP32", np.zeros(3, np.float32)))
    with pytest.raises(Unsupported, match="one row for each instance"):
        encode_rows(call, ON_THREAD)
    scalar = answered(Tensor("a", "FP32", np.array(1.5, np.float32)))
    assert b"".join(encode_rows(scalar, ON_THREAD)) == b"1.5"


def test_texts_that_are_not_unicode_are_refused() -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        encode_rows(answered(Tensor("t", "BYTES", np.array(["\ud800"], object))), ON_THREAD)


def test_the_event_loop_declines_large_outputs() -> None:
    call = answered(Tensor("y", "FP32", np.zeros((40_000, 1), np.float32)))
    with pytest.raises(LargeWork):
        encode_rows(call, RequestWork(RequestLimits(), None))
