"""What each endpoint of the data ports requires: tables for the paths of REST, those of its dialects, and the methods
of gRPC.

An endpoint without an entry cannot be built. The servers check a requirement against what their endpoint is given,
after all decoding, so no spelling of a path reaches an endpoint by another requirement than its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from penstock.core.access.permissions import Permission


class Scope(Enum):
    """Which models a permission must hold for."""

    MODEL = "model"
    """The model that the request names."""

    SOME_MODEL = "some"
    """Any model; the answer leaves out the others."""

    ALL_MODELS = "all"
    """All models, because what the request is about belongs to none."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One of ``permissions`` for ``scope``; without permissions, any valid credential; nothing if it is ``public``."""

    permissions: frozenset[Permission] = frozenset()
    scope: Scope = Scope.ALL_MODELS
    public: bool = False


VISIBLE: Final = frozenset({Permission.READ, Permission.PREDICT})
"""Whoever has one of these for a model may know that it exists."""

PUBLIC: Final = Requirement(public=True)
"""Probes have no credential."""

ANY_CALLER: Final = Requirement()
PREDICT: Final = Requirement(frozenset({Permission.PREDICT}), Scope.MODEL)
FEEDBACK: Final = Requirement(frozenset({Permission.FEEDBACK}), Scope.MODEL)
DESCRIBE: Final = Requirement(VISIBLE, Scope.MODEL)
"""What a caller has to know of a model to ask it for predictions."""

LIST: Final = Requirement(VISIBLE, Scope.SOME_MODEL)
READ: Final = Requirement(frozenset({Permission.READ}), Scope.MODEL)
READ_SOME: Final = Requirement(frozenset({Permission.READ}), Scope.SOME_MODEL)
READ_ALL: Final = Requirement(frozenset({Permission.READ}), Scope.ALL_MODELS)
OPERATE: Final = Requirement(frozenset({Permission.OPERATE}), Scope.MODEL)
OPERATE_SOME: Final = Requirement(frozenset({Permission.OPERATE}), Scope.SOME_MODEL)
"""For a body that names the model; the endpoint then requires ``OPERATE`` for that one."""

OPERATE_ALL: Final = Requirement(frozenset({Permission.OPERATE}), Scope.ALL_MODELS)


def _with_versions(endpoints: Mapping[str, Requirement]) -> dict[str, Requirement]:
    """Add the same endpoints of one version of the model."""
    versions = {path.replace("{model}", "{model}/versions/{version}"): need for path, need in endpoints.items()}
    return {**endpoints, **versions}


REST: Final[Mapping[str, Requirement]] = {
    "GET /v2": ANY_CALLER,
    "GET /v2/health/live": PUBLIC,
    "GET /v2/health/ready": PUBLIC,
    "GET /v2/models": LIST,
    "GET /v2/models/stats": READ_SOME,
    "GET /openapi.json": ANY_CALLER,
    "GET /docs": ANY_CALLER,
    **_with_versions(
        {
            "GET /v2/models/{model}": DESCRIBE,
            "GET /v2/models/{model}/ready": DESCRIBE,
            "GET /v2/models/{model}/config": DESCRIBE,
            "GET /v2/models/{model}/stats": READ,
            "POST /v2/models/{model}/infer": PREDICT,
            "POST /v2/models/{model}/explain": PREDICT,
            "* /v2/models/{model}/generate": ANY_CALLER,
            "* /v2/models/{model}/generate_stream": ANY_CALLER,
        }
    ),
    "POST /v2/models/{model}/feedback": FEEDBACK,
    "POST /v2/repository/index": LIST,
    "POST /v2/repository/{repository}/index": LIST,
    "POST /v2/repository/models/{model}/load": OPERATE,
    "POST /v2/repository/{repository}/models/{model}/load": OPERATE,
    "POST /v2/repository/models/{model}/unload": OPERATE,
    "POST /v2/repository/{repository}/models/{model}/unload": OPERATE,
    "GET /v2/systemsharedmemory/status": READ_ALL,
    "GET /v2/systemsharedmemory/region/{region}/status": READ_ALL,
    "POST /v2/systemsharedmemory/region/{region}/register": OPERATE_ALL,
    "POST /v2/systemsharedmemory/region/{region}/unregister": OPERATE_ALL,
    "POST /v2/systemsharedmemory/unregister": OPERATE_ALL,
    "GET /v2/cudasharedmemory/status": ANY_CALLER,
    "GET /v2/cudasharedmemory/region/{region}/status": ANY_CALLER,
    "* /v2/cudasharedmemory/region/{region}/register": ANY_CALLER,
    "POST /v2/cudasharedmemory/region/{region}/unregister": ANY_CALLER,
    "POST /v2/cudasharedmemory/unregister": ANY_CALLER,
    "* /v2/models/{model}/trace/setting": ANY_CALLER,
    "* /v2/trace/setting": ANY_CALLER,
    "* /v2/logging": ANY_CALLER,
}
"""Requirements by method and path; ``*`` is any method of a path that only says that it is not offered."""


