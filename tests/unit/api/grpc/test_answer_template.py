"""Answers made of remembered parts equal those of the plain encoder, whatever one version was asked before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.grpc.contents import FIELDS
from penstock.api.grpc.encode import GrpcAnswerTemplate, answer_parameters, infer_response, stream_message
from penstock.api.grpc.framing import PREFIX, add_prefix
from penstock.core.errors import Fault, TooLarge
from penstock.core.labels import Protocol, Route
from penstock.core.limits import RequestLimits
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import NUMBER_SLICE, TEXT_SLICE, PauseWork, no_pause
from penstock.core.tensors import NUMPY_TYPES, Array
from penstock.engine.model import Model
from penstock.engine.session import closed_run
from penstock.monitor.counters.slot import Slot
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.infer_call import BatchResult, InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.version_info import VersionIdentity
from tests.calls import join_payload
from tests.unit.api.grpc.messages import arrays

LIMITS = RequestLimits()
PARAMETERS = answer_parameters({"penstock-route": pb.InferParameter(string_param="canary")})
IDS = st.text(min_size=1, max_size=200)  # a call always has one
NUMERIC = sorted(set(NUMPY_TYPES) - {"BYTES", "BF16", "BOOL"})


@st.composite
def versions(draw: st.DrawFn) -> LoadedVersion:
    """A version of up to three outputs, each of a datatype and with rows of a shape of its own; rows may be empty."""
    rows = st.lists(st.integers(0, 3), max_size=2)
    outputs = [
        TensorSpec(f"y{index}", draw(st.sampled_from(sorted(NUMPY_TYPES))), (-1, *draw(rows)))
        for index in range(draw(st.integers(1, 3)))
    ]
    signature = Signature([TensorSpec("x", "FP32", (-1, 1))], outputs, batching=True)
    identity = VersionIdentity(draw(st.text(max_size=4)), draw(st.text(max_size=4)))
    return LoadedVersion(identity, Model(closed_run, signature), ModelOptions(), {}, Slot.in_process().block(1))


def call_of(version: LoadedVersion, requested: list[RequestedOutput] | None, call_id: str) -> InferCall:
    """A call that asks for these outputs."""
    return InferCall(version, Route.STABLE, Protocol.GRPC, call_id, [], requested, deadline_ns=0, began_ns=0)


def outputs_of(draw: st.DrawFn, version: LoadedVersion, rows: int) -> list[Array]:
    """Values of all outputs."""
    return [draw(arrays(spec.datatype, (rows, *spec.shape[1:]))) for spec in version.signature.outputs]


def alone(draw: st.DrawFn, version: LoadedVersion) -> list[InferCall]:
    """A call of a run of its own, which may ask for some outputs only, in any order, and for classes."""
    found, requested = outputs_of(draw, version, draw(st.integers(0, 3))), None
    if draw(st.booleans()):
        places = draw(st.permutations(range(len(found))))[: draw(st.integers(1, len(found)))]
        specs = [version.signature.outputs[place] for place in places]
        classes = [draw(st.integers(0, 2)) if spec.datatype in NUMERIC else 0 for spec in specs]
        requested = [RequestedOutput(spec.name, count) for spec, count in zip(specs, classes, strict=True)]
        found = [found[place] for place in places]
    call = call_of(version, requested, draw(IDS))
    call.outputs = version.requested_tensors(requested, found)
    return [call]


def together(draw: st.DrawFn, version: LoadedVersion) -> list[InferCall]:
    """Calls of one row each that share a run."""
    joint = BatchResult(outputs_of(draw, version, draw(st.integers(1, 4))))
    calls = [call_of(version, None, draw(IDS)) for _ in range(len(joint.arrays[0]))]
    for place, call in enumerate(calls):
        call.batch_result, call.place = joint, place
    return calls


@st.composite
def stories(draw: st.DrawFn) -> tuple[LoadedVersion, list[tuple[InferCall, bool]]]:
    """A version, and what it answers one after the other, raw or typed."""
    version, calls = draw(versions()), list[InferCall]()
    for _ in range(draw(st.integers(1, 6))):
        calls += draw(st.sampled_from((alone, together)))(draw, version)
    return version, [(call, draw(st.integers(0, 4)) == 0) for call in calls]


def plain(call: InferCall, typed: bool) -> bytes:
    """What the plain encoder makes of a call."""
    return add_prefix(infer_response(call, typed, RequestWork(LIMITS, no_pause)).SerializeToString())


def answer(
    template: GrpcAnswerTemplate, call: InferCall, typed: bool, pause: PauseWork | None
) -> bytes | type[Exception]:
    """What the template makes of it."""
    try:
        return join_payload(template.answer(call, typed, pause))
    except (Fault, LargeWork) as error:
        return type(error)


@given(stories(), st.data())
def test_any_answer_equals_the_plain_one(
    story: tuple[LoadedVersion, list[tuple[InferCall, bool]]], data: st.DataObject
) -> None:
    version, calls = story
    template = GrpcAnswerTemplate(version.identity.model, version.identity.version, LIMITS)
    for call, typed in data.draw(st.permutations(calls)):
        expected = plain(call, typed)
        for pause in (None, no_pause):
            assert answer(template, call, typed, pause) == expected
        message = pb.ModelStreamInferResponse.FromString(join_payload(stream_message(expected, (PARAMETERS,)))[PREFIX:])
        response = pb.ModelInferResponse.FromString(expected[PREFIX:])
        response.parameters["penstock-route"].string_param = "canary"
        assert message.infer_response == response


def version_of(datatype: str) -> LoadedVersion:
    """A version with one output of this datatype."""
    signature = Signature([TensorSpec("x", "FP32", (-1, 1))], [TensorSpec("y", datatype, (-1, 2))], batching=True)
    return LoadedVersion(
        VersionIdentity("m", "1"), Model(closed_run, signature), ModelOptions(), {}, Slot.in_process().block(1)
    )


def test_the_same_shape_of_two_datatypes_is_described_twice() -> None:
    version = version_of("FP32")
    template = GrpcAnswerTemplate("m", "1", LIMITS)
    asked: Sequence[Any] = ([RequestedOutput("y", 2)], None, [RequestedOutput("y", 2)], [RequestedOutput("y")])
    found = []
    for requested in asked:
        call = call_of(version, requested, "7")
        call.outputs = version.requested_tensors(requested, [np.ones((1, 2), "<f4")])
        found.append(pb.ModelInferResponse.FromString(join_payload(template.answer(call, typed=False))[PREFIX:]))
    assert [item.outputs[0].datatype for item in found] == ["BYTES", "FP32", "BYTES", "FP32"]
    assert [list(item.outputs[0].shape) for item in found] == [[1, 2]] * 4


def numbers_of(version: LoadedVersion, array: Array, call_id: str = "7") -> InferCall:
    """A call whose only output are these numbers."""
    call = call_of(version, None, call_id)
    call.outputs = version.requested_tensors(None, [array])
    return call


@pytest.mark.parametrize(("code", "is_small"), [("l", True), ("q", True), (">i8", False)])
def test_numbers_of_any_numpy_type_of_the_datatype_are_answered_alike(code: str, is_small: bool) -> None:
    """ONNX Runtime makes INT64 of the other of the two C types of eight bytes."""
    version, template = version_of("INT64"), GrpcAnswerTemplate("m", "1", LIMITS)
    for rows in (1, 2, 2):
        call = numbers_of(version, np.arange(2 * rows, dtype=code).reshape(rows, 2))
        assert answer(template, call, False, None) == plain(call, False)
    assert (template._small is not None) == is_small


def test_a_small_answer_is_over_the_limit_with_its_id() -> None:
    version = version_of("FP32")
    call = numbers_of(version, np.ones((1, 2), "<f4"), "x" * 200)
    most = len(plain(call, False)) - PREFIX
    for limit, expected in ((most, plain(call, False)), (most - 1, TooLarge)):
        template = GrpcAnswerTemplate("m", "1", RequestLimits(max_output_bytes=limit))
        short = numbers_of(version, np.ones((1, 2), "<f4"))
        for _ in range(2):
            assert answer(template, call, False, None) == expected
            assert answer(template, short, False, None) == plain(short, False)


EDGES = (
    *[(1 << bits) - 1 for bits in range(65)],
    *[1 << bits for bits in range(64)],
    *[-(1 << bits) for bits in range(64)],
)


@pytest.mark.parametrize("datatype", sorted(FIELDS))
def test_a_large_typed_answer_is_what_protobuf_would_write_and_pauses(datatype: str) -> None:
    """Its numbers are longer than a slice, and every length of a varint is among them."""
    count = 3 * NUMBER_SLICE
    if datatype == "BYTES":
        data = np.array(["", "é" * 200, b"raw", "text"] * TEXT_SLICE, object)
    elif datatype in ("FP32", "FP64"):
        data = np.random.default_rng(1).standard_normal(count).astype(NUMPY_TYPES[datatype])
    elif datatype == "BOOL":
        data = np.arange(count) % 3 == 0
    else:
        bounds = np.iinfo(NUMPY_TYPES[datatype])
        edges = [edge for edge in EDGES if bounds.min <= edge <= bounds.max]
        data = np.resize(np.array(edges, NUMPY_TYPES[datatype]), count)
    outputs = [TensorSpec("y", datatype, (-1,)), TensorSpec("none", datatype, (-1,))]
    model = Model(closed_run, Signature([], outputs))
    version = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, Slot.in_process().block(1))
    call = call_of(version, None, "7")
    call.outputs = version.requested_tensors(None, [data, data[:0]])
    pauses = [0]

    def pause() -> None:
        pauses[0] += 1

    template = GrpcAnswerTemplate("m", "1", LIMITS)
    assert join_payload(template.answer(call, typed=True, pause=pause)) == plain(call, typed=True)
    assert pauses[0] >= (0 if datatype in ("FP32", "FP64", "BOOL") else 3)
