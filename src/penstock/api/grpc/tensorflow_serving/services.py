"""The methods of TensorFlow Serving's services that run no model: status, metadata, and what is not offered."""

from typing import Any, Final

from penstock.api.common.tensorflow_rules import (
    DEFAULT_SIGNATURE,
    PREDICT,
    ModelVersionState,
    version_number,
    version_states,
)
from penstock.api.grpc.message_form import MessageForm
from penstock.api.grpc.methods import Method, ServerCall, make_unary, only_message
from penstock.api.grpc.tensorflow_serving.datatypes import MODEL_SERVICE, NUMBERS, PREDICTION_SERVICE
from penstock.api.grpc.tensorflow_serving.examples import ExampleForm
from penstock.api.grpc.tensorflow_serving.model_spec import spec_of, target_of
from penstock.api.grpc.tensorflow_serving.predict import PredictForm
from penstock.core.access.endpoints import DESCRIBE
from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.signature import TensorSpec
from penstock.proto import tensorflow_pb2 as tf
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.serving.data_plane import DataPlane
from penstock.serving.routing_table import Target

SIGNATURE_DEF: Final = "signature_def"
"""The only field of metadata."""

_TYPE_URL: Final = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_MULTI_INFERENCE: Final = "MultiInference is not offered; send one Classify or Regress call for each task"
_RELOAD: Final = "the configuration is not changed by this port; use the registry, aliases, or the setting models"


def inference_forms() -> dict[str, MessageForm]:
    """Return the methods that run a model, by path."""
    forms: dict[str, MessageForm] = {
        "Predict": PredictForm(),
        "Classify": ExampleForm(classifies=True),
        "Regress": ExampleForm(classifies=False),
    }
    return {f"/{PREDICTION_SERVICE}/{name}": form for name, form in forms.items()}


class ModelQueries:
    """Answers the methods that ask about models from the state of the data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def services(self) -> dict[str, dict[str, Method]]:
        """Return the methods of both services by name."""
        return {
            PREDICTION_SERVICE: {
                "GetModelMetadata": make_unary(ts.GetModelMetadataRequest, self._metadata),
                "MultiInference": _refuse_method(_MULTI_INFERENCE),
            },
            MODEL_SERVICE: {
                "GetModelStatus": make_unary(ts.GetModelStatusRequest, self._status),
                "HandleReloadConfigRequest": _refuse_method(_RELOAD),
            },
        }

    def _status(self, request: ts.GetModelStatusRequest, call: ServerCall) -> ts.GetModelStatusResponse:
        model, version = _find_target(request.model_spec, call)
        response = ts.GetModelStatusResponse()
        for state in version_states(self._plane.routing_table.entry(model), version):
            _add_status(response, state)
        return response

    def _metadata(self, request: ts.GetModelMetadataRequest, call: ServerCall) -> ts.GetModelMetadataResponse:
        target = _find_target(request.model_spec, call)
        _check_fields(list(request.metadata_field))
        loaded = self._plane.routing_table.find(target)[0]
        described = ts.SignatureDefMap()
        signature = described.signature_def[DEFAULT_SIGNATURE]
        signature.method_name = PREDICT
        for spec in loaded.signature.inputs:
            signature.inputs[spec.name].CopyFrom(_describe_tensor(spec))
        for spec in loaded.signature.outputs:
            signature.outputs[spec.name].CopyFrom(_describe_tensor(spec))
        response = ts.GetModelMetadataResponse(model_spec=spec_of(target[0], loaded.identity.version))
        packed = response.metadata[SIGNATURE_DEF]
        packed.type_url, packed.value = _TYPE_URL, described.SerializeToString()
        return response


def _find_target(spec: ts.ModelSpec, call: ServerCall) -> Target:
    """Return what a request asks about, if its caller may know of that model."""
    target = target_of(spec)
    call.access.check(DESCRIBE, target[0], call.info)
    return target


def _check_fields(fields: list[str]) -> None:
    if not fields:
        raise InvalidInput(f"metadata_field is empty; expected '{SIGNATURE_DEF}'")
    for field in fields:
        if field != SIGNATURE_DEF:
            raise InvalidInput(f"the metadata field '{field[:64]}' is not supported; expected '{SIGNATURE_DEF}'")


def _describe_tensor(spec: TensorSpec) -> tf.TensorInfo:
    dims = [tf.TensorShapeProto.Dim(size=size) for size in spec.shape]
    return tf.TensorInfo(
        name=f"{spec.name}:0",
        dtype=tf.DataType.Name(NUMBERS[spec.datatype]),
        tensor_shape=tf.TensorShapeProto(dim=dims),
    )


def _add_status(response: ts.GetModelStatusResponse, state: ModelVersionState) -> None:
    """Add the state of a version; the message has no place for versions that are not numbers."""
    number = version_number(state.version)
    if number is not None:
        status: Any = response.model_version_status.add(version=number, state=state.state)
        status.status.error_code, status.status.error_message = state.code, state.reason


def _refuse_method(reason: str) -> Method:
    """Return a method that is not offered; what it is sent is not parsed."""

    async def refuse(call: ServerCall) -> None:
        await only_message(call)
        raise Unsupported(reason)

    return Method(refuse)
