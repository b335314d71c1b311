"""The REST codec: requests in JSON and binary form to tensors, tensors to answers, and all that is refused."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from penstock.api.common.work import LargeWork
from penstock.api.rest.decode import BodyDecoder
from penstock.api.rest.encode import json_data, json_string
from penstock.api.rest.infer_body import InferBody
from penstock.core.errors import InvalidInput, TooLarge, Unsupported
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import no_pause
from penstock.core.tensors import NUMPY_TYPES, RAW_ONLY, Tensor, to_raw
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import SharedRegion, SharedRegions

OUTPUTS = (TensorSpec("y", "FP32", (-1, 3)), TensorSpec("z", "FP32", (-1, 3)))
ONE = Signature((TensorSpec("x", "FP32", (-1, 3)),), OUTPUTS, batching=True)
TEXT = Signature((TensorSpec("x", "BYTES", (-1,)),), (), batching=True)
JSON_TYPES = [name for name in NUMPY_TYPES if name not in RAW_ONLY and name != "BYTES"]
SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


def arrays(datatype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    elements = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else None
    return npst.arrays(NUMPY_TYPES[datatype], shape, elements=elements)


def request(**fields: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], **fields}]}).encode()


def infer_body(body: bytes, header_length: int | None, signature: Signature) -> InferBody:
    return BodyDecoder(RequestLimits(), SharedRegions()).decode(body, header_length, signature)


def taking(datatype: str, rank: int, names: str = "x") -> Signature:
    """A model that takes tensors of any shape of a rank."""
    return Signature([TensorSpec(name, datatype, (-1,) * rank) for name in names], OUTPUTS)


def decoded(body: bytes, signature: Signature = ONE, header_length: int | None = None) -> Tensor:
    return tensors_of(infer_body(body, header_length, signature), signature)[0]


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
    tensor = decoded(body, taking(datatype, len(shape)))
    assert tensor.data.shape == shape
    assert tensor.data.tobytes() == array.tobytes()


@given(st.lists(st.text()))
def test_texts_round_trip(texts: list[str]) -> None:
    array = np.array(texts, object)
    body = request(datatype="BYTES", shape=[len(texts)], data=json.loads(json_data(Tensor("x", "BYTES", array))))
    assert decoded(body, TEXT).data.tolist() == texts


@given(st.data(), st.sampled_from(sorted(set(NUMPY_TYPES) - {"BYTES"})), SHAPES)
def test_binary_round_trip(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(npst.arrays(NUMPY_TYPES[datatype], shape))
    raw = to_raw(datatype, array)
    header = request(datatype=datatype, shape=list(shape), parameters={"binary_data_size": len(raw)})
    tensor = decoded(header + raw, taking(datatype, len(shape)), len(header))
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
    inputs = [TensorSpec("a", "INT8", (2,)), TensorSpec("b", "INT8", (1,)), TensorSpec("c", "BYTES", (1,))]
    mixed = Signature(inputs, OUTPUTS)
    body = infer_body(header + b"\1\2" + b"\2\0\0\0hi", len(header), mixed)
    assert [tensor.data.tolist() for tensor in tensors_of(body, mixed)] == [[1, 2], [5], ["hi"]]


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
        (request(data=[1, 2, 1e39]), "outside the range of FP32"),
        (request(data=[[1, 2], [3]]), r"not regular; expected \[1, 3\]"),
        (request(data=[[1], [2], [3]]), r"has shape \[3, 1\]; expected \[1, 3\]"),
        (request(data=[[[1, 2, 3]]]), r"has shape \[1, 1, 3\]; expected \[1, 3\]"),
        (request(datatype="INT8", data=[1, 2, 3]), r"got INT8; expected 'x' FP32 \[-1, 3\]"),
        (request(shape=[1, 4], data=[1, 2, 3, 4]), r"got shape \[1, 4\]; expected 'x' FP32 \[-1, 3\]"),
        (request(shape=[3], data=[1, 2, 3]), r"got rank 1 \[3\]; expected 'x' FP32 \[-1, 3\]"),
        (request(name="w" * 1000, data=[1, 2, 3]), "unknown input 'w{125}...'; the model takes 'x'"),
        (b'{"inputs":[%b]}' % b",".join([request(data=[1, 2, 3])[12:-2]] * 2), "'x' is given 2 times"),
        (request(datatype="FLOAT", data=[1, 2, 3]), "unknown datatype"),
        (request(shape=[1, -3], data=[1, 2, 3]), "impossible shape"),
        (request(shape=[1 << 62, 1 << 62], data=[1]), "impossible shape"),
        (request(shape=[0] * 40, data=[]), "rank 40"),
        (request(data=[1, 2, 3]).replace(b"[1, 2, 3]", b"[NaN, 2, 3]"), "not a valid inference request"),
        (request(data=[1, 2, 3]).replace(b"[1, 2, 3]", b"[1e999, 2, 3]"), "is not FP32"),
        (request(data=[1, 2, 3]).replace(b"[1, 2, 3]", b"[" * 200 + b"]" * 200), "nested deeper"),
        (b'{"inputs":' + b"[" * 50_000, "nested too deeply|not a valid"),
        (b'{"id":' + b'{"a":' * 10_000, "nested too deeply|not a valid"),
        (request(parameters={"binary_data_size": 12}), "announces 12 binary bytes"),
        (request(data=[1, 2, 3], parameters={"binary_data_size": 0}), "both data and binary_data_size"),
        (b'{"inputs":[],"parameters":{"timeout":-1}}', "'timeout' must be a whole number"),
        (b'{"inputs":[],"parameters":{"triton_enable_x":true}}', "reserved name"),
        (b'{"inputs":[],"parameters":{"binary_data_output":1}}', "must be true or false"),
        (b'{"inputs":[],"parameters":{"non_finite":"nan"}}', "must be 'error' or 'null', got 'nan'"),
        (b'{"inputs":[],"parameters":{%b}}' % b",".join(b'"%d":1' % n for n in range(1001)), "has 1001 parameters"),
        (b'{"inputs":[],"outputs":[{"name":"q"}]}', "unknown output 'q'"),
        (b'{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}', "requested twice"),
        (b'{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":-1}}]}', "whole number of classes"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        ONE.bind(tensors_of(infer_body(body, None, ONE), ONE))


@pytest.mark.parametrize(
    ("datatype", "data", "says"),
    [
        ("INT8", "[1, 2, 300]", "outside the range of INT8"),
        ("UINT64", "[1, 2, -1]", "outside the range of UINT64"),
        ("INT32", "[1, 2, 3.5]", "is not INT32"),
        ("INT32", "[1, 2, null]", "is not INT32"),
        ("BOOL", "[1, 0, 1]", "is not BOOL"),
        ("BOOL", "[true, null, true]", "is not BOOL"),
        ("BYTES", '["a", null, "c"]', "is not BYTES"),
        ("BYTES", '["a", 1, "c"]', "is not BYTES"),
        ("FP16", "[1, 2, 3]", "has no JSON form"),
    ],
)
def test_values_that_a_datatype_does_not_have(datatype: str, data: str, says: str) -> None:
    body = request(datatype=datatype, shape=[3], data="DATA").replace(b'"DATA"', data.encode())
    with pytest.raises(InvalidInput, match=says):
        infer_body(body, None, taking(datatype, 1))


def regular(data: Any) -> list[int] | None:
    """The shape of nested lists, None where lists of one depth differ."""
    if not isinstance(data, list):
        return []
    shapes = [regular(item) for item in data]
    if not shapes:
        return [0]
    return None if shapes[0] is None or any(shape != shapes[0] for shape in shapes) else [len(data), *shapes[0]]


def flat(data: Any) -> list[Any]:
    return [leaf for item in data for leaf in flat(item)] if isinstance(data, list) else [data]


@given(
    st.data(),
    st.sampled_from(["FP32", "INT64", "BOOL", "BYTES"]),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_nested_data_has_the_stated_shape_or_is_refused(data: st.DataObject, datatype: str, shape: list[int]) -> None:
    leaf = {"FP32": 1.5, "INT64": 7, "BOOL": True, "BYTES": "a"}[datatype]
    nested = data.draw(st.recursive(st.just(leaf), lambda inner: st.lists(inner, min_size=1, max_size=3)))
    signature = taking(datatype, len(shape))
    body = request(datatype=datatype, shape=shape, data=nested)
    found_shape = regular(nested)
    is_flat = found_shape is not None and len(found_shape) <= 1 and len(flat(nested)) == np.prod(shape)
    fits = found_shape == shape or is_flat
    try:
        found = decoded(body, signature)
    except InvalidInput:
        assert not fits
    else:
        assert fits
        assert found.data.ravel().tolist() == flat(nested)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("nested", [False, True])
def test_null_is_nan_in_floats(datatype: str, nested: bool) -> None:
    data = [[1.5, None, 3]] if nested else [1.5, None, 3]
    found = decoded(request(datatype=datatype, data=data), taking(datatype, 2)).data
    assert found.shape == (1, 3)
    assert np.array_equal(found, [[1.5, np.nan, 3]], equal_nan=True)


def test_a_byte_order_mark_before_the_json_is_ignored() -> None:
    mark = b"\xef\xbb\xbf"
    assert decoded(mark + request(data=[1, 2, 3])).data.tolist() == [[1, 2, 3]]
    header = mark + request(parameters={"binary_data_size": 12})
    assert decoded(header + bytes(12), header_length=len(header)).data.tolist() == [[0, 0, 0]]


def test_one_binary_input_may_leave_its_size_out() -> None:
    header = request()
    assert decoded(header + bytes(12), header_length=len(header)).data.tolist() == [[0, 0, 0]]
    with pytest.raises(InvalidInput, match="needs 12 bytes, got 13"):
        infer_body(header + bytes(13), len(header), ONE)
    two = json.dumps({"inputs": [{"name": name, "shape": [1], "datatype": "INT8"} for name in "xw"]}).encode()
    with pytest.raises(InvalidInput, match="has no data"):
        infer_body(two + bytes(2), len(two), taking("INT8", 1, "xw"))


def test_what_becomes_of_nan_in_the_answer_is_the_callers_choice() -> None:
    body = {"inputs": [], "parameters": {"non_finite": "null"}}
    empty = Signature([], OUTPUTS)
    assert infer_body(json.dumps(body).encode(), None, empty).nulls
    assert not infer_body(b'{"inputs":[]}', None, empty).nulls


def test_long_names_shapes_and_datatypes_are_cut_in_messages() -> None:
    long = "w" * 100_000
    for fields in (
        {"name": long},
        {"datatype": long},
        {"shape": [1] * 10_000},
        {"shape": [-(10**4000)] * 3},
        {"parameters": {"non_finite": long}},
    ):
        body = request(**{"data": [1, 2, "3"], **fields})
        with pytest.raises((InvalidInput, TooLarge)) as caught:
            BodyDecoder(RequestLimits(), SharedRegions()).decode(body, None, ONE, no_pause)
        assert len(str(caught.value)) < 1000


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


# Work is bounded before it begins.

LIMITS = RequestLimits(max_json_bytes=200_000, max_text_elements=3000)


def bounded(body: bytes, header_length: int | None, signature: Signature, inline: bool = False) -> InferBody:
    return BodyDecoder(LIMITS, SharedRegions()).decode(body, header_length, signature, None if inline else no_pause)


def texts(count: int) -> tuple[bytes, int]:
    header = request(datatype="BYTES", shape=[count], parameters={"binary_data_size": 4 * count})
    return header + bytes(4 * count), len(header)


def test_data_that_the_model_does_not_take_is_never_read() -> None:
    body, length = texts(1 << 22)
    for inline in (True, False):
        with pytest.raises(InvalidInput, match="got BYTES; expected 'x' FP32"):
            bounded(body, length, ONE, inline)


@pytest.mark.parametrize("dims", [[2**63 - 1] * 9_000, [10**300] * 30, [1 << 20] * 32])
def test_a_product_of_dimensions_stops_at_the_limit(dims: list[int]) -> None:
    for fields in ({"data": [1]}, {"parameters": {"binary_data_size": 0}}):
        header = request(shape=dims, **fields)
        with pytest.raises(
            (InvalidInput, TooLarge), match=r"rank|impossible shape|bytes of JSON beside|Expected `array`"
        ):
            bounded(header, len(header), ONE)


def test_elements_of_text_are_limited_in_every_form() -> None:
    array = json.dumps([""] * 3001).encode()
    listed = request(datatype="BYTES", shape=[3001], data="DATA").replace(b'"DATA"', array)
    for body, length in (texts(3001), (listed, None)):
        with pytest.raises(TooLarge, match=r"limit of 3000 \(limits.max_text_elements\)"):
            bounded(body, length, TEXT)
    body, length = texts(3000)
    assert tensors_of(bounded(body, length, TEXT), TEXT)[0].data.shape == (3000,)


def test_bytes_of_texts_are_limited_in_every_form() -> None:
    decoder = BodyDecoder(RequestLimits(max_text_bytes=500), SharedRegions())
    raw = (96).to_bytes(4, "little") + bytes(96)
    for count in (4, 6):
        header = request(datatype="BYTES", shape=[count], parameters={"binary_data_size": 100 * count})
        listed = request(datatype="BYTES", shape=[count], data=["a" * 96] * count)
        for body, length in ((header + raw * count, len(header)), (listed, None)):
            if count == 4:
                assert tensors_of(decoder.decode(body, length, TEXT), TEXT)[0].text_bytes >= 4 * 96
                continue
            with pytest.raises(TooLarge, match=r"limit of 500 \(limits.max_text_bytes\)"):
                decoder.decode(body, length, TEXT)
    with pytest.raises(TooLarge, match=r"limit of 500 \(limits.max_text_bytes\)"):
        decoder.decode(b"a" * 501, 0, TEXT)


def test_elements_of_text_are_limited_over_all_inputs() -> None:
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2000], "parameters": {"binary_data_size": 8000}} for name in "xw"
    ]
    header = json.dumps({"inputs": inputs}).encode()
    with pytest.raises(TooLarge, match="to 4000, over the limit of 3000"):
        bounded(header + bytes(16_000), len(header), taking("BYTES", 1, "xw"))


def test_json_is_limited_apart_from_binary_tensors() -> None:
    with pytest.raises(TooLarge, match=r"limit of 200000 bytes \(limits.max_json_bytes\); send its tensors as binary"):
        bounded(request(data=[1] * 100_000), None, ONE)
    header = request(shape=[100_000, 3], parameters={"binary_data_size": 1_200_000})
    assert tensors_of(bounded(header + bytes(1_200_000), len(header), ONE), ONE)[0].data.shape == (100_000, 3)


NULLS = {
    "the request": dict.fromkeys(
        ("timeout", "binary_data_output", "non_finite", "sequence_id", "shared_memory_region")
    ),
    "an output": dict.fromkeys(("binary_data", "classification", "shared_memory_region", "shared_memory_offset")),
    "an input": dict.fromkeys(("binary_data_size", "shared_memory_region", "content_type")),
}


@pytest.mark.parametrize("binary", [False, True])
def test_a_parameter_that_is_null_is_as_if_it_were_not_there(binary: bool) -> None:
    given = {"data": None, "parameters": {**NULLS["an input"], "binary_data_size": 12}}
    item = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3], "parameters": NULLS["an input"]}
    asked = {"name": "y", "parameters": NULLS["an output"]}
    message = {
        "parameters": NULLS["the request"],
        "inputs": [{**item, **given} if binary else item],
        "outputs": [asked],
    }
    header = json.dumps(message).encode()
    raw = np.array([1, 2, 3], "<f4").tobytes() if binary else b""
    body = infer_body(header + raw, len(header) if binary else None, ONE)
    assert tensors_of(body, ONE)[0].data.tolist() == [[1, 2, 3]]
    assert (body.requested, body.binary, body.timeout_ns, body.nulls) == ([RequestedOutput("y")], [False], None, False)


def test_a_small_limit_of_json_holds_for_every_form_of_it() -> None:
    decoder = BodyDecoder(RequestLimits(max_json_bytes=150), SharedRegions())
    row, nested, parameters = request(data=[1, 2, 3]), request(data=[[1, 2, 3]]), request(data=[1, 2, 3], parameters={})
    for body in (row, nested, parameters):
        padded = body[:-1] + b" " * (150 - len(body)) + b"}"
        assert tensors_of(decoder.decode(padded, None, ONE), ONE)[0].data.tolist() == [[1, 2, 3]]
        with pytest.raises(TooLarge, match=r"limit of 150 bytes \(limits.max_json_bytes\)"):
            decoder.decode(padded + b" ", None, ONE)


def test_long_work_is_declined_on_the_event_loop_and_done_on_a_thread() -> None:
    rows = 10_000
    header = request(shape=[rows, 3], parameters={"binary_data_size": 12 * rows})
    assert tensors_of(bounded(header + bytes(12 * rows), len(header), ONE, inline=True), ONE)
    listed = request(shape=[rows, 3], data=[0.5] * (3 * rows))
    for body, length, signature in ((*texts(2500), TEXT), (listed, None, ONE)):
        with pytest.raises(LargeWork):
            bounded(body, length, signature, inline=True)
        assert tensors_of(bounded(body, length, signature), signature)[0].data.size >= 2500


def test_a_head_is_remembered_by_what_it_means_and_not_by_how_it_is_written(tmp_path: Path) -> None:
    segment = Path(f"/dev/shm/penstock_test_{os.getpid()}")
    segment.write_bytes(bytes(64))
    try:
        regions = SharedRegions([segment.name], tmp_path / "regions.json")
        decoder = BodyDecoder(RequestLimits(), regions)
        regions.register(SharedRegion("out", segment.name, 0, 16))
        escaped = b'"shared\\u005fmemory_region":"out","shared_memory_byte_size":16'
        header = request(shape=[1, 3], parameters={"binary_data_size": 12})[:-1]
        header += b',"outputs":[{"name":"y","parameters":{%b}}]}' % escaped
        for _ in range(2):
            found = decoder.decode(header + bytes(12), len(header), ONE)
            assert found.requested is not None
            assert found.requested[0].into is not None
        regions.unregister("out")
        with pytest.raises(InvalidInput, match="unknown shared memory region"):
            decoder.decode(header + bytes(12), len(header), ONE)
    finally:
        segment.unlink()


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


def test_a_row_of_one_version_is_not_taken_for_one_of_another() -> None:
    """What a remembered header holds of a version's row is for that version alone."""
    head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}]}'
    decoder = BodyDecoder(RequestLimits(), SharedRegions())
    own, other = (Signature([TensorSpec("x", "FP32", (-1, size))], [], batching=True) for size in (4, 2))
    decoder.decode(head + bytes(16), len(head), own)
    for _ in range(2):
        assert decoder.decode(head + bytes(16), len(head), own).given == bytes(16)
        assert isinstance(decoder.decode(head + bytes(16), len(head), other).given, list)
