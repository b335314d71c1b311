"""Remembered layouts of requests: what is found by one is what parsing finds, and nothing else is ever found."""

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.grpc.layout_cache import MAX_ALIKE, MAX_LENGTHS, LayoutCache
from penstock.core.errors import Fault
from penstock.core.signature import Signature, TensorSpec
from penstock.proto import grpc_service_pb2 as pb
from tests.budgets import examples
from tests.unit.api.grpc.messages import read, taking

TYPES = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "UINT8": "u1", "FP16": "<f2"}


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    found = pb.ModelInferRequest(model_name=draw(st.text(max_size=5)), model_version=draw(st.sampled_from(["", "1"])))
    found.id = draw(st.sampled_from(["", "a", "request-17", "ü"]))
    for index in range(draw(st.integers(1, 3))):
        datatype = draw(st.sampled_from(list(TYPES)))
        shape = draw(st.lists(st.integers(0, 60), max_size=3))
        found.inputs.add(name=f"x{index}", datatype=datatype, shape=shape)
        size = int(np.prod(shape, dtype=int)) * np.dtype(TYPES[datatype]).itemsize
        found.raw_input_contents.append(bytes(size))
    if draw(st.booleans()):
        found.outputs.add(name="y")
    if draw(st.booleans()):
        found.parameters["timeout"].int64_param = 5000
    return found


def learnt(request: pb.ModelInferRequest) -> LayoutCache:
    layouts = LayoutCache()
    learn(layouts, request)
    return layouts


def learn(layouts: LayoutCache, request: pb.ModelInferRequest) -> None:
    layouts.learn(*read(request.SerializeToString()))


def decoded(layouts: LayoutCache, raw: bytes) -> Any:
    found = layouts.find(raw)
    if found is None:
        return None
    given = found.tensors(raw, None)
    assert isinstance(given, list)
    tensors = [(item.name, item.datatype, item.data.shape, item.data.tobytes()) for item in given]
    return found.target, found.id(raw), tensors, found.requested, found.timeout_ns


def parsed(raw: bytes) -> Any:
    whole, message = read(raw)
    request = whole.request
    tensors = [(tensor.name, tensor.datatype, tensor.data.shape, tensor.data.tobytes()) for tensor in message.tensors]
    return (request.model_name, request.model_version), request.id, tensors, message.requested, message.timeout_ns


@settings(deadline=None)
@given(requests(), st.integers(0, 1 << 32))
def test_the_next_of_the_kind_is_found_as_it_is(request: pb.ModelInferRequest, seed: int) -> None:
    layouts, draw = learnt(request), Random(seed)
    request.id = "".join(draw.choice("xyz") for _ in request.id) if request.id.isascii() else request.id
    for index, content in enumerate(request.raw_input_contents):
        request.raw_input_contents[index] = draw.randbytes(len(content))
    raw = request.SerializeToString()
    found = decoded(layouts, raw)
    assert found == parsed(raw) if request.id.isascii() else found is None


@settings(deadline=None, max_examples=examples(300))
@given(requests(), st.data())
def test_any_other_is_parsed_or_says_the_same(request: pb.ModelInferRequest, data: st.DataObject) -> None:
    layouts, raw = learnt(request), bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = decoded(layouts, bytes(raw))
    if found is not None:
        try:
            assert found == parsed(bytes(raw))
        except Fault:
            pytest.fail("what cannot be parsed was found")


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": True},
        {"datatype": "BOOL"},
        {"name": 5000},
        {"datatype": "BYTES"},
    ],
)
def test_what_is_not_remembered(change: dict[str, Any]) -> None:
    datatype = change.get("datatype", "FP32")
    request = pb.ModelInferRequest(model_name="m", id=change.get("id", ""))
    request.inputs.add(name="x", datatype=datatype, shape=[1])
    request.raw_input_contents.append({"BOOL": b"\1", "BYTES": b"\1\0\0\0a"}.get(datatype, bytes(4)))
    request.model_name += "m" * change.get("name", 0)
    if "parameters" in change:
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    assert decoded(learnt(request), request.SerializeToString()) is None


def one_of(model: str, timeout: int = 0) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(bytes(16))
    if timeout:
        request.parameters["timeout"].int64_param = timeout
    return request


def test_requests_of_one_length_are_distinguished() -> None:
    """Two models with names of one length, or one model with two sets of parameters, take turns."""
    kinds = [one_of("model-a"), one_of("model-b"), one_of("model-a", 60), one_of("model-a", 70)]
    layouts = LayoutCache()
    for kind in kinds:
        learn(layouts, kind)
    for _ in range(2):
        for kind in kinds:
            raw = kind.SerializeToString()
            assert decoded(layouts, raw) == parsed(raw)


def test_no_more_is_remembered_than_is_bounded() -> None:
    layouts = LayoutCache()
    for length in range(2 * MAX_LENGTHS):
        for number in range(3):
            learn(layouts, one_of(chr(97 + number) * (length + 1)))
    assert len(layouts._known) <= MAX_LENGTHS
    for number in range(3 * MAX_ALIKE):
        learn(layouts, one_of(f"{number:04}"))
    alike = layouts._known.get(len(one_of("0000").SerializeToString()))
    assert alike is not None
    assert len(alike) == MAX_ALIKE


def test_a_second_id_behind_the_first_is_not_remembered() -> None:
    request = one_of("m")
    request.id = "a"
    again = b"\x1a\x01a"
    raw = request.SerializeToString()
    start = raw.index(again) + len(again)
    layouts = LayoutCache()
    layouts.learn(*read(raw[:start] + again + raw[start:], taking(request)))
    assert layouts.find(raw[:start] + again + raw[start:]) is None


def test_a_layout_is_not_learned_where_the_model_takes_something_else() -> None:
    with pytest.raises(Fault):
        read(one_of("m").SerializeToString(), Signature([TensorSpec("x", "FP32", (-1, 5))], []))


def test_a_row_of_one_version_is_not_taken_for_one_of_another() -> None:
    """What a layout remembers of a version's row holds for that version alone."""
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(range(16))])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    raw = request.SerializeToString()
    layout = learnt(request).find(raw)
    assert layout is not None
    own, other = (Signature([TensorSpec("x", "FP32", (-1, size))], [], batching=True).row for size in (4, 2))
    for _ in range(2):
        assert layout.tensors(raw, own) == bytes(range(16))
        assert isinstance(layout.tensors(raw, other), list)
        assert isinstance(layout.tensors(raw, None), list)
