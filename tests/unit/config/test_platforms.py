"""The clouds that start a container are recognised by their variables and folders, and nothing else is."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from penstock.config.platforms import SAGEMAKER_MODEL, SAGEMAKER_MODELS, ServingPlatform, find_platform
from penstock.config.settings import load_settings

OPEN = {"host": "0.0.0.0", "insecure_no_auth": True, "trusted_hosts": ["*"]}


def found(environment: Mapping[str, str], folders: Mapping[str, Sequence[str]] | None = None) -> ServingPlatform | None:
    return find_platform(environment, (folders or {}).get)


@pytest.mark.parametrize(
    ("environment", "folders"),
    [
        ({}, {}),
        ({"SAGEMAKER_INTERNAL_IMAGE_URI": "x", "AWS_REGION": "eu-west-1"}, {}),
        ({"SAGEMAKER_BIND_TO_PORT": "", "AIP_HTTP_PORT": "", "AZUREML_MODEL_DIR": ""}, {}),
        ({"TRAINING_JOB_NAME": "job"}, {SAGEMAKER_MODEL: []}),
        ({"AIP_MODE": "TRAINING", "AIP_MODEL_DIR": "gs://bucket/model"}, {}),
        ({}, {SAGEMAKER_MODELS: ["a"]}),
    ],
)
def test_other_environments_are_not_recognised(
    environment: Mapping[str, str], folders: Mapping[str, Sequence[str]]
) -> None:
    assert found(environment, folders) is None


SAGEMAKER = {**OPEN, "dialects": ["sagemaker"]}
MANY = {"models": [SAGEMAKER_MODELS], "repository_control": True, "sagemaker": {"multi_model": True}}
ONE = {"models": [SAGEMAKER_MODEL], "sagemaker": {"multi_model": False}}
BATCH = {
    "SAGEMAKER_BATCH": "true",
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "100",
    "SAGEMAKER_BATCH_STRATEGY": "SingleRecord",
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
}


@pytest.mark.parametrize(
    ("environment", "names", "settings"),
    [
        ({}, ["model.onnx"], {**ONE, "http_port": "8080"}),
        ({}, ["1", "2"], {**ONE, "http_port": "8080", "model_name": "model"}),
        ({}, ["1", "config.pbtxt"], {**ONE, "http_port": "8080", "model_name": "model"}),
        ({}, ["resnet", "iris"], {**ONE, "http_port": "8080"}),
        ({"SAGEMAKER_BIND_TO_PORT": "8201"}, None, {**ONE, "http_port": "8201"}),
        (
            {"SAGEMAKER_BIND_TO_PORT": "8201", "SAGEMAKER_SAFE_PORT_RANGE": "8201-8203"},
            [],
            {**ONE, "http_port": "8201", "grpc_port": 8202, "ops_port": 8203},
        ),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, ["1"], {**MANY, "http_port": "8080"}),
        ({"SAGEMAKER_MULTI_MODEL": "false"}, ["a.onnx"], {**ONE, "http_port": "8080"}),
        (
            BATCH,
            ["a.onnx"],
            {
                **ONE,
                "http_port": "8080",
                "limits": {"deadline_seconds": 600, "max_body_bytes": 100 << 20, "max_json_bytes": 100 << 20},
                "sagemaker": {
                    "multi_model": False,
                    "batch_strategy": "SINGLE_RECORD",
                    "max_concurrent_transforms": "3",
                },
            },
        ),
    ],
)
def test_sagemaker_is_recognised(
    environment: Mapping[str, str], names: list[str] | None, settings: Mapping[str, Any]
) -> None:
    platform = found(environment, {} if names is None else {SAGEMAKER_MODEL: names})
    assert platform == ServingPlatform("SageMaker", {**SAGEMAKER, **settings})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SAGEMAKER_SAFE_PORT_RANGE", "8100"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "8200-8100"),
        ("SAGEMAKER_SAFE_PORT_RANGE", "8100-8100"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "-1"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "99999"),
    ],
)
def test_a_variable_without_a_usable_value_is_named(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{variable}: expected .* \\(got '{value}'\\)"):
        found({"SAGEMAKER_BATCH": "true", variable: value})


VERTEX = {**OPEN, "dialects": ["vertex"], "http_port": "8080"}
ROUTES = {"AIP_HEALTH_ROUTE": "/healthz", "AIP_PREDICT_ROUTE": "/v1/endpoints/1:predict", "AIP_HTTP_PORT": "8080"}
STATED = {"health_route": "/healthz", "predict_route": "/v1/endpoints/1:predict"}


@pytest.mark.parametrize(
    ("storage", "folder", "settings"),
    [
        ("", {}, {}),
        ("/models", {"/models": ["iris.onnx"]}, {"models": ["/models"]}),
        ("/models", {"/models": ["1"]}, {"models": ["/models"], "model_name": "model"}),
        ("s3://bucket/models", {}, {"models": ["s3://bucket/models"]}),
    ],
)
def test_vertex_is_recognised(storage: str, folder: Mapping[str, Sequence[str]], settings: Mapping[str, Any]) -> None:
    platform = found({**ROUTES, "AIP_STORAGE_URI": storage}, folder)
    assert platform == ServingPlatform("Vertex AI", {**VERTEX, "vertex": STATED, **settings})


def test_a_model_in_cloud_storage_is_a_problem_only_where_no_other_is_configured() -> None:
    platform = found({"AIP_PREDICT_ROUTE": "/predict", "AIP_STORAGE_URI": "gs://bucket/model"})
    assert platform is not None
    assert platform.settings == {**VERTEX, "vertex": {"predict_route": "/predict"}}
    assert "PENSTOCK_MODELS" in platform.problem


def test_azure_is_recognised() -> None:
    settings = {**OPEN, "dialects": ["azure"], "models": ["/m"]}
    assert found({"AZUREML_MODEL_DIR": "/m"}) == ServingPlatform("Azure ML", settings)


def test_what_is_stated_elsewhere_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_MODELS", "/elsewhere")
    monkeypatch.setenv("PENSTOCK_SAGEMAKER__BATCH_STRATEGY", "SINGLE_RECORD")
    platform = found({"SAGEMAKER_MULTI_MODEL": "true"})
    assert platform is not None
    settings = load_settings(None, {"http_port": 0}, platform.settings)
    assert (settings.models, settings.http_port, settings.host) == (("/elsewhere",), 0, "0.0.0.0")
    assert (settings.sagemaker.multi_model, settings.sagemaker.batch_strategy) == (True, "SINGLE_RECORD")
    assert settings.dialects == ("sagemaker",)
