"""The unary calls of the protocol except ModelInfer: health, metadata, configuration, statistics, repository."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from penstock import __version__
from penstock.api.common.request_builder import REQUEST_ID
from penstock.api.grpc.decode import value_of
from penstock.api.grpc.health import INFERENCE_SERVICE
from penstock.api.grpc.methods import Method, ServerCall, make_unary
from penstock.core.access.endpoints import DESCRIBE, GRPC, READ, READ_SOME
from penstock.core.errors import InvalidInput, NotFound, Unsupported
from penstock.core.signature import TensorSpec
from penstock.monitor.counters.histogram import Histogram
from penstock.monitor.counters.totals import Totals
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.model_config_pb2 import ModelConfig
from penstock.serving.access.request_author import RequestAuthor, author_of
from penstock.serving.data_plane import DataPlane
from penstock.serving.server_queries import SERVER_NAME, VersionStatistics
from penstock.serving.shared_memory import SharedRegion

Answer = Callable[[Any, ServerCall], Message | Awaitable[Message]]

CUDA = "the shared memory of accelerators is not offered; send tensor data in the request"
NOT_OFFERED: dict[type[Message], str] = {
    pb.CudaSharedMemoryRegisterRequest: CUDA,
    pb.TraceSettingRequest: "trace settings are not offered over the protocol",
    pb.LogSettingsRequest: "log settings are not offered over the protocol",
}
"""Unsupported calls of the protocol, and their error texts."""


class InferenceServicer:
    """Answers every unary call except ModelInfer from the state of the data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def methods(self) -> dict[str, Method]:
        """Return the calls by name."""
        return {
            "ServerLive": make_unary(pb.ServerLiveRequest, self._server_live),
            "ServerReady": make_unary(pb.ServerReadyRequest, self._server_ready),
            "ModelReady": make_unary(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": make_unary(pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": make_unary(pb.ModelMetadataRequest, _check_access("ModelMetadata", self._model_metadata)),
            "ModelConfig": make_unary(pb.ModelConfigRequest, _check_access("ModelConfig", self._model_config)),
            "ModelStatistics": make_unary(pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": make_unary(pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": make_unary(
                pb.RepositoryModelLoadRequest, _check_access("RepositoryModelLoad", self._load)
            ),
            "RepositoryModelUnload": make_unary(
                pb.RepositoryModelUnloadRequest, _check_access("RepositoryModelUnload", self._unload)
            ),
            "SystemSharedMemoryStatus": make_unary(pb.SystemSharedMemoryStatusRequest, self._regions),
            "SystemSharedMemoryRegister": make_unary(pb.SystemSharedMemoryRegisterRequest, self._register),
            "SystemSharedMemoryUnregister": make_unary(pb.SystemSharedMemoryUnregisterRequest, self._unregister),
            "CudaSharedMemoryStatus": make_unary(pb.CudaSharedMemoryStatusRequest, _cuda_regions),
            "CudaSharedMemoryUnregister": make_unary(pb.CudaSharedMemoryUnregisterRequest, _cuda_unregister),
            **{kind.DESCRIPTOR.name.removesuffix("Request"): make_unary(kind, _refuse_method) for kind in NOT_OFFERED},
        }

    def _server_live(self, _: pb.ServerLiveRequest, __: ServerCall) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=self._plane.live)

    def _server_ready(self, _: pb.ServerReadyRequest, __: ServerCall) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._plane.ready())

    def _model_ready(self, request: pb.ModelReadyRequest, call: ServerCall) -> pb.ModelReadyResponse:
        """An unknown or hidden model is not ready: clients poll this while they wait for a model to appear."""
        try:
            call.access.check(DESCRIBE, request.name, call.info)
            ready = self._plane.queries.model_ready(request.name, request.version)
        except NotFound:
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    def _server_metadata(self, _: pb.ServerMetadataRequest, __: ServerCall) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=__version__, extensions=self._plane.queries.extensions
        )

    def _model_metadata(self, request: pb.ModelMetadataRequest, _: ServerCall) -> pb.ModelMetadataResponse:
        metadata = self._plane.queries.metadata(request.name, request.version)
        return pb.ModelMetadataResponse(
            name=metadata.name,
            versions=metadata.versions,
            platform=metadata.platform,
            inputs=map(_tensor_metadata, metadata.inputs),
            outputs=map(_tensor_metadata, metadata.outputs),
            properties=metadata.properties,
        )

    def _model_config(self, request: pb.ModelConfigRequest, _: ServerCall) -> pb.ModelConfigResponse:
        config = self._plane.queries.config(request.name, request.version)
        return pb.ModelConfigResponse(config=ParseDict(config, ModelConfig()))

    def _model_statistics(self, request: pb.ModelStatisticsRequest, call: ServerCall) -> pb.ModelStatisticsResponse:
        call.access.check(READ if request.name else READ_SOME, request.name, call.info)
        found = self._plane.queries.statistics(request.name, request.version)
        return pb.ModelStatisticsResponse(
            model_stats=[_encode_statistics(item) for item in found if call.access.reads(item.model)]
        )

    def _index(self, request: pb.RepositoryIndexRequest, call: ServerCall) -> pb.RepositoryIndexResponse:
        lines = [line for line in self._plane.queries.index(request.ready) if call.access.sees(line.name)]
        line = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[line(name=item.name, version=item.version, state=item.state, reason=item.reason) for item in lines]
        )

    def _regions(
        self, request: pb.SystemSharedMemoryStatusRequest, call: ServerCall
    ) -> pb.SystemSharedMemoryStatusResponse:
        response = pb.SystemSharedMemoryStatusResponse()
        for status in self._plane.regions.status(request.name, call.access.owner):
            region = response.regions[status.name]
            region.name, region.key, region.offset, region.byte_size = (
                status.name,
                status.key,
                status.offset,
                status.byte_size,
            )
        return response

    def _register(
        self, request: pb.SystemSharedMemoryRegisterRequest, call: ServerCall
    ) -> pb.SystemSharedMemoryRegisterResponse:
        owner = call.access.owner
        region = SharedRegion(request.name, request.key, request.offset, request.byte_size, owner)
        self._plane.regions.register(region)
        return pb.SystemSharedMemoryRegisterResponse()

    def _unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, call: ServerCall
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        self._plane.regions.unregister(request.name, call.access.owner)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def _load(self, request: pb.RepositoryModelLoadRequest, call: ServerCall) -> pb.RepositoryModelLoadResponse:
        name = _model_name(request)
        await self._plane.queries.load(name, _config_parameter(request), _author_of(call))
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def _unload(
        self, request: pb.RepositoryModelUnloadRequest, call: ServerCall
    ) -> pb.RepositoryModelUnloadResponse:
        name = _model_name(request)
        await self._plane.queries.unload(name, _author_of(call))
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)


