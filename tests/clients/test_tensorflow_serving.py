"""TensorFlow Serving's clients against a gateway: messages of its proto files, and requests of its documentation."""

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from penstock.proto import tensorflow_pb2 as tf
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.proto.tensorflow_serving_pb2_grpc import PredictionServiceStub
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server

WHEELS = Path(__file__).parents[2] / "build" / "tensorflow_serving"
MODEL = "/v1/models/half_plus_two"
DESCRIBED = re.compile(r"serialized_pb=(b'(?:[^'\\]|\\.)*')")
"""The description of a proto file in the module that it was compiled to."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The model of TensorFlow Serving's documentation, and one with three scores for each row."""
    folder = tmp_path_factory.mktemp("serving")
    zoo.place(folder / "models", "half_plus_two", {"123": zoo.affine(0.5, 2.0, ("n",))})
    zoo.place(folder / "models", "classes", {"1": zoo.widening(3)})
    env = {"PENSTOCK_DIALECTS": '["tfs"]'}
    with harness.running(folder / "models", folder / "run", "--workers", "1", env=env) as running:
        yield running


class ServingClient:
    """Calls methods with messages of TensorFlow Serving's own proto files; modules of that age are not loaded any more
    by today's protobuf, but the descriptions in them are."""

    def __init__(self, wheel: Path, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pool = DescriptorPool()
        self._files = {file.name: file for file in map(FileDescriptorProto.FromString, _descriptions(wheel))}
        for name in list(self._files):
            self._add(name)

    def _add(self, name: str) -> None:
        file = self._files.pop(name, None)
        if file is not None:
            for dependency in file.dependency:
                self._add(dependency)
            self._pool.Add(file)

    def message(self, name: str) -> Any:
        """An empty message."""
        return GetMessageClass(self._pool.FindMessageTypeByName(name))()

    def call(self, service: str, method: str, request: Any) -> Any:
        """The answer of a method."""
        described = self._pool.FindServiceByName(f"tensorflow.serving.{service}").FindMethodByName(method)
        answered = GetMessageClass(described.output_type)
        sent: grpc.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            f"/tensorflow.serving.{service}/{method}", type(request).SerializeToString, answered.FromString
        )
        return sent(request, timeout=PATIENCE_S)


def _descriptions(wheel: Path) -> Iterator[bytes]:
    yield from (any_pb2.DESCRIPTOR.serialized_pb, wrappers_pb2.DESCRIPTOR.serialized_pb)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            found = DESCRIBED.search(archive.read(name).decode()) if name.endswith("_pb2.py") else None
            if found is not None:
                described: bytes = ast.literal_eval(found[1])
                yield described


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[ServingClient]:
    """A client; skips where the messages cannot be had."""
    wheels = sorted(WHEELS.glob("*.whl"))
    if not wheels:
        pytest.skip("TensorFlow Serving's messages were not fetched (.ci/run does it)")
    with grpc.insecure_channel(server.grpc) as channel:
        yield ServingClient(wheels[0], channel)


def test_the_messages_here_have_the_same_fields(client: ServingClient) -> None:
    checked = 0
    for module in (tf, ts):
        for message in module.DESCRIPTOR.message_types_by_name.values():
            if message.name not in ("Int64Value", "AnyMessage"):  # those of protobuf itself
                original = client.message(message.full_name).DESCRIPTOR.fields_by_number
                for field in message.fields:
                    assert _form(original[field.number]) == _form(field)
                    checked += 1
    assert checked > 60


def _form(field: FieldDescriptor) -> tuple[str, bool, int]:
    """Name, repetition and form on the wire of a field; an enumeration has that of a number."""
    kind = field.type
    return field.name, field.is_repeated, FieldDescriptor.TYPE_INT32 if kind == FieldDescriptor.TYPE_ENUM else kind


