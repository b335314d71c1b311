"""Health, metadata, configuration, statistics, repository and refusals, asked with the generated client."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from penstock import __version__
from penstock.api.grpc.health import INFERENCE_SERVICE
from penstock.api.grpc.servicer import NOT_OFFERED
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from penstock.serving.server_queries import EXTENSIONS
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.requests import pair
from tests.integration.api_grpc.worker import CALL_SECONDS, CONFIG, MODELS, Worker

Stub = GRPCInferenceServiceStub
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_the_server_lives_and_is_ready(stub: Stub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready


def test_models_are_ready_or_not(stub: Stub) -> None:
    assert stub.ModelReady(pb.ModelReadyRequest(name="pair", version="1")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="loading")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="nobody")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="pair", version="9")).ready


@pytest.mark.parametrize("kind", ["System", "Cuda"])
def test_missing_shared_memory_can_be_queried_and_unregistered(stub: Stub, kind: str) -> None:
    ask = f"{kind}SharedMemory"
    assert not getattr(stub, f"{ask}Status")(getattr(pb, f"{ask}StatusRequest")()).regions
    for name in ("", "r"):
        getattr(stub, f"{ask}Unregister")(getattr(pb, f"{ask}UnregisterRequest")(name=name))
    with pytest.raises(grpc.RpcError) as raised:
        getattr(stub, f"{ask}Status")(getattr(pb, f"{ask}StatusRequest")(name="r"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_what_is_unknown_is_unloaded_and_fails_to_load(stub: Stub) -> None:
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="nobody"))
    with pytest.raises(grpc.RpcError) as raised:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="nobody"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert str(raised.value.details()).startswith("failed to load 'nobody'")


def test_server_metadata(stub: Stub) -> None:
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (metadata.name, metadata.version) == ("penstock", __version__)
    assert tuple(metadata.extensions) == EXTENSIONS


def test_model_metadata(stub: Stub) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="pair"))
    assert list(metadata.versions) == ["1", "2"]
    assert metadata.platform == "onnxruntime_onnx"
    assert [(item.name, item.datatype, list(item.shape)) for item in metadata.inputs] == [("x", "FP32", [-1, 3])]
    assert [(output.name, output.datatype, list(output.shape)) for output in metadata.outputs] == [
        ("y", "FP32", [-1, 3])
    ]


def test_model_config(stub: Stub) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="pair")).config
    assert (config.name, config.backend) == (CONFIG["name"], CONFIG["backend"])
    assert list(config.input[0].dims) == [3]


def test_statistics_count_what_was_asked(stub: Stub) -> None:
    def asked() -> pb.ModelStatistics:
        (one,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="pair", version="1")).model_stats
        return one

    before = asked()
    for rows in (1, 1, 2):
        stub.ModelInfer(pair(*([1.0] * 3), version="1") if rows == 1 else _rows(rows))
    after = asked()
    assert (after.name, after.version) == ("pair", "1")
    assert after.inference_count - before.inference_count == 4
    assert after.execution_count - before.execution_count == 3
    assert after.inference_stats.success.count - before.inference_stats.success.count == 3
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert after.last_inference >= before.last_inference
    sizes = {batch.batch_size: batch.compute_infer.count for batch in after.batch_stats}
    assert sizes[1] >= 2
    assert sizes[2] >= 1


def _rows(count: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="pair", model_version="1")
    added = request.inputs.add(name="x", datatype="FP32", shape=[count, 3])
    added.contents.fp32_contents.extend([1.0] * 3 * count)
    return request


def test_statistics_of_everything(stub: Stub) -> None:
    found = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    assert {item.name for item in found} == set(MODELS)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelStatistics(pb.ModelStatisticsRequest(name="nobody"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_repository_index(stub: Stub) -> None:
    lines = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    states = {(line.name, line.version): line.state for line in lines}
    assert states["pair", "2"] == "READY"
    assert states["loading", "1"] == "LOADING"
    ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert {line.state for line in ready} == {"READY"}


def test_both_dialects_of_load_and_unload(stub: Stub, worker: Worker) -> None:
    worker.layout.asked.clear()
    triton = pb.RepositoryModelLoadRequest(model_name="pair")
    triton.parameters["config"].string_param = "{}"
    loaded = stub.RepositoryModelLoad(triton)
    assert (loaded.model_name, loaded.isLoaded) == ("pair", True)
    loaded = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="pair"))
    assert (loaded.model_name, loaded.isLoaded) == ("pair", True)
    unloaded = stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(repository_name="r", model_name="pair"))
    assert (unloaded.model_name, unloaded.isUnloaded) == ("pair", True)
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(repository_name="pair"))
    assert worker.layout.asked == [
        ("load", "pair", "{}"),
        ("load", "pair", None),
        ("unload", "pair", None),
        ("unload", "pair", None),
    ]


def test_loads_that_are_refused(stub: Stub) -> None:
    files = pb.RepositoryModelLoadRequest(model_name="pair")
    files.parameters["file:1/model.onnx"].bytes_param = b"x"
    number = pb.RepositoryModelLoadRequest(model_name="pair")
    number.parameters["config"].int64_param = 1
    for request, code in (
        (pb.RepositoryModelLoadRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.RepositoryModelLoadRequest(model_name="nobody"), grpc.StatusCode.NOT_FOUND),
        (files, grpc.StatusCode.UNIMPLEMENTED),
        (number, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            stub.RepositoryModelLoad(request)
        assert raised.value.code() is code


@pytest.mark.parametrize("kind", NOT_OFFERED, ids=lambda kind: kind.DESCRIPTOR.name)
def test_what_is_not_offered_is_refused_in_one_sentence(stub: Stub, kind: type) -> None:
    method = getattr(stub, kind.DESCRIPTOR.name.removesuffix("Request"))  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError) as raised:
        method(kind())
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raised.value.details() == NOT_OFFERED[kind]


def health_stub(channel: grpc.Channel) -> Any:
    """Their stub makes its methods at run time, so no checker knows them."""
    return HealthStub(channel)


def test_every_call_of_the_service_is_answered(channel: grpc.Channel) -> None:
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in service.methods:
        if method.client_streaming:
            continue
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{INFERENCE_SERVICE}/{method.name}")
        with pytest.raises(grpc.RpcError) as raised:
            ask(b"\xff\xff\xff", timeout=CALL_SECONDS)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method.name
        assert raised.value.details() == f"the message is not a valid {method.input_type.name}"


def test_unknown_methods_are_unimplemented(channel: grpc.Channel) -> None:
    dream: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{INFERENCE_SERVICE}/ModelDream")
    with pytest.raises(grpc.RpcError) as raised:
        dream(b"", timeout=CALL_SECONDS)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("service", ["", INFERENCE_SERVICE])
def test_health_check(channel: grpc.Channel, service: str) -> None:
    assert health_stub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING


def test_health_of_an_unknown_service(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        health_stub(channel).Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    watched = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert next(iter(watched)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watched.cancel()


def test_health_follows_readiness_and_watchers_are_closed(models: Path) -> None:
    with workers.running(models) as worker, grpc.insecure_channel(worker.address) as channel:
        health = health_stub(channel)
        watched = iter(health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=CALL_SECONDS))
        assert next(watched).status == SERVING
        worker.call(worker.plane.begin_drain)
        assert next(watched).status == NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest(service=INFERENCE_SERVICE)).status == NOT_SERVING
        assert not Stub(channel).ServerReady(pb.ServerReadyRequest()).ready
        worker.call(worker.server.drain)
        assert list(watched) == []


def test_reflection_describes_every_service(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        INFERENCE_SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    pool = DescriptorPool(database)
    service = pool.FindServiceByName(INFERENCE_SERVICE)
    assert {method.name for method in service.methods} == {
        method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    }
    for name in database.get_services():
        assert pool.FindServiceByName(name).methods


def test_reflection_v1_is_v1alpha_by_another_name(channel: grpc.Channel) -> None:
    from grpc_reflection.v1alpha import reflection_pb2 as wire

    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=bytes,
        response_deserializer=wire.ServerReflectionResponse.FromString,
    )
    listing = wire.ServerReflectionRequest(list_services="").SerializeToString()
    first, second = ask(iter([listing, b"\xff\xff"]), timeout=CALL_SECONDS)
    assert INFERENCE_SERVICE in {service.name for service in first.list_services_response.service}
    assert second.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
