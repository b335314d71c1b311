"""Recognises the clouds that start `penstock serve` without options and state by variables what they expect, and
returns the settings that follow: they count below flags, PENSTOCK_... variables and the file, and above the defaults.

The variables and folders are those of "Use Your Own Inference Code with Hosting Services", "... with Batch Transform"
and "Custom Containers Contract for Multi-Model Endpoints" (SageMaker), "Custom container requirements for inference"
(Vertex AI) and "Deploy a custom container to an online endpoint" (Azure Machine Learning).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SAGEMAKER_MODEL: Final = "/opt/ml/model"
"""Where SageMaker unpacks the archive of an endpoint with one model."""

SAGEMAKER_MODELS: Final = "/opt/ml/models"
"""Where it unpacks those of an endpoint with many models: in NAME/model."""

ONLY_MODEL: Final = "model"
"""Name of the model in a folder that has the versions of one model."""

_SAGEMAKER: Final = (
    "SAGEMAKER_BATCH",
    "SAGEMAKER_BIND_TO_PORT",
    "SAGEMAKER_MULTI_MODEL",
    "SAGEMAKER_SAFE_PORT_RANGE",
)
_RANGE: Final = re.compile(r"(\d{1,5})-(\d{1,5})")
_PORT: Final = "8080"
_BATCH_SECONDS: Final = 600
_LEAST_BODY: Final = 64 << 20
_LEAST_TEXT: Final = 8 << 20

ReadFolder = Callable[[str], Sequence[str] | None]
"""Returns the names in a folder, None if there is none."""


@dataclass(frozen=True, slots=True)
class ServingPlatform:
    """A platform by its name, the ``settings`` that follow from it, and, if its model cannot be read, the ``problem``:
    then another model must be configured."""

    name: str
    settings: Mapping[str, Any]
    problem: str = ""


def find_platform(environment: Mapping[str, str], read_folder: ReadFolder) -> ServingPlatform | None:
    """Return the platform that has set these variables and provided these folders; None if there is none.

    Raises:
        ValueError: a variable has no value that can be used; the text says which and what is expected.
    """
    stated = {name: value for name, value in environment.items() if value}
    if any(name in stated for name in _SAGEMAKER) or _has_sagemaker_model(stated, read_folder):
        return _find_sagemaker(stated, read_folder)
    if "AIP_HTTP_PORT" in stated or "AIP_PREDICT_ROUTE" in stated:
        return _find_vertex(stated, read_folder)
    if "AZUREML_MODEL_DIR" in stated:
        return ServingPlatform("Azure ML", {**_open("azure"), **_find_models(stated["AZUREML_MODEL_DIR"], read_folder)})
    return None


def _has_sagemaker_model(stated: Mapping[str, str], read_folder: ReadFolder) -> bool:
    """Whether the folder of an endpoint's model is there; a training job has it too, for the model that it makes."""
    return "TRAINING_JOB_NAME" not in stated and read_folder(SAGEMAKER_MODEL) is not None


def _open(dialect: str) -> dict[str, Any]:
    """Return what holds on every platform: it lets nobody else reach the container, has authenticated the callers
    itself, and states hosts of its own in its requests."""
    return {"host": "0.0.0.0", "insecure_no_auth": True, "trusted_hosts": ["*"], "dialects": [dialect]}


def _find_models(folder: str, read_folder: ReadFolder) -> dict[str, Any]:
    """Return the settings for a folder: with version folders or a configuration in it, it is one model."""
    is_one = any(name.isdigit() or name == "config.pbtxt" for name in read_folder(folder) or ())
    return {"models": [folder], **({"model_name": ONLY_MODEL} if is_one else {})}


def _find_sagemaker(stated: Mapping[str, str], read_folder: ReadFolder) -> ServingPlatform:
    port = stated.get("SAGEMAKER_BIND_TO_PORT", _PORT)
    many = stated.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true"
    served = {"models": [SAGEMAKER_MODELS], "repository_control": True} if many else None
    settings = {
        **_open("sagemaker"),
        "http_port": port,
        **_other_ports(stated.get("SAGEMAKER_SAFE_PORT_RANGE", ""), port),
        **(served or _find_models(SAGEMAKER_MODEL, read_folder)),
        **_transform_limits(stated),
        "sagemaker": {"multi_model": many, **_transform_settings(stated)},
    }
    return ServingPlatform("SageMaker", settings)


def _other_ports(text: str, taken: str) -> dict[str, int]:
    """Return the gRPC and the ops port in a range such as 8100-8200, which containers of one endpoint share."""
    if not text:
        return {}
    match = _RANGE.fullmatch(text.strip())
    ports = [] if match is None else [port for port in range(int(match[1]), int(match[2]) + 1) if str(port) != taken]
    if len(ports) < 2:
        raise ValueError(f"SAGEMAKER_SAFE_PORT_RANGE: expected a range of ports such as 8100-8200 (got {text!r})")
    return {"grpc_port": ports[0], "ops_port": ports[1]}


def _transform_limits(stated: Mapping[str, str]) -> dict[str, Any]:
    """Return the limits of a batch transform, whose requests may be larger and last longer than others."""
    if stated.get("SAGEMAKER_BATCH", "").lower() != "true":
        return {}
    text = stated.get("SAGEMAKER_MAX_PAYLOAD_IN_MB", "0")
    if not text.isdecimal() or int(text) > 1024:
        raise ValueError(f"SAGEMAKER_MAX_PAYLOAD_IN_MB: expected a number of megabytes up to 1024 (got {text!r})")
    size = int(text) << 20
    sizes = {"max_body_bytes": max(size, _LEAST_BODY), "max_json_bytes": max(size, _LEAST_TEXT)}
    return {"limits": {"deadline_seconds": _BATCH_SECONDS, **sizes}}


def _transform_settings(stated: Mapping[str, str]) -> dict[str, str]:
    """Return what a job of batch transform states, so that the answer about it is the same."""
    strategy = stated.get("SAGEMAKER_BATCH_STRATEGY", "").upper().replace("MULTIRECORD", "MULTI_RECORD")
    names = {
        "max_concurrent_transforms": stated.get("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", ""),
        "batch_strategy": strategy.replace("SINGLERECORD", "SINGLE_RECORD"),
    }
    return {name: value for name, value in names.items() if value}


def _find_vertex(stated: Mapping[str, str], read_folder: ReadFolder) -> ServingPlatform:
    routes = {"health_route": stated.get("AIP_HEALTH_ROUTE"), "predict_route": stated.get("AIP_PREDICT_ROUTE")}
    settings = {
        **_open("vertex"),
        "http_port": stated.get("AIP_HTTP_PORT", _PORT),
        "vertex": {name: route for name, route in routes.items() if route},
    }
    source = stated.get("AIP_STORAGE_URI", "")
    if source.startswith("gs://"):
        problem = (
            "the model is in Cloud Storage (AIP_STORAGE_URI), which this gateway cannot read; copy it into the image "
            "and set PENSTOCK_MODELS to its folder"
        )
        return ServingPlatform("Vertex AI", settings, problem)
    return ServingPlatform("Vertex AI", {**settings, **(_find_models(source, read_folder) if source else {})})