def test_predict_with_its_own_messages(client: ServingClient) -> None:
    request = client.message("tensorflow.serving.PredictRequest")
    request.model_spec.name = "half_plus_two"
    request.model_spec.version.value = 123
    proto = request.inputs["x"]
    proto.dtype = 1
    proto.tensor_shape.dim.add().size = 3
    proto.float_val.extend([1.0, 2.0, 5.0])
    response = client.call("PredictionService", "Predict", request)
    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert (response.outputs["y"].dtype, response.outputs["y"].tensor_shape.dim[0].size) == (1, 3)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 123, "serving_default")


def test_examples_with_its_own_messages(client: ServingClient) -> None:
    request = client.message("tensorflow.serving.RegressionRequest")
    request.model_spec.name = "half_plus_two"
    for value in (1.0, 2.0):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    regressed = client.call("PredictionService", "Regress", request)
    assert [item.value for item in regressed.result.regressions] == [2.5, 3.0]
    request = client.message("tensorflow.serving.ClassificationRequest")
    request.model_spec.name = "classes"
    request.input.example_list_with_context.examples.add()
    request.input.example_list_with_context.context.features.feature["x"].float_list.value.append(0.5)
    classified = client.call("PredictionService", "Classify", request)
    assert [item.score for item in classified.result.classifications[0].classes] == [0.5, 0.5, 0.5]


def test_status_and_metadata_with_its_own_messages(client: ServingClient) -> None:
    request = client.message("tensorflow.serving.GetModelMetadataRequest")
    request.model_spec.name = "half_plus_two"
    request.metadata_field.append("signature_def")
    described = client.message("tensorflow.serving.SignatureDefMap")
    metadata = client.call("PredictionService", "GetModelMetadata", request).metadata
    assert metadata["signature_def"].Unpack(described)
    signature = described.signature_def["serving_default"]
    assert (signature.inputs["x"].dtype, signature.outputs["y"].tensor_shape.dim[0].size) == (1, -1)
    request = client.message("tensorflow.serving.GetModelStatusRequest")
    request.model_spec.name = "half_plus_two"
    [status] = client.call("ModelService", "GetModelStatus", request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (123, 30, 0)


def test_what_is_refused_with_its_own_messages(client: ServingClient) -> None:
    for service, method, name in [
        ("ModelService", "HandleReloadConfigRequest", "ReloadConfigRequest"),
        ("PredictionService", "MultiInference", "MultiInferenceRequest"),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            client.call(service, method, client.message(f"tensorflow.serving.{name}"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_gateway_offers_the_services_on_its_grpc_port(server: Server) -> None:
    shape = tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=2)])
    inputs = {"x": tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape, float_val=[1, 2])}
    request = ts.PredictRequest(model_spec=ts.ModelSpec(name="half_plus_two"), inputs=inputs)
    with grpc.insecure_channel(server.grpc) as channel:
        response = PredictionServiceStub(channel).Predict(request, timeout=PATIENCE_S)
    assert list(response.outputs["y"].float_val) == [2.5, 3.0]


STATUS = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
DOCUMENTED: list[tuple[str, Any, Any]] = [
    (f"{MODEL}:predict", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
    (f"{MODEL}/labels/123:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
    (f"{MODEL}/versions/123:predict", {"inputs": [1.0, 2.0, 5.0]}, {"outputs": [2.5, 3.0, 4.5]}),
    (
        f"{MODEL}:regress",
        {"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]},
        {"results": [2.5, 3.0]},
    ),
    (MODEL, None, {"model_version_status": [STATUS]}),
]


@pytest.mark.parametrize(("path", "body", "answer"), DOCUMENTED)
def test_documented_requests_have_the_documented_answers(server: Server, path: str, body: Any, answer: Any) -> None:
    reply = server.rest("GET" if body is None else "POST", path, body)
    assert (reply.status, reply.json()) == (200, answer)


def test_an_unknown_model_answers_as_documented(server: Server) -> None:
    reply = server.rest("POST", "/v1/models/half:predict", {"instances": [1.0, 5.0]})
    assert (reply.status, list(reply.json())) == (404, ["error"])
