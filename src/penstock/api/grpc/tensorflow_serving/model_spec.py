"""ModelSpec: which model and version a request names, and which one an answer states."""

from typing import Final

from google.protobuf.message import DecodeError

from penstock.api.common.tensorflow_rules import version_number
from penstock.core.errors import InvalidInput, TooLarge
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.serving.routing_table import Target

MAX_SPEC: Final = 1 << 14
"""Maximum bytes of a ModelSpec."""


def read_spec(raw: bytes) -> ts.ModelSpec:
    """Parse a ModelSpec; raises ``InvalidInput`` or ``TooLarge``."""
    if len(raw) > MAX_SPEC:
        raise TooLarge(f"model_spec has more than {MAX_SPEC} bytes; use shorter names")
    try:
        return ts.ModelSpec.FromString(raw)
    except DecodeError:
        raise InvalidInput("model_spec is not a valid ModelSpec") from None


def target_of(spec: ts.ModelSpec) -> Target:
    """Return the model, and the version or alias ("" for none); raises ``InvalidInput``."""
    if not spec.name:
        raise InvalidInput("model_spec.name is empty; expected the name of a model")
    if spec.WhichOneof("version_choice") == "version":
        return spec.name, str(spec.version.value)
    return spec.name, spec.version_label


def spec_of(model: str, version: str, signature: str = "") -> ts.ModelSpec:
    """Return the ModelSpec of an answer; a version that is not a number is stated as ``version_label``."""
    spec = ts.ModelSpec(name=model, signature_name=signature)
    number = version_number(version)
    if number is None:
        spec.version_label = version
    else:
        spec.version.value = number
    return spec
