"""What gRPC offers beside plain predictions: health, metadata, streaming, compression, reflection, and its mistakes."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from penstock.proto import grpc_service_pb2 as pb
from tests import harness, zoo
from tests.conformance import oracle
from tests.conformance.mistakes import KEY, NUMBER, SAFE
from tests.conformance.test_refusals import assert_reveals_no_secrets
from tests.conformance.wire import Ask, Grpc, GrpcRaw, GrpcTyped, Input, RequestedOutput, read_response, refused, to_raw
from tests.harness import CALL_SECONDS, PATIENCE_S, Server

VECTOR = Ask("vector", [Input.of("x", "FP32", [1, 2])])
ANSWER = [0.75, 1.25]


@pytest.fixture(autouse=True)
def _alive(wire: Grpc) -> Iterator[None]:
    yield
    wire.infer(SAFE)


def fails(call: Any, request: Any, status: grpc.StatusCode, *fragments: str, seconds: float = CALL_SECONDS) -> None:
    """The call must end with this status and a sentence that holds these words."""
    with pytest.raises(grpc.RpcError) as failure:
        call(request, timeout=seconds)
    assert failure.value.code() == status, failure.value.details()
    text = failure.value.details() or ""
    assert_reveals_no_secrets(text)
    for word in fragments:
        assert word in text


# Health and metadata.


def test_health_is_reported(wire: Grpc) -> None:
    assert wire.stub.ServerLive(pb.ServerLiveRequest(), timeout=PATIENCE_S).live
    assert wire.stub.ServerReady(pb.ServerReadyRequest(), timeout=PATIENCE_S).ready
    assert wire.stub.ModelReady(pb.ModelReadyRequest(name="pair", version="1"), timeout=PATIENCE_S).ready
    assert not wire.stub.ModelReady(pb.ModelReadyRequest(name="broken"), timeout=PATIENCE_S).ready
    for name, version in (("nobody", ""), ("pair", "99"), ("", "")):
        assert not wire.stub.ModelReady(pb.ModelReadyRequest(name=name, version=version), timeout=PATIENCE_S).ready


def test_standard_health_is_served(wire: Grpc, server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        first = next(iter(stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)))
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        fails(stub.Check, health_pb2.HealthCheckRequest(service="nobody"), grpc.StatusCode.NOT_FOUND)


def test_the_server_says_what_it_is_as_over_rest(wire: Grpc, server: Server) -> None:
    answer = wire.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=PATIENCE_S)
    document = server.rest("GET", "/v2").json()
    assert (answer.name, answer.version) == (document["name"], document["version"])
    assert set(document["extensions"]) - {"binary_tensor_data"} <= set(answer.extensions)


@pytest.mark.parametrize("model", [*zoo.FLAT, "pair", "labelled", "batched", "reshaped", "external"])
def test_metadata_is_that_of_rest(wire: Grpc, server: Server, model: str) -> None:
    if model in zoo.UNAVAILABLE:
        fails(wire.stub.ModelMetadata, pb.ModelMetadataRequest(name=model), grpc.StatusCode.UNAVAILABLE, model)
        return
    answer = wire.stub.ModelMetadata(pb.ModelMetadataRequest(name=model), timeout=PATIENCE_S)
    document = server.rest("GET", f"/v2/models/{model}").json()
    assert (answer.name, list(answer.versions), answer.platform) == (
        document["name"],
        document["versions"],
        document["platform"],
    )
    for side in ("inputs", "outputs"):
        seen = [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in getattr(answer, side)]
        assert seen == document[side]


def test_the_configuration_is_a_message(wire: Grpc) -> None:
    config = wire.stub.ModelConfig(pb.ModelConfigRequest(name="batched", version="1"), timeout=PATIENCE_S).config
    assert (config.name, config.backend, config.max_batch_size) == ("batched", "onnxruntime", 4)
    assert (config.input[0].name, list(config.input[0].dims)) == ("x", [3])
    assert config.HasField("dynamic_batching")
    assert [item.name for item in config.model_warmup] == ["zeros", "noise", "file"]
    derived = wire.stub.ModelConfig(pb.ModelConfigRequest(name="mixed"), timeout=PATIENCE_S).config
    assert [item.name for item in derived.output] == ["doubled", "next", "positive"]


# Forms of predictions.


def test_answers_are_raw_whatever_the_form_of_the_request(server: Server) -> None:
    for kind in (GrpcRaw, GrpcTyped):
        with closing(kind(server)) as opened:
            response = opened.stub.ModelInfer(opened.message(VECTOR), timeout=PATIENCE_S)
            assert len(response.raw_output_contents) == 1
            assert not response.outputs[0].HasField("contents")


def test_typed_answers_to_typed_requests_are_a_setting(tmp_path: Path) -> None:
    numbers = {"INT8": "int_contents", "UINT16": "uint_contents", "INT16": "int_contents", "FP32": "fp32_contents"}
    for datatype in numbers:
        zoo.save(zoo.identity(datatype), tmp_path / "models" / f"identity_{datatype.lower()}.onnx")
    environment = {"PENSTOCK_GRPC_OUTPUTS": "mirror"}
    with harness.running(tmp_path / "models", tmp_path, env=environment) as server, closing(GrpcTyped(server)) as typed:
        for datatype, field in numbers.items():
            ask = Ask(f"identity_{datatype.lower()}", [Input.of("x", datatype, [[1, 2]])])
            response = typed.stub.ModelInfer(typed.message(ask), timeout=PATIENCE_S)
            assert list(getattr(response.outputs[0].contents, field)) == [1, 2]
            assert not response.raw_output_contents


def test_one_id_comes_back_or_is_made(wire: Grpc) -> None:
    response, call = wire.stub.ModelInfer.with_call(wire.message(VECTOR), timeout=PATIENCE_S)
    made = dict(call.initial_metadata())["x-request-id"]
    assert made
    assert response.id in {"", made}
    header = (("x-request-id", "from-metadata"),)
    response, call = wire.stub.ModelInfer.with_call(wire.message(VECTOR), timeout=PATIENCE_S, metadata=header)
    assert dict(call.initial_metadata())["x-request-id"] == "from-metadata"
    message = wire.message(VECTOR)
    message.id = "from-message"
    response, call = wire.stub.ModelInfer.with_call(message, timeout=PATIENCE_S, metadata=header)
    assert dict(call.initial_metadata())["x-request-id"] == response.id == "from-message"


def test_an_id_may_be_any_text(wire: Grpc) -> None:
    message = wire.message(VECTOR)
    message.id = "zwei\r\nZeilen ü \U0001f600"
    assert wire.stub.ModelInfer(message, timeout=PATIENCE_S).id == message.id


def test_a_failed_run_says_who_failed(wire: Grpc) -> None:
    message = wire.message(Ask("gather", [Input.of("index", "INT64", [99])], id="lost"))
    call = wire.stub.ModelInfer.future(message, timeout=PATIENCE_S)
    assert call.exception() is not None
    facts = {**dict(call.initial_metadata()), **dict(call.trailing_metadata())}
    assert (facts["penstock-model-version"], facts["penstock-route"], facts["x-request-id"]) == ("1", "stable", "lost")


def test_outputs_come_in_the_order_asked_for(wire: Grpc) -> None:
    answer = wire.infer(
        Ask("mixed", [NUMBER, KEY], requested=[RequestedOutput("positive"), RequestedOutput("doubled")])
    )
    assert [output.name for output in answer.outputs] == ["positive", "doubled"]


def test_classes_are_ranked_and_labelled(wire: Grpc) -> None:
    five = Input.of("x", "FP32", [[1, 2, 3, 4, 5]])
    requested_output = RequestedOutput("probabilities", {"classification": 2})
    [output] = wire.infer(Ask("labelled", [five], requested=[requested_output])).outputs
    assert (output.datatype, output.shape) == ("BYTES", (1, 2))
    for text in output.data.ravel():
        _, index, label = text.decode().split(":")
        assert label == zoo.LABELS[int(index)]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_may_be_packed(wire: Grpc, compression: grpc.Compression) -> None:
    large = np.zeros(100_000, np.float32)
    message = wire.message(Ask("vector", [Input("x", "FP32", large.shape, large)]))
    response = wire.stub.ModelInfer(message, timeout=PATIENCE_S, compression=compression)
    assert read_response(response, {}).array("y").tolist() == [0.25] * 100_000


def test_large_messages_pass_both_ways(wire: Grpc) -> None:
    large = np.arange(12 << 20, dtype=np.float32) % 1000
    answer = wire.infer(Ask("vector", [Input("x", "FP32", large.shape, large)]))
    assert np.array_equal(answer.array("y"), large * np.float32(0.5) + np.float32(0.25))


# Streaming, in Triton's form.


def streamed(wire: Grpc, messages: list[Any], **options: Any) -> list[Any]:
    """The answers to a stream of requests."""
    return list(wire.stub.ModelStreamInfer(iter(messages), timeout=CALL_SECONDS, **options))


def test_a_stream_answers_each_request_in_turn(wire: Grpc) -> None:
    messages = []
    for number in range(20):
        message = wire.message(Ask("vector", [Input.of("x", "FP32", [number])], id=str(number)))
        messages.append(message)
    answers = streamed(wire, messages)
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(20)]
    assert not any(answer.error_message for answer in answers)
    values = [read_response(answer.infer_response, {}).array("y").tolist() for answer in answers]
    assert values == [[number * 0.5 + 0.25] for number in range(20)]


def test_a_mistake_does_not_end_the_stream(wire: Grpc) -> None:
    wrong = wire.message(Ask("nobody", VECTOR.inputs, id="b"))
    good = wire.message(Ask("vector", VECTOR.inputs, id="c"))
    failing = wire.message(Ask("gather", [Input.of("index", "INT64", [99])], id="d"))
    answers = streamed(wire, [wire.message(VECTOR), wrong, good, failing, good])
    assert [answer.error_message == "" for answer in answers] == [True, False, True, False, True]
    assert "nobody" in answers[1].error_message
    assert answers[1].infer_response.id == "b"
    assert answers[4].infer_response.id == "c"


def test_a_stream_may_want_real_errors(wire: Grpc) -> None:
    wrong = wire.message(Ask("nobody", VECTOR.inputs))
    with pytest.raises(grpc.RpcError) as failure:
        streamed(wire, [wire.message(VECTOR), wrong], metadata=(("triton_grpc_error", "true"),))
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_stream_may_want_a_closing_message(wire: Grpc) -> None:
    message = wire.message(VECTOR)
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    answers = [item.infer_response for item in streamed(wire, [message])]
    flags = [answer.parameters["triton_final_response"].bool_param for answer in answers]
    assert flags[-1]
    assert read_response(answers[0], {}).array("y").tolist() == ANSWER


def test_an_empty_stream_ends(wire: Grpc) -> None:
    assert streamed(wire, []) == []


def test_a_stream_stays_open_between_requests(wire: Grpc) -> None:
    more = threading.Event()

    def messages() -> Iterator[Any]:
        yield wire.message(VECTOR)
        assert more.wait(CALL_SECONDS)
        yield wire.message(VECTOR)

    stream = wire.stub.ModelStreamInfer(messages(), timeout=CALL_SECONDS)
    assert next(stream).infer_response.model_name == "vector"
    more.set()
    assert next(stream).infer_response.model_name == "vector"
    assert list(stream) == []


# Mistakes only gRPC can make.


def test_raw_and_typed_contents_cannot_be_mixed(wire: Grpc) -> None:
    message = wire.message(Ask("mixed", [NUMBER, KEY]))
    message.inputs[1].contents.int64_contents.extend([1, 2, 3, 4])
    fails(wire.stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT, "raw")


@pytest.mark.parametrize("parts", [1, 3])
def test_raw_contents_pair_with_inputs(wire: Grpc, parts: int) -> None:
    message = wire.message(Ask("mixed", [NUMBER, KEY]))
    del message.raw_input_contents[:]
    message.raw_input_contents.extend([to_raw(NUMBER.data)] * parts)
    fails(wire.stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT, "raw")


def typed(model: str, datatype: str, shape: list[int], **contents: Any) -> "pb.ModelInferRequest":
    """A typed request with any fields filled."""
    message = pb.ModelInferRequest(model_name=model)
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return message


@pytest.mark.parametrize(
    "message",
    [
        typed("identity_fp32", "FP32", [1, 1], fp64_contents=[1.0]),
        typed("identity_int32", "INT32", [1, 1], int64_contents=[1]),
        typed("identity_int32", "INT32", [1, 1], int_contents=[1], uint_contents=[1]),
        typed("identity_int8", "INT8", [1, 1], int_contents=[128]),
        typed("identity_int16", "INT16", [1, 1], int_contents=[-40_000]),
        typed("identity_uint8", "UINT8", [1, 1], uint_contents=[256]),
        typed("identity_uint16", "UINT16", [1, 1], uint_contents=[65_536]),
        typed("identity_fp16", "FP16", [1, 1], fp32_contents=[1.0]),
        typed("identity_bf16", "BF16", [1, 1], fp32_contents=[1.0]),
        typed("identity_bytes", "BYTES", [1, 1], bytes_contents=[b"\xff"]),
        typed("identity_fp32", "FP32", [1, 1]),
    ],
    ids=lambda message: f"{message.inputs[0].datatype} {message.inputs[0].contents}".replace("\n", " "),
)
def test_contents_in_the_wrong_field_or_range_are_refused(wire: Grpc, message: "pb.ModelInferRequest") -> None:
    fails(wire.stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT, "x")


@pytest.mark.parametrize("raw", [b"\1\0\0\0\xff", b"\2\0\0\0a", b"\xff\xff\xff\xffa", b"\1\0\0", b"\1\0\0\0ab"])
def test_raw_texts_are_wellformed_utf8(wire: Grpc, raw: bytes) -> None:
    message = typed("identity_bytes", "BYTES", [1, 1])
    message.raw_input_contents.append(raw)
    fails(wire.stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT, "x")


def test_a_message_over_the_limit_is_refused(server: Server) -> None:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as failure:
            call(bytes(65 << 20), timeout=CALL_SECONDS)
        assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_packed_message_over_the_limit_is_refused(server: Server, compression: grpc.Compression) -> None:
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as failure:
            call(bytes(200 << 20), timeout=CALL_SECONDS, compression=compression)
        assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\xff", b"\x0a\x02ab\x2a\x7f", b"\x0a\x02\xff\xfe"])
def test_a_malformed_message_is_refused(server: Server, data: bytes) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as failure:
            call(data, timeout=PATIENCE_S)
        assert failure.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL}
        assert_reveals_no_secrets(failure.value.details() or "")


def test_unknown_methods_are_refused(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        for path in ("/inference.GRPCInferenceService/Nothing", "/nobody.Service/ModelInfer"):
            fails(channel.unary_unary(path), b"", grpc.StatusCode.UNIMPLEMENTED)


@pytest.mark.parametrize(
    ("method", "request_name"),
    [
        ("SystemSharedMemoryRegister", "SystemSharedMemoryRegisterRequest"),
        ("CudaSharedMemoryRegister", "CudaSharedMemoryRegisterRequest"),
        ("TraceSetting", "TraceSettingRequest"),
        ("LogSettings", "LogSettingsRequest"),
    ],
)
def test_what_is_not_offered_says_so(wire: Grpc, method: str, request_name: str) -> None:
    fails(getattr(wire.stub, method), getattr(pb, request_name)(), grpc.StatusCode.UNIMPLEMENTED)


def test_shared_memory_inputs_are_not_offered(wire: Grpc) -> None:
    message = typed("vector", "FP32", [2])
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    fails(wire.stub.ModelInfer, message, grpc.StatusCode.UNIMPLEMENTED, "shared memory")


# Deadlines.


def test_a_deadline_ends_the_wait(wire: Grpc) -> None:
    message = wire.message(Ask("slow", [Input.of("x", "FP32", [1])]))
    with pytest.raises(grpc.RpcError) as failure:
        wire.stub.ModelInfer(message, timeout=0.02)
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_timeout_parameter_counts_beside_the_deadline(wire: Grpc) -> None:
    message = wire.message(Ask("slow", [Input.of("x", "FP32", [1])], parameters={"timeout": 1000}))
    fails(wire.stub.ModelInfer, message, grpc.StatusCode.DEADLINE_EXCEEDED, "deadline", seconds=20)


def test_the_timeout_metadata_counts_too(wire: Grpc) -> None:
    message = wire.message(Ask("slow", [Input.of("x", "FP32", [1])]))
    with pytest.raises(grpc.RpcError) as failure:
        wire.stub.ModelInfer(message, timeout=PATIENCE_S, metadata=(("penstock-timeout-ms", "1"),))
    assert refused(failure.value).code == 504


@pytest.mark.parametrize("stated", ["critical", "default", "batch"])
def test_a_call_may_state_its_class(wire: Grpc, stated: str) -> None:
    wire.stub.ModelInfer(wire.message(VECTOR), timeout=PATIENCE_S, metadata=(("penstock-class", stated),))


def test_a_wrong_class_is_refused(wire: Grpc) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        wire.stub.ModelInfer(wire.message(VECTOR), timeout=PATIENCE_S, metadata=(("penstock-class", "urgent"),))
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "critical, default and batch" in (failure.value.details() or "")


@pytest.mark.parametrize("text", ["soon", "-1", "1e3", "1.5"])
def test_a_wrong_timeout_in_metadata_is_refused(wire: Grpc, text: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        wire.stub.ModelInfer(wire.message(VECTOR), timeout=PATIENCE_S, metadata=(("penstock-timeout-ms", text),))
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "penstock-timeout-ms" in (failure.value.details() or "")


def test_a_call_may_be_cancelled(wire: Grpc) -> None:
    message = wire.message(Ask("slow", [Input.of("x", "FP32", [1])]))
    calls = [wire.stub.ModelInfer.future(message, timeout=PATIENCE_S) for _ in range(10)]
    for call in calls:
        call.cancel()
    assert all(call.cancelled() for call in calls)


# Reflection.


def test_reflection_describes_every_service(server: Server, wire: Grpc) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask: Any = reflection_pb2.ServerReflectionRequest
        wanted = [ask(list_services=""), ask(file_containing_symbol="inference.GRPCInferenceService")]
        listed, described = stub.ServerReflectionInfo(iter(wanted), timeout=PATIENCE_S)
    names = {service.name for service in listed.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    file = FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0])
    [service] = [item for item in file.service if item.name == "GRPCInferenceService"]
    assert {method.name for method in service.method} >= {"ModelInfer", "ModelStreamInfer", "RepositoryModelLoad"}


def test_typed_and_raw_give_the_same(server: Server) -> None:
    opened = [GrpcRaw(server), GrpcTyped(server)]
    answers = [item.infer(Ask("mixed", [NUMBER, KEY])) for item in opened]
    oracle.assert_same(answers[0], {output.name: output.data for output in answers[1].outputs})
    for item in opened:
        item.close()
