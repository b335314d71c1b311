"""TensorFlow Serving's gRPC API with generated stubs over grpcio, against TensorFlow Serving's documented answers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from penstock.core.access.table import AccessTable
from penstock.proto import tensorflow_pb2 as tf
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.proto.tensorflow_serving_pb2_grpc import ModelServiceStub, PredictionServiceStub
from tests import zoo
from tests.harness import PATIENCE_S
from tests.integration.access import ports as data_ports
from tests.integration.access.ports import DataPorts

HALF, CLASSES = "digits", "fraud"
"""y = x / 2 + 2, and a model with three scores for each row."""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataPorts]:
    """Both models, without access control."""
    folder: Path = tmp_path_factory.mktemp("models")
    zoo.save(zoo.affine(0.5, 2.0, ("n",)), folder / f"{HALF}.onnx")
    zoo.save(zoo.widening(3), folder / f"{CLASSES}.onnx")
    with data_ports.running(folder) as running:
        running.publish(AccessTable(1, enabled=False))
        yield running


@pytest.fixture(scope="module")
def channel(ports: DataPorts) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(ports.grpc[0]) as opened:
        yield opened


def floats(*values: float) -> tf.TensorProto:
    shape = tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=len(values))])
    return tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape, float_val=values)


def spec(name: str = HALF, **more: Any) -> ts.ModelSpec:
    return ts.ModelSpec(name=name, **more)


def example_list(*values: float) -> ts.Input:
    examples = [
        tf.Example(features=tf.Features(feature={"x": tf.Feature(float_list=tf.FloatList(value=[value]))}))
        for value in values
    ]
    return ts.Input(example_list=ts.ExampleList(examples=examples))


def fails(call: Callable[..., object], request: Message) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=PATIENCE_S)
    return caught.value.code(), caught.value.details() or ""


def test_predict_answers_as_documented(channel: grpc.Channel, ports: DataPorts) -> None:
    predict = PredictionServiceStub(channel).Predict
    request = ts.PredictRequest(model_spec=spec(version=ts.Int64Value(value=1)), inputs={"x": floats(1, 2, 5)})
    response, call = predict.with_call(request, timeout=PATIENCE_S, metadata=(("x-request-id", "mine"),))
    assert response == ts.PredictResponse(
        outputs={"y": floats(2.5, 3.0, 4.5)},
        model_spec=spec(version=ts.Int64Value(value=1), signature_name="serving_default"),
    )
    fields = dict(call.initial_metadata())
    assert (fields["penstock-model-version"], fields["penstock-route"]) == ("1", "pinned")
    assert fields["x-request-id"] == "mine"
    answered = ports.planes[0].queries.statistics(HALF)[0].totals
    assert answered.outcome_count(succeeded=True) == 1


def test_large_tensors_go_through_threads_and_compression(channel: grpc.Channel) -> None:
    values = np.arange(1 << 19, dtype="<f4")
    proto = floats()
    proto.tensor_shape.dim[0].size = len(values)
    proto.tensor_content = values.tobytes()
    request = ts.PredictRequest(model_spec=spec(), inputs={"x": proto})
    predict = PredictionServiceStub(channel).Predict
    response = predict(request, timeout=PATIENCE_S, compression=grpc.Compression.Gzip)
    assert np.array_equal(np.array(response.outputs["y"].float_val, "<f4"), values / 2 + 2)


def test_regress_and_classify(channel: grpc.Channel) -> None:
    stub = PredictionServiceStub(channel)
    regressed = stub.Regress(ts.RegressionRequest(model_spec=spec(), input=example_list(1, 2)), timeout=PATIENCE_S)
    assert [item.value for item in regressed.result.regressions] == [2.5, 3.0]
    request = ts.ClassificationRequest(model_spec=spec(CLASSES), input=example_list(0.5))
    classified = stub.Classify(request, timeout=PATIENCE_S)
    assert [[item.score for item in row.classes] for row in classified.result.classifications] == [[0.5, 0.5, 0.5]]
    assert classified.model_spec == spec(CLASSES, version=ts.Int64Value(value=1))


def test_metadata_and_status(channel: grpc.Channel) -> None:
    request = ts.GetModelMetadataRequest(model_spec=spec(), metadata_field=["signature_def"])
    metadata = PredictionServiceStub(channel).GetModelMetadata(request, timeout=PATIENCE_S)
    assert metadata.model_spec == spec(version=ts.Int64Value(value=1))
    described = ts.SignatureDefMap.FromString(metadata.metadata["signature_def"].value)
    signature = described.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert (signature.inputs["x"].dtype, signature.inputs["x"].tensor_shape.dim[0].size) == (tf.DT_FLOAT, -1)
    status = ModelServiceStub(channel).GetModelStatus(ts.GetModelStatusRequest(model_spec=spec()), timeout=PATIENCE_S)
    assert status == ts.GetModelStatusResponse(
        model_version_status=[ts.ModelVersionStatus(version=1, state="AVAILABLE", status=ts.StatusProto())]
    )


def test_errors_have_the_status_of_their_meaning(channel: grpc.Channel) -> None:
    stub, models = PredictionServiceStub(channel), ModelServiceStub(channel)
    other = ts.PredictRequest(model_spec=spec("half"), inputs={"x": floats(1)})
    assert fails(stub.Predict, other)[0] is grpc.StatusCode.NOT_FOUND
    pinned = ts.PredictRequest(model_spec=spec(version_label="stable"), inputs={"x": floats(1)})
    assert fails(stub.Predict, pinned)[0] is grpc.StatusCode.NOT_FOUND
    assert fails(stub.Predict, ts.PredictRequest(model_spec=spec()))[0] is grpc.StatusCode.INVALID_ARGUMENT
    signature = ts.PredictRequest(model_spec=spec(signature_name="other"), inputs={"x": floats(1)})
    assert fails(stub.Predict, signature)[0] is grpc.StatusCode.INVALID_ARGUMENT
    field = ts.GetModelMetadataRequest(model_spec=spec(), metadata_field=["other"])
    assert fails(stub.GetModelMetadata, field)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert fails(stub.GetModelMetadata, ts.GetModelMetadataRequest(model_spec=spec()))[0] is (
        grpc.StatusCode.INVALID_ARGUMENT
    )
    assert fails(stub.MultiInference, ts.MultiInferenceRequest())[0] is grpc.StatusCode.UNIMPLEMENTED
    code, text = fails(models.HandleReloadConfigRequest, ts.ReloadConfigRequest())
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "is not changed by this port" in text
    status = ts.GetModelStatusRequest(model_spec=spec(version=ts.Int64Value(value=7)))
    assert fails(models.GetModelStatus, status) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find version '7' of model 'digits'",
    )