def _check_access(name: str, answer: Answer) -> Answer:
    """Return an answer behind the check of what its method requires, for the model that the request names."""
    requirement = GRPC[f"/{INFERENCE_SERVICE}/{name}"]

    def checked(request: Any, call: ServerCall) -> Message | Awaitable[Message]:
        call.access.check(requirement, _model_of(request), call.info)
        return answer(request, call)

    return checked


def _author_of(call: ServerCall) -> RequestAuthor:
    request_id = call.fields.get(REQUEST_ID, b"").decode("latin-1")
    return author_of(call.access.caller, call.info("peername"), request_id)


def _model_of(request: Any) -> str:
    if isinstance(request, pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest):
        return _model_name(request)
    name: str = request.name
    return name


def _cuda_regions(request: pb.CudaSharedMemoryStatusRequest, _: ServerCall) -> pb.CudaSharedMemoryStatusResponse:
    if request.name:
        raise NotFound(f"unknown shared memory region '{request.name}'")
    return pb.CudaSharedMemoryStatusResponse()


def _cuda_unregister(_: pb.CudaSharedMemoryUnregisterRequest, __: ServerCall) -> pb.CudaSharedMemoryUnregisterResponse:
    """Succeed without effect: clients unregister all regions before they register theirs."""
    return pb.CudaSharedMemoryUnregisterResponse()


def _refuse_method(request: Message, _: ServerCall) -> Message:
    raise Unsupported(NOT_OFFERED[type(request)])


def _model_name(request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest) -> str:
    """Return the model: KServe's clients send it as field 1, where others send a repository."""
    name: str = request.model_name or request.repository_name
    if not name:
        raise InvalidInput("model_name is empty; expected the model to load or unload")
    return name


def _config_parameter(request: pb.RepositoryModelLoadRequest) -> str | None:
    for key in request.parameters:
        if key.startswith("file:"):
            raise Unsupported("model files cannot be loaded over the protocol; put them into the repository")
    if "config" not in request.parameters:
        return None
    config = value_of(request.parameters["config"])
    if not isinstance(config, str):
        raise InvalidInput("the parameter 'config' must be a model configuration as a JSON string")
    return config


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _encode_statistics(version: VersionStatistics) -> pb.ModelStatistics:
    totals = version.totals
    return pb.ModelStatistics(
        name=version.model,
        version=version.version,
        last_inference=totals.last_inference_ms,
        inference_count=totals.inferences,
        execution_count=totals.executions,
        inference_stats=pb.InferStatistics(
            success=pb.StatisticDuration(count=totals.outcome_count(succeeded=True), ns=totals.success_ns),
            fail=pb.StatisticDuration(count=totals.outcome_count(succeeded=False), ns=totals.fail_ns),
            queue=_encode_duration(totals.stage("queue")),
            compute_input=_encode_duration(totals.stage("decode")),
            compute_infer=_encode_duration(totals.stage("run")),
            compute_output=_encode_duration(totals.stage("encode")),
        ),
        batch_stats=_encode_batches(totals),
    )


def _encode_duration(histogram: Histogram) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=histogram.count, ns=histogram.total)


def _encode_batches(totals: Totals) -> Iterator[pb.InferBatchStatistics]:
    for size, count, decode, run, encode in totals.batches():
        yield pb.InferBatchStatistics(
            batch_size=size,
            compute_input=pb.StatisticDuration(count=count, ns=decode),
            compute_infer=pb.StatisticDuration(count=count, ns=run),
            compute_output=pb.StatisticDuration(count=count, ns=encode),
        )
