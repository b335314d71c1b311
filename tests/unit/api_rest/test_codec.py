"""The REST codec: requests in JSON and binary form to tensors, tensors to answers, and all that is refused."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from penstock.api.rest.decode import InferBody, infer_body
from penstock.api.rest.encode import json_data, json_string
from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, RAW_ONLY, Tensor, to_raw

ONE = Signature((TensorSpec("x", "FP32", (-1, 3)),), (), batching=True)
TEXT = Signature((TensorSpec("x", "BYTES", (-1,)),), (), batching=True)
JSON_TYPES = [name for name in NUMPY_TYPES if name not in RAW_ONLY and name != "BYTES"]
SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


def arrays(datatype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    elements = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else None
    return npst.arrays(NUMPY_TYPES[datatype], shape, elements=elements)


def request(**fields: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], **fields}]}).encode()


def decoded(body: bytes, header_length: int | None = None) -> Tensor:
    return tensors_of(infer_body(body, header_length, ONE), ONE)[0]


def tensors_of(body: InferBody, signature: Signature) -> list[Tensor]:
    """What a request brought, be it the bytes of a row or tensors."""
    if isinstance(body.given, list):
        return body.given
    assert signature.row is not None
    return [signature.row.tensor(body.given)]


@given(st.data(), st.sampled_from(JSON_TYPES), SHAPES, st.booleans())
def test_json_round_trip(data: st.DataObject, datatype: str, shape: tuple[int, ...], nested: bool) -> None:
    array = data.draw(arrays(datatype, shape))
    flat = json_data(Tensor("x", datatype, array))
    values = json.dumps(array.tolist()).encode() if nested else flat
    body = b'{"inputs":[{"name":"x","datatype":"%b","shape":%b,"data":%b}]}' % (
        datatype.encode(),
        json.dumps(shape).encode(),
        values,
    )
    tensor = decoded(body)
    assert tensor.data.shape == shape
    assert tensor.data.tobytes() == array.tobytes()


@given(st.lists(st.text()))
def test_texts_round_trip(texts: list[str]) -> None:
    array = np.array(texts, object)
    body = request(datatype="BYTES", shape=[len(texts)], data=json.loads(json_data(Tensor("x", "BYTES", array))))
    assert decoded(body).data.tolist() == texts


@given(st.data(), st.sampled_from(sorted(set(NUMPY_TYPES) - {"BYTES"})), SHAPES)
def test_binary_round_trip(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(npst.arrays(NUMPY_TYPES[datatype], shape))
    raw = to_raw(datatype, array)
    header = request(datatype=datatype, shape=list(shape), parameters={"binary_data_size": len(raw)})
    tensor = decoded(header + raw, len(header))
    assert tensor.data.shape == shape
    assert tensor.data.tobytes() == array.tobytes()


@given(st.binary(max_size=200), st.none() | st.integers(0, 250))
def test_any_bytes_are_a_request_or_a_clear_refusal(body: bytes, header_length: int | None) -> None:
    with contextlib.suppress(InvalidInput, Unsupported):
        infer_body(body, header_length, ONE)


def test_binary_and_json_inputs_mix() -> None:
    header = json.dumps(
        {
            "inputs": [
                {"name": "a", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
                {"name": "b", "datatype": "INT8", "shape": [1], "data": [5]},
                {"name": "c", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
            ]
        }
    ).encode()
    body = infer_body(header + b"\1\2" + b"\2\0\0\0hi", len(header), ONE)
    assert [tensor.data.tolist() for tensor in tensors_of(body, ONE)] == [[1, 2], [5], ["hi"]]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not a valid inference request"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs":[]', "not a valid inference request"),
        (request(data=[1, 2]), "needs 3 elements, got 2"),
        (request(data=[1, 2, 3, 4]), "needs 3 elements, got 4"),
        (request(), "has no data"),
        (request(data=[1, 2, True]), "is not FP32"),
        (request(data=["1", "2", "3"]), "is not FP32"),
        (request(data=[1, None, 3]), "is not FP32"),
        (request(data=[1, 2, 1e39]), "outside the range of FP32"),
        (request(data=[[1, 2], [3]]), r"not regular; expected \[1, 3\]"),
        (request(data=[[1], [2], [3]]), r"has shape \[3, 1\]; expected \[1, 3\]"),
        (request(data=[[[1, 2, 3]]]), r"has shape \[1, 1, 3\]; expected \[1, 3\]"),
        (request(datatype="INT8", data=[1, 2, 300]), "outside the range of INT8"),
        (request(datatype="UINT64", data=[1, 2, -1]), "outside the range of UINT64"),
        (request(datatype="INT32", data=[1, 2, 3.5]), "is not INT32"),
        (request(datatype="BOOL", data=[1, 0, 1]), "is not BOOL"),
        (request(datatype="FP16", data=[1, 2, 3]), "has no JSON form"),
        (request(datatype="FLOAT", data=[1, 2, 3]), "unknown datatype"),
        (request(shape=[1, -3], data=[1, 2, 3]), "impossible shape"),
        (request(shape=[1 << 62, 1 << 62], data=[1]), "impossible shape"),
        (request(shape=[0] * 40, data=[]), "rank 40"),
        (request(data=[1, 2, 3]).replace(b"[1, 2, 3]", b"[NaN, 2, 3]"), "not a valid inference request"),
        (request(data=[1, 2, 3]).replace(b"[1, 2, 3]", b"[1e999, 2, 3]"), "is not FP32"),
        (request(data=[1, 2, 3]).replace(b"[1, 2, 3]", b"[" * 200 + b"]" * 200), "nested deeper"),
        (b'{"inputs":' + b"[" * 100_000, "nested too deeply|not a valid"),
        (b'{"id":' + b'{"a":' * 100_000, "nested too deeply|not a valid"),
        (request(parameters={"binary_data_size": 12}), "announces 12 binary bytes"),
        (request(data=[1, 2, 3], parameters={"binary_data_size": 0}), "both data and binary_data_size"),
        (b'{"inputs":[],"parameters":{"timeout":-1}}', "'timeout' must be a whole number"),
        (b'{"inputs":[],"parameters":{"triton_enable_x":true}}', "reserved name"),
        (b'{"inputs":[],"parameters":{"binary_data_output":1}}', "must be true or false"),
        (b'{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}', "asked for twice"),
        (b'{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":-1}}]}', "whole number of classes"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        infer_body(body, None, ONE)


def test_wrong_binary_framing_is_said() -> None:
    header = request(shape=[1, 3], parameters={"binary_data_size": 12})
    with pytest.raises(InvalidInput, match="announces 12 binary bytes, but only 11"):
        infer_body(header + b"\0" * 11, len(header), ONE)
    with pytest.raises(InvalidInput, match="1 bytes are left over"):
        infer_body(header + b"\0" * 13, len(header), ONE)
    with pytest.raises(InvalidInput, match="but the body has"):
        infer_body(header, len(header) + 1, ONE)


def test_a_raw_request_takes_its_shape_from_the_model() -> None:
    body = infer_body(np.arange(3, dtype="<f4").tobytes(), 0, ONE)
    assert tensors_of(body, ONE)[0].data.tolist() == [[0, 1, 2]]
    assert body.binary is True
    assert tensors_of(infer_body(b"hello", 0, TEXT), TEXT)[0].data.tolist() == ["hello"]
    assert tensors_of(infer_body(np.arange(6, dtype="<f4").tobytes(), 0, ONE), ONE)[0].data.shape == (2, 3)
    with pytest.raises(InvalidInput, match="needs 12 bytes, got 15"):
        infer_body(b"x" * 15, 0, ONE)


def test_shared_memory_is_not_offered() -> None:
    with pytest.raises(Unsupported, match="shared memory"):
        infer_body(request(parameters={"shared_memory_region": "r"}), None, ONE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_json_answers_refuse_what_json_cannot_carry(value: float) -> None:
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        json_data(Tensor("y", "FP32", np.array([1, value], "<f4")))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_floats_read_back_bit_for_bit(value: float) -> None:
    array = np.array([value], "<f4")
    assert np.array(json.loads(json_data(Tensor("y", "FP32", array))), "<f4").tobytes() == array.tobytes()


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="valid Unicode"):
        json_string("\ud800")
