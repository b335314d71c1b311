import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto import model_config_pb2
from penstock.proto.pool import POOL


def test_the_service_is_the_one_clients_call() -> None:
    service = POOL.FindServiceByName("inference.GRPCInferenceService")
    assert len(service.methods) == 20
    assert service.methods_by_name["ModelStreamInfer"].client_streaming
    assert service.methods_by_name["ModelStreamInfer"].server_streaming


def test_the_default_pool_is_left_to_clients() -> None:
    triton = pytest.importorskip("tritonclient.grpc.service_pb2")
    assert triton.ModelInferRequest.DESCRIPTOR.full_name == pb.ModelInferRequest.DESCRIPTOR.full_name
    assert triton.ModelInferRequest.DESCRIPTOR.file.pool is not pb.ModelInferRequest.DESCRIPTOR.file.pool


def names(message: Message) -> dict[int, str]:
    return {field.number: field.name for field in message.DESCRIPTOR.fields}


def test_fields_stand_where_a_public_client_expects_them() -> None:
    triton = pytest.importorskip("tritonclient.grpc.service_pb2")
    configs = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    compared = 0
    for own, known in ((pb, triton), (model_config_pb2, configs)):
        for name, message in known.DESCRIPTOR.message_types_by_name.items():
            own_message = own.DESCRIPTOR.message_types_by_name[name]
            for field in message.fields:
                assert own_message.fields_by_number[field.number].name == field.name, f"{name}.{field.name}"
                assert own_message.fields_by_number[field.number].type == field.type, f"{name}.{field.name}"
                compared += 1
    assert compared >= 200


def test_both_dialects_of_load_answers() -> None:
    answer = pb.RepositoryModelLoadResponse(model_name="m", isLoaded=True)
    assert answer.SerializeToString() == b"\x0a\x01m\x10\x01"
    assert pb.RepositoryModelUnloadResponse(isUnloaded=True).SerializeToString() == b"\x10\x01"
    kserve = pb.RepositoryModelLoadRequest.FromString(b"\x0a\x01m")
    assert (kserve.repository_name, kserve.model_name) == ("m", "")


def test_descriptors_can_be_reflected() -> None:
    pool = DescriptorPool()
    for module in (model_config_pb2, pb):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    assert pool.FindMessageTypeByName("inference.ModelConfig").full_name == "inference.ModelConfig"
