"""The answers of server reflection: descriptions of the services and messages of this server."""

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from penstock.api.grpc.health import HEALTH_SERVICE, INFERENCE_SERVICE
from penstock.api.grpc.methods import ServerCall
from penstock.api.grpc.tensorflow_serving.datatypes import MODEL_SERVICE, PREDICTION_SERVICE
from penstock.proto import grpc_service_pb2, model_config_pb2


async def answer(own_services: tuple[str, ...], describes_tensorflow: bool, call: ServerCall) -> None:
    """Answer the questions of a call; ``own_services`` are the names of reflection itself."""
    servicer = await asyncio.to_thread(_make_servicer, own_services, describes_tensorflow)
    # it takes a context and makes no use of it; the type stubs take an asynchronous generator for a coroutine
    no_context: Any = None
    responses: Any = servicer.ServerReflectionInfo(_iterate_requests(call), no_context)
    async for response in responses:
        await call.write(response.SerializeToString())


@cache
def _make_servicer(own_services: tuple[str, ...], describes_tensorflow: bool) -> Any:
    """Return the library's implementation; it loads grpcio, so workers that nobody asks do not pay for it."""
    from grpc_reflection.v1alpha.reflection import aio  # noqa: PLC0415 - see above

    services: tuple[str, ...] = (INFERENCE_SERVICE, HEALTH_SERVICE, *own_services)
    pool = _build_pool()
    if describes_tensorflow:
        services += _add_tensorflow(pool)
    return aio.ReflectionServicer(services, pool=pool)


def _add_tensorflow(pool: DescriptorPool) -> tuple[str, ...]:
    """Describe the services of TensorFlow Serving too; return their names."""
    from penstock.proto import tensorflow_pb2, tensorflow_serving_pb2  # noqa: PLC0415 - only where they are offered

    for module in (tensorflow_pb2, tensorflow_serving_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return PREDICTION_SERVICE, MODEL_SERVICE


async def _iterate_requests(call: ServerCall) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    while (raw := await call.read()) is not None:
        yield _request(raw)


def _request(raw: bytes) -> reflection_pb2.ServerReflectionRequest:
    """Return a request; invalid bytes become an empty request, which gets an invalid argument error."""
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(raw)
    except DecodeError:
        return reflection_pb2.ServerReflectionRequest()


def _build_pool() -> DescriptorPool:
    """Return all services of this server in one pool; the libraries keep separate ones."""
    pool = DescriptorPool()
    for module in (model_config_pb2, grpc_service_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(_v1_description())
    return pool


def _v1_description() -> FileDescriptorProto:
    """Return the v1 description, built from the v1alpha one."""
    described = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    return text_format.Parse(str(described).replace("v1alpha", "v1"), FileDescriptorProto())