def _serving_endpoints() -> dict[str, Requirement]:
    """Return the requirements of TensorFlow Serving's paths, with and without a version or a label."""
    paths = [f"/v1/models/{{model}}{version}" for version in ("", "/versions/{version}", "/labels/{version}")]
    reads = {f"GET {path}{what}": DESCRIBE for path in paths for what in ("", "/metadata")}
    return reads | {f"POST {path}:{verb}": PREDICT for path in paths for verb in ("predict", "classify", "regress")}


DIALECTS: Final[Mapping[str, Mapping[str, Requirement]]] = {
    "azure": {
        "GET /": PUBLIC,
        "GET /swagger.json": ANY_CALLER,
        "POST /score": PREDICT,
    },
    "kserve_v1": {
        "GET /": PUBLIC,
        "GET /v1/models": LIST,
        "GET /v1/models/{model}": DESCRIBE,
        "POST /v1/models/{model}:explain": PREDICT,
        "POST /v1/models/{model}:predict": PREDICT,
    },
    "mlflow": {
        "GET /health": PUBLIC,
        "GET /ping": PUBLIC,
        "GET /version": ANY_CALLER,
        "POST /invocations": PREDICT,
    },
    "tfs": _serving_endpoints(),
    "sagemaker": {
        "DELETE /models/{model}": OPERATE,
        "GET /execution-parameters": ANY_CALLER,
        "GET /models": LIST,
        "GET /models/{model}": DESCRIBE,
        "GET /ping": PUBLIC,
        "POST /invocations": PREDICT,
        "POST /models": OPERATE_SOME,
        "POST /models/{model}/invoke": PREDICT,
    },
    "vertex": {
        "GET {health_route}": PUBLIC,
        "POST {predict_route}": PREDICT,
    },
}
"""Requirements by dialect, method and path. A path that names no model is for the default model; ``PREDICT`` then holds
for that one."""

_INFERENCE: Final[Mapping[str, Requirement]] = {
    "ServerLive": PUBLIC,
    "ServerReady": PUBLIC,
    "ServerMetadata": ANY_CALLER,
    "ModelReady": DESCRIBE,
    "ModelMetadata": DESCRIBE,
    "ModelConfig": DESCRIBE,
    "ModelStatistics": READ,
    "ModelInfer": PREDICT,
    "ModelStreamInfer": PREDICT,
    "RepositoryIndex": LIST,
    "RepositoryModelLoad": OPERATE,
    "RepositoryModelUnload": OPERATE,
    "SystemSharedMemoryStatus": READ_ALL,
    "SystemSharedMemoryRegister": OPERATE_ALL,
    "SystemSharedMemoryUnregister": OPERATE_ALL,
    "CudaSharedMemoryStatus": ANY_CALLER,
    "CudaSharedMemoryRegister": ANY_CALLER,
    "CudaSharedMemoryUnregister": ANY_CALLER,
    "TraceSetting": ANY_CALLER,
    "LogSettings": ANY_CALLER,
}

GRPC: Final[Mapping[str, Requirement]] = {
    **{f"/inference.GRPCInferenceService/{name}": need for name, need in _INFERENCE.items()},
    "/grpc.health.v1.Health/Check": PUBLIC,
    "/grpc.health.v1.Health/Watch": PUBLIC,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": ANY_CALLER,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANY_CALLER,
}
"""Requirements by the path of a method. A stream of predictions requires its permission for the model of each message,
and statistics without a model are those of every model for which the caller has the permission."""

TENSORFLOW_SERVING_GRPC: Final[Mapping[str, Requirement]] = {
    "/tensorflow.serving.PredictionService/Predict": PREDICT,
    "/tensorflow.serving.PredictionService/Classify": PREDICT,
    "/tensorflow.serving.PredictionService/Regress": PREDICT,
    "/tensorflow.serving.PredictionService/MultiInference": ANY_CALLER,
    "/tensorflow.serving.PredictionService/GetModelMetadata": DESCRIBE,
    "/tensorflow.serving.ModelService/GetModelStatus": DESCRIBE,
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest": ANY_CALLER,
}
"""The same of the dialect ``tfs``, where it is on."""
