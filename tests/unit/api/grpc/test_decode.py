"""Infer requests to tensors, wishes and parameters: both forms, unmodified clients' bytes, and all that is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient import grpc as triton
from tritonclient.grpc._utils import _get_inference_request

from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.grpc import typed_contents, wire
from penstock.api.grpc.contents import FIELDS
from penstock.api.grpc.decode import InferMessage, decode_message
from penstock.api.grpc.wire import SMALL_MESSAGE, parse_request, target_of
from penstock.api.rest.decode import BodyDecoder
from penstock.core.errors import Fault, InvalidInput, TooLarge, Unsupported
from penstock.core.limits import RequestLimits
from penstock.core.protobuf_wire import encode_varint
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import PauseWork, no_pause
from penstock.core.tensors import NUMPY_TYPES, Tensor
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.shared_memory import SEGMENTS, SharedRegion, SharedRegions
from tests.budgets import examples
from tests.unit.api.grpc.messages import (
    TYPED,
    numbers,
    raw_request,
    read,
    same,
    some_tensors,
    taking,
    tensors,
    typed_request,
)

PLACE = {"shared_memory_region": "r", "shared_memory_byte_size": 4, "shared_memory_offset": 4}


def decoded(request: pb.ModelInferRequest) -> InferMessage:
    return read(request.SerializeToString())[1]


def decode(
    raw: bytes,
    signature: Signature,
    limits: RequestLimits | None = None,
    pause: PauseWork | None = no_pause,
    regions: SharedRegions | None = None,
    small: int = SMALL_MESSAGE,
) -> InferMessage:
    work = RequestWork(limits or RequestLimits(), pause)
    return decode_message(parse_request(raw, pause, small), signature, regions or SharedRegions(), work)


def refusal(request: pb.ModelInferRequest) -> str:
    with pytest.raises(InvalidInput) as raised:
        decoded(request)
    return str(raised.value)


def one_typed(datatype: str, shape: tuple[int, ...], **contents: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents))
    return request


def one_raw(datatype: str, shape: tuple[int, ...], raw: bytes) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


@given(some_tensors())
def test_raw_tensors_survive(items: list[Tensor]) -> None:
    message = decoded(raw_request(items))
    assert len(message.tensors) == len(items)
    assert all(map(same, message.tensors, items))
    assert not message.typed


@given(some_tensors(TYPED, 1))
def test_typed_tensors_survive(items: list[Tensor]) -> None:
    message = decoded(typed_request(items))
    assert len(message.tensors) == len(items)
    assert all(map(same, message.tensors, items))
    assert message.typed


@given(tensors(st.sampled_from([name for name in NUMPY_TYPES if name != "BF16"])))
def test_what_tritonclient_sends_is_understood(item: Tensor) -> None:
    given_input = triton.InferInput(item.name, list(item.data.shape), item.datatype)
    given_input.set_data_from_numpy(item.data)
    sent = _get_inference_request(
        model_name="m",
        inputs=[given_input],
        model_version="",
        request_id="5",
        outputs=[triton.InferRequestedOutput("y", class_count=2)],
        sequence_id=9,
        sequence_start=True,
        sequence_end=False,
        priority=1,
        timeout=250,
        parameters={"mine": "kept"},
    )
    message = read(sent.SerializeToString())[1]
    assert same(message.tensors[0], item)
    assert message.requested == [RequestedOutput("y", 2)]
    assert message.timeout_ns == 250_000


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    try:
        read(raw)
    except Fault:
        return


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "UINT8", "UINT16"])
def test_a_number_outside_a_narrow_range_is_refused(datatype: str) -> None:
    bounds = np.iinfo(NUMPY_TYPES[datatype])
    field = FIELDS[datatype]
    ends = decoded(one_typed(datatype, (2,), **{field: [bounds.min, bounds.max]})).tensors[0]
    assert ends.data.tolist() == [bounds.min, bounds.max]
    outside = [int(bounds.max) + 1] if bounds.min == 0 else [int(bounds.max) + 1, int(bounds.min) - 1]
    for number in outside:
        text = refusal(one_typed(datatype, (1,), **{field: [number]}))
        assert text == f"input 'x' holds a number outside the range of {datatype}"


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_sixteen_bit_floats_have_no_typed_form(datatype: str) -> None:
    assert "raw_input_contents" in refusal(one_typed(datatype, (1,), fp32_contents=[1.0]))


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (one_typed("FP32", (2,), fp32_contents=[1.0]), "needs 2 elements, got 1"),
        (one_typed("FP32", (2,)), "needs 2 elements, got 0"),
        (one_typed("FP32", (), fp32_contents=[1.0, 2.0]), "needs 1 elements, got 2"),
        (one_typed("FP32", (1,), int_contents=[1]), "has int_contents; expected fp32_contents"),
        (one_typed("FP32", (1,), fp32_contents=[1.0], fp64_contents=[1.0]), "fp64_contents"),
        (one_typed("FP31", (1,), fp32_contents=[1.0]), "unknown datatype 'FP31'"),
        (one_typed("FP32", (-1,), fp32_contents=[1.0]), "impossible shape [-1]"),
        (one_typed("FP32", (1 << 62, 1 << 62), fp32_contents=[1.0]), "impossible shape"),
        (one_typed("BYTES", (1,), bytes_contents=[b"\xff"]), "not UTF-8"),
        (one_raw("FP32", (2,), b"\0\0\0\0"), "needs 8 bytes, got 4"),
        (one_raw("FP32", (1,), b"\0\0\0\0\0"), "needs 4 bytes, got 5"),
        (one_raw("INT12", (1,), b""), "unknown datatype"),
        (one_raw("BOOL", (1,), b"\x02"), "other than 0 and 1"),
        (one_raw("BYTES", (2,), b"\1\0\0\0x"), "BYTES"),
        (one_raw("FP32", (1,) * 70, b"\0\0\0\0"), "has rank 70; at most 32"),
        (one_raw("FP32", (1 << 62, 1 << 62, 0), b""), "impossible shape"),
    ],
)
def test_data_that_does_not_fit_is_refused(request_: pb.ModelInferRequest, part: str) -> None:
    assert part in refusal(request_)


def test_raw_entries_and_inputs_must_pair_up() -> None:
    request = raw_request([numbers("FP32", 1), numbers("FP32", 2)])
    del request.raw_input_contents[1]
    assert refusal(request) == "raw_input_contents has 1 entries for 2 inputs; expected one each"
    assert "1 entries for 0 inputs" in refusal(pb.ModelInferRequest(raw_input_contents=[b""]))


def test_the_two_forms_do_not_mix() -> None:
    request = raw_request([numbers("FP32", 1)])
    request.inputs[0].contents.fp32_contents.append(1.0)
    assert "expected one form" in refusal(request)


def test_malformed_bytes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not a valid ModelInferRequest"):
        read(b"\xff\xff\xff")


def test_shared_memory_is_not_offered() -> None:
    for request in (raw_request([numbers("FP32", 1)]), typed_request([numbers("FP32", 1)])):
        request.inputs[0].parameters["shared_memory_region"].string_param = "r"
        with pytest.raises(Unsupported, match="shared memory"):
            decoded(request)
    request = raw_request([numbers("FP32", 1)])
    request.outputs.add(name="y").parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(Unsupported, match="shared memory"):
        decoded(request)


def test_requested_outputs_are_read() -> None:
    request = raw_request([numbers("FP32", 1)])
    assert decoded(request).requested is None
    request.outputs.add(name="b")
    request.outputs.add(name="a").parameters["classification"].int64_param = 3
    assert decoded(request).requested == [RequestedOutput("b"), RequestedOutput("a", 3)]
    request.outputs.add(name="b")
    assert refusal(request) == "output 'b' is requested twice"


@pytest.mark.parametrize("stated", [{"int64_param": -1}, {"string_param": "2"}, {"bool_param": True}, {}])
def test_a_classification_is_a_number_of_classes(stated: dict[str, Any]) -> None:
    request = raw_request([numbers("FP32", 1)])
    request.outputs.add(name="y").parameters["classification"].CopyFrom(pb.InferParameter(**stated))
    assert "whole number of classes" in refusal(request)


def with_parameter(name: str, **stated: Any) -> pb.ModelInferRequest:
    return raw_request([numbers("FP32", 1)], parameters={name: pb.InferParameter(**stated)})


@pytest.mark.parametrize(
    ("stated", "timeout_ns"),
    [({"int64_param": 5}, 5000), ({"uint64_param": 5}, 5000), ({"int64_param": 0}, None)],
)
def test_a_time_limit_is_in_microseconds(stated: dict[str, Any], timeout_ns: int | None) -> None:
    assert decoded(with_parameter("timeout", **stated)).timeout_ns == timeout_ns


@pytest.mark.parametrize("stated", [{"int64_param": -1}, {"string_param": "5"}, {"double_param": 5.0}, {}])
def test_a_time_limit_is_a_whole_number(stated: dict[str, Any]) -> None:
    assert "whole number of microseconds" in refusal(with_parameter("timeout", **stated))


def test_reserved_and_unknown_parameters() -> None:
    assert "reserved" in refusal(with_parameter("triton_mine", bool_param=True))
    assert decoded(with_parameter("triton_enable_empty_final_response", bool_param=True)).closing
    assert not decoded(with_parameter("triton_enable_empty_final_response", bool_param=False)).closing
    for name in ("sequence_id", "sequence_start", "priority", "headers", "binary_data_output", "my_own"):
        assert not decoded(with_parameter(name, string_param="x")).closing


def test_what_lay_in_shared_memory_stays_as_it_was(tmp_path: Path) -> None:
    """Its caller may write the next request there as soon as it has the answer; others look at this one later."""
    segment = SEGMENTS / f"penstock-decode-{os.getpid()}"
    segment.write_bytes(np.array([1, 2], "<f4").tobytes())
    regions, request = SharedRegions([segment.name], tmp_path / "regions.json"), pb.ModelInferRequest()
    regions.register(SharedRegion("r", segment.name, 0, 8))
    item = request.inputs.add(name="x", datatype="FP32", shape=[1])
    for name, value in PLACE.items():
        field = "string_param" if isinstance(value, str) else "int64_param"
        setattr(item.parameters[name], field, value)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": PLACE}]}
    try:
        signature = Signature([TensorSpec("x", "FP32", (-1,))], [])
        (tensor,) = decode(request.SerializeToString(), signature, regions=regions).tensors
        found = BodyDecoder(RequestLimits(), regions).decode(json.dumps(body).encode(), None, signature).given
    finally:
        segment.write_bytes(bytes(8))
        segment.unlink()
    assert isinstance(found, list)
    assert tensor.data.tolist() == found[0].data.tolist() == [2]


# Large messages are taken apart, and mean what the parser says.


APART = -1
"""However short a message is, it is taken apart."""


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_contents, "BYTE_SLICE", 16)
    monkeypatch.setattr(typed_contents, "TEXT_SLICE", 3)


def outcome(raw: bytes, signature: Signature, small_bytes: int = SMALL_MESSAGE) -> Any:
    try:
        message, found = read(raw, signature, small_bytes)
    except Fault as fault:
        return type(fault)
    request = message.request
    return (request.model_name, request.model_version, request.id), found


def agree(one: Any, other: Any) -> bool:
    if isinstance(one, type) or isinstance(other, type):
        return one is other
    (target, first), (same_target, second) = one, other
    rest = (first.requested, first.timeout_ns, first.typed, first.closing)
    return (
        target == same_target
        and rest == (second.requested, second.timeout_ns, second.typed, second.closing)
        and len(first.tensors) == len(second.tensors)
        and all(map(same, first.tensors, second.tensors))
    )


@pytest.mark.usefixtures("short_slices")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_tensors() | some_tensors(TYPED), st.booleans(), st.data())
def test_a_large_message_means_what_a_small_one_means(items: list[Tensor], typed: bool, data: st.DataObject) -> None:
    typed = typed and all(item.datatype in FIELDS for item in items)
    request = typed_request(items) if typed else raw_request(items)
    request.model_version, request.id = data.draw(st.text(max_size=3)), data.draw(st.text(max_size=3))
    if data.draw(st.booleans()):
        request.parameters["timeout"].int64_param = 5
        request.outputs.add(name="y").parameters["classification"].int64_param = 2
    raw = request.SerializeToString()
    small, large = outcome(raw, taking(request)), outcome(raw, taking(request), APART)
    assert not isinstance(small, type)
    assert agree(small, large)


@pytest.mark.usefixtures("short_slices")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(300))
@given(some_tensors(TYPED, 1), st.booleans(), st.data())
def test_a_damaged_message_is_refused_or_means_what_the_parser_says(
    items: list[Tensor], typed: bool, data: st.DataObject
) -> None:
    request = typed_request(items) if typed else raw_request(items)
    raw = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 2))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    signature = taking(request)
    large = outcome(bytes(raw), signature, APART)
    if not isinstance(large, type):
        assert agree(outcome(bytes(raw), signature), large)


@pytest.mark.usefixtures("short_slices")
@pytest.mark.parametrize(
    ("contents", "datatype", "values"),
    [
        ([pb.InferTensorContents(int_contents=[-1, 5]), pb.InferTensorContents(int_contents=[7])], "INT32", [-1, 5, 7]),
        ([pb.InferTensorContents(int64_contents=[-(2**63), 2**63 - 1])], "INT64", [-(2**63), 2**63 - 1]),
        ([pb.InferTensorContents(uint64_contents=[2**64 - 1, 0])], "UINT64", [2**64 - 1, 0]),
        ([pb.InferTensorContents(bool_contents=[True, False])], "BOOL", [True, False]),
        ([pb.InferTensorContents(bytes_contents=[item]) for item in (b"a", b"")], "BYTES", ["a", ""]),
        ([pb.InferTensorContents(int_contents=list(range(300)))], "INT16", list(range(300))),
    ],
)  # fmt: skip
def test_contents_in_several_pieces_are_one_after_the_other(
    contents: list[pb.InferTensorContents], datatype: str, values: list[Any]
) -> None:
    head = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[len(values)]).SerializeToString()
    for content in contents:
        part = content.SerializeToString()
        head += b"\x2a" + encode_varint(len(part)) + part
    raw = b"\x2a" + encode_varint(len(head)) + head
    signature = Signature([TensorSpec("x", datatype, (-1,))], [])
    assert decode(raw, signature).tensors[0].data.tolist() == values
    assert agree(outcome(raw, signature), outcome(raw, signature, APART))


def in_parts(datatype: str, count: int, contents: list[bytes]) -> bytes:
    """A message of one input whose contents come in these parts."""
    head = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[count]).SerializeToString()
    head += b"".join(b"\x2a" + encode_varint(len(part)) + part for part in contents)
    return b"\x2a" + encode_varint(len(head)) + head


ONE, NONE = b"\x32\x04\x00\x00\x80\x3f", b"\x32\x00"
"""Packed values of fp32_contents: a one, and nothing."""

PARTS: dict[str, Callable[[int], bytes]] = {
    "contents": lambda number: in_parts("FP32", number, [ONE] * number),
    "empty contents": lambda number: in_parts("FP32", 1, [ONE] + [b""] * (number - 1)),
    "packed": lambda number: in_parts("FP32", number, [ONE * number]),
    "packed and empty": lambda number: in_parts("FP32", 1, [ONE + NONE * (number - 1)]),
    "unknown": lambda number: in_parts("FP32", 1, [ONE + b"\x50\x01" * (number - 1)]),
    "other fields": lambda number: in_parts("FP32", 1, [ONE + b"\x3a\x00" * (number - 1)]),
    "unknown beside texts": lambda number: in_parts("BYTES", 1, [b"\x42\x01a" + b"\x50\x01" * number]),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_of_typed_contents_are_limited(kind: str) -> None:
    signature = Signature([TensorSpec("x", "BYTES" if "texts" in kind else "FP32", (-1,))], [])
    found = decode(PARTS[kind](wire.MAX_PARTS), signature, small=APART).tensors[0].data.tolist()
    assert found in ([1.0], ["a"], [1.0] * wire.MAX_PARTS)
    with pytest.raises(TooLarge, match="more than 4096 parts; pack them into one"):
        decode(PARTS[kind](wire.MAX_PARTS + 1), signature, small=APART)


LIMITS = RequestLimits(max_elements=1000, max_text_elements=500)


@pytest.mark.parametrize("small", [APART, SMALL_MESSAGE])
def test_elements_of_typed_lists_and_texts_are_limited(small: int) -> None:
    floats = Signature([TensorSpec("x", "FP32", (-1,))], [])
    texts = Signature([TensorSpec("x", "BYTES", (-1,))], [])
    for count in (1000, 1001):
        raw = one_typed("FP32", (count,), fp32_contents=[0.5] * count).SerializeToString()
        if count == 1000:
            assert decode(raw, floats, LIMITS, small=small).tensors[0].data.size == count
            continue
        with pytest.raises(TooLarge, match=r"limit of 1000 \(limits.max_elements\); use raw contents"):
            decode(raw, floats, LIMITS, small=small)
    assert decode(one_raw("FP32", (5000,), bytes(20_000)).SerializeToString(), floats, LIMITS, small=small).tensors
    for request in (one_typed("BYTES", (501,), bytes_contents=[b""] * 501), one_raw("BYTES", (501,), bytes(4 * 501))):
        with pytest.raises(TooLarge, match=r"limit of 500 \(limits.max_text_elements\)"):
            decode(request.SerializeToString(), texts, LIMITS, small=small)


@pytest.mark.parametrize("small", [APART, SMALL_MESSAGE])
def test_bytes_of_texts_are_limited_over_all_of_them(small: int) -> None:
    limits, texts = RequestLimits(max_text_bytes=500), Signature([TensorSpec("x", "BYTES", (-1,))], [])
    raw = (96).to_bytes(4, "little") + bytes(96)
    for count in (4, 6):
        for request in (
            one_typed("BYTES", (count,), bytes_contents=[bytes(96)] * count),
            one_raw("BYTES", (count,), raw * count),
        ):
            if count == 4:
                found = decode(request.SerializeToString(), texts, limits, small=small).tensors[0]
                assert found.text_bytes >= 4 * 96
                continue
            with pytest.raises(TooLarge, match=r"limit of 500 \(limits.max_text_bytes\)"):
                decode(request.SerializeToString(), texts, limits, small=small)


def test_data_that_the_model_does_not_take_is_never_read() -> None:
    floats = Signature([TensorSpec("x", "FP32", (-1,))], [])
    many = 1 << 22
    for request in (one_raw("BYTES", (many,), bytes(4 * many)), one_typed("BOOL", (many,), bool_contents=[True] * 9)):
        for pause in (None, no_pause):
            with pytest.raises(InvalidInput, match=r"got (BYTES|BOOL); expected 'x' FP32"):
                decode(request.SerializeToString(), floats, pause=pause)


def test_dimensions_and_descriptions_are_limited() -> None:
    floats = Signature([TensorSpec("x", "FP32", (-1,))], [])
    with pytest.raises((InvalidInput, TooLarge), match=r"rank|beside the contents"):
        decode(one_raw("FP32", (2**63 - 1,) * 40_000, b"1234").SerializeToString(), floats)
    many = pb.ModelInferRequest()
    for number in range(1001):
        many.parameters[str(number)].bool_param = True
    with pytest.raises(InvalidInput, match="has 1001 parameters; at most 1000"):
        decode(many.SerializeToString(), floats)
    for number in range(40_000):
        many.parameters[str(number)].bool_param = True
    with pytest.raises(TooLarge, match="bytes beside the contents of its tensors"):
        decode(many.SerializeToString(), floats)
    for more in (b"\x3a\x00" * 100_000, b"\x2a\x00" * 200_000):
        with pytest.raises(TooLarge, match=r"raw_input_contents has more than|beside the contents"):
            decode(more, floats)


def test_long_work_is_declined_on_the_event_loop() -> None:
    texts = Signature([TensorSpec("x", "BYTES", (-1,))], [])
    ints = Signature([TensorSpec("x", "INT64", (-1,))], [])
    for request, signature in (
        (one_raw("BYTES", (5000,), bytes(20_000)), texts),
        (one_typed("INT64", (100_000,), int64_contents=[1] * 100_000), ints),
    ):
        raw = request.SerializeToString()
        with pytest.raises(LargeWork):
            decode(raw, signature, pause=None)
        assert decode(raw, signature).tensors[0].data.size >= 5000
    large = one_raw("INT64", (1 << 20,), bytes(8 << 20)).SerializeToString()
    tensor = decode(large, ints, pause=None).tensors[0]
    assert not tensor.data.flags.owndata  # a view of the message


@pytest.mark.parametrize(
    ("model", "version", "found"),
    [
        ("m", "", ("m", "")),
        ("m", "1", ("m", "1")),
        ("", "1", ("", "1")),
        ("", "", ("", "")),
        ("m" * 1025, "", None),
        ("m" * 1024, "x" * 1025, None),
    ],
)
def test_the_target_of_a_message_is_read_before_it_is_parsed(model: str, version: str, found: object) -> None:
    raw = pb.ModelInferRequest(model_name=model, model_version=version, id="7").SerializeToString()
    assert target_of(raw) == found
    for size in range(len(raw)):
        target_of(raw[:size])
