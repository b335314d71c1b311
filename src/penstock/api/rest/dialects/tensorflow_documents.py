"""Status and metadata of a model as TensorFlow Serving's REST API states them: its messages in protobuf's JSON form."""

from collections.abc import Sequence
from typing import Any, Final

from penstock.api.common.tensorflow_rules import DEFAULT_SIGNATURE, PREDICT, version_states
from penstock.core.signature import Signature, TensorSpec
from penstock.serving.routing_table import ModelEntry

_TYPES: Final = {
    "BOOL": "DT_BOOL",
    "BYTES": "DT_STRING",
    "BF16": "DT_BFLOAT16",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
}


def status_document(entry: ModelEntry, asked: str = "") -> dict[str, Any]:
    """Return the states of a model's versions, or of the version or alias ``asked`` for; raises ``NotFound``."""
    states = [
        {
            "version": state.version,
            "state": state.state,
            "status": {"error_code": state.error_code, "error_message": state.reason},
        }
        for state in version_states(entry, asked)
    ]
    return {"model_version_status": states}


def metadata_document(model: str, version: str, signature: Signature) -> dict[str, Any]:
    """Return the inputs and outputs of a version as a signature definition."""
    described = {
        "inputs": _describe_tensors(signature.inputs),
        "outputs": _describe_tensors(signature.outputs),
        "method_name": PREDICT,
        "defaults": {},
    }
    return {
        "model_spec": {"name": model, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": {DEFAULT_SIGNATURE: described}}},
    }


def _describe_tensors(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    return {spec.name: _describe_tensor(spec) for spec in specs}


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "name": f"{spec.name}:0",
        "dtype": _TYPES.get(spec.datatype, f"DT_{spec.datatype}"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
    }
