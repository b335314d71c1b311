"""Tensors to answers: raw and typed, in a stream, and refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import InferResult, service_pb2

from penstock.api.common.parts import Payload
from penstock.api.common.work import RequestWork
from penstock.api.grpc.contents import FIELDS
from penstock.api.grpc.encode import (
    NOT_FINAL,
    answer_parameters,
    closing_answer,
    infer_response,
    stream_message,
    stream_refusal,
)
from penstock.api.grpc.errors import MAX_DETAILS
from penstock.api.grpc.framing import PREFIX, add_prefix
from penstock.core.errors import InvalidInput
from penstock.core.limits import RequestLimits
from penstock.core.slices import no_pause
from penstock.core.tensors import Tensor, from_raw, to_raw
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.infer_call import InferCall
from tests.calls import answered, join_payload
from tests.unit.api.grpc.messages import TYPED, numbers, same, tensors


def response_of(call: InferCall, typed: bool, limits: RequestLimits | None = None) -> pb.ModelInferResponse:
    return infer_response(call, typed, RequestWork(limits or RequestLimits(), no_pause))


def copied(response: pb.ModelInferResponse) -> pb.ModelInferResponse:
    return pb.ModelInferResponse.FromString(response.SerializeToString())


@given(st.lists(tensors(), max_size=3))
def test_raw_answers_hold_one_entry_for_each_output(outputs: list[Tensor]) -> None:
    response = copied(response_of(answered(outputs), typed=False))
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "7")
    assert len(response.raw_output_contents) == len(response.outputs) == len(outputs)
    for output, raw, wanted in zip(response.outputs, response.raw_output_contents, outputs, strict=True):
        assert same(Tensor(output.name, output.datatype, from_raw("", output.datatype, output.shape, raw)), wanted)
        assert not output.HasField("contents")


@given(st.lists(tensors(TYPED), max_size=3))
def test_typed_answers_hold_the_same_values(outputs: list[Tensor]) -> None:
    response = copied(response_of(answered(outputs), typed=True))
    assert not response.raw_output_contents
    for output, wanted in zip(response.outputs, outputs, strict=True):
        values = list(getattr(output.contents, FIELDS[output.datatype]))
        dtype = object if output.datatype == "BYTES" else wanted.data.dtype
        array = np.empty(len(values), dtype)
        array[:] = values
        assert tuple(output.shape) == wanted.data.shape
        assert to_raw(output.datatype, array) == to_raw(wanted.datatype, wanted.data)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_one_output_without_typed_form_makes_the_answer_raw(datatype: str) -> None:
    response = response_of(answered([numbers("FP32", 1), numbers(datatype, 2)]), typed=True)
    assert len(response.raw_output_contents) == 2
    assert not any(output.HasField("contents") for output in response.outputs)


@given(tensors())
def test_tritonclient_reads_raw_answers(output: Tensor) -> None:
    raw = response_of(answered([output]), typed=False).SerializeToString()
    array = InferResult(service_pb2.ModelInferResponse.FromString(raw)).as_numpy(output.name)
    assert array.shape == output.data.shape
    if output.datatype == "BYTES":
        assert [item.decode() for item in array.ravel()] == output.data.ravel().tolist()
    elif output.datatype == "BF16":  # older clients read it as FP32
        assert (array.astype(np.float32).view(np.uint32) >> 16).tolist() == output.data.tolist()
    else:
        assert array.tobytes() == output.data.tobytes()


def test_an_array_of_any_layout_is_row_major_on_the_wire() -> None:
    columns = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert response_of(answered([Tensor("y", "INT32", columns)]), typed=False).raw_output_contents[0] == bytes(
        np.arange(6, dtype=np.int32)
    )
    typed = response_of(answered([Tensor("y", "INT32", columns)]), typed=True)
    assert list(typed.outputs[0].contents.int_contents) == [0, 1, 2, 3, 4, 5]


def test_streamed_answers_say_who_answered() -> None:
    call = answered([numbers("FP32", 1)])
    response = response_of(call, typed=False)
    facts = answer_parameters({"penstock-route": pb.InferParameter(string_param="canary")})
    message = streamed_message(stream_message(add_prefix(response.SerializeToString()), (facts,)))
    expected = pb.ModelInferResponse.FromString(response.SerializeToString())
    expected.parameters["penstock-route"].string_param = "canary"
    assert message.infer_response == expected


def streamed_message(payload: Payload) -> pb.ModelStreamInferResponse:
    """A framed message of a stream."""
    raw = join_payload(payload)
    assert raw[:PREFIX] == b"\0" + (len(raw) - PREFIX).to_bytes(4)
    return pb.ModelStreamInferResponse.FromString(raw[PREFIX:])


def test_a_closing_answer_is_empty_and_flagged() -> None:
    call = answered([numbers("FP32", 1)])
    answer = add_prefix(response_of(call, typed=False).SerializeToString())
    first, last = map(streamed_message, (stream_message(answer, (NOT_FINAL,)), closing_answer(call)))
    assert not first.infer_response.parameters["triton_final_response"].bool_param
    assert first.infer_response.outputs
    assert last.infer_response.parameters["triton_final_response"].bool_param
    assert (last.infer_response.model_name, last.infer_response.id) == ("m", "7")
    assert not last.infer_response.outputs


def test_a_refusal_in_a_stream_names_the_request() -> None:
    message = streamed_message(stream_refusal(InvalidInput("no " * 9999), "7"))
    assert message.error_message.startswith("no no")
    assert len(message.error_message) == MAX_DETAILS
    assert message.infer_response.id == "7"
