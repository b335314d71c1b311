"""Server reflection, v1alpha and v1: tools such as grpcurl ask the server for its own protocol."""

from typing import TypeAlias

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc import RpcMethodHandler, stream_stream_rpc_method_handler
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from penstock.api.grpc.health import HEALTH_SERVICE, INFERENCE_SERVICE
from penstock.proto import grpc_service_pb2, model_config_pb2

REFLECTION_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The two differ in their names only, so one implementation answers for both."""

Reflection: TypeAlias = (
    "RpcMethodHandler[reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse]"
)

METHOD = "ServerReflectionInfo"


def reflection_method() -> Reflection:
    """The one method of either service."""
    servicer = aio.ReflectionServicer((INFERENCE_SERVICE, HEALTH_SERVICE, *REFLECTION_SERVICES), pool=_pool())
    return stream_stream_rpc_method_handler(servicer.ServerReflectionInfo, _request, _bytes)


def _request(raw: bytes) -> reflection_pb2.ServerReflectionRequest:
    """A request; bytes that are none become an empty one, which is answered as an invalid argument."""
    try:
        return reflection_pb2.ServerReflectionRequest.FromString(raw)
    except DecodeError:
        return reflection_pb2.ServerReflectionRequest()


def _bytes(response: reflection_pb2.ServerReflectionResponse) -> bytes:
    return response.SerializeToString()


def _pool() -> DescriptorPool:
    """Everything this server speaks, in one pool; the libraries keep theirs apart."""
    pool = DescriptorPool()
    for module in (model_config_pb2, grpc_service_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(_renamed())
    return pool


def _renamed() -> FileDescriptorProto:
    """The v1 description, made from the v1alpha one."""
    described = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    return text_format.Parse(str(described).replace("v1alpha", "v1"), FileDescriptorProto())
