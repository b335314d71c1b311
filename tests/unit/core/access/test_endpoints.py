"""The table of endpoints: only probes are public, and what changes something requires more than looking at it."""

import pytest

from penstock.core.access.endpoints import (
    ANY_CALLER,
    DIALECTS,
    GRPC,
    PREDICT,
    REST,
    TENSORFLOW_SERVING_GRPC,
    Requirement,
    Scope,
)
from penstock.core.access.permissions import Permission

TABLE = {**REST, **GRPC, **TENSORFLOW_SERVING_GRPC}
CHANGES = ("load", "unload", "register", "unregister", "Load", "Unload", "Register", "Unregister")


def test_only_probes_are_public() -> None:
    public = {endpoint for endpoint, requirement in TABLE.items() if requirement.public}
    assert public == {
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
    }


@pytest.mark.parametrize("endpoint", [name for name in TABLE if name.endswith(CHANGES) and "uda" not in name])
def test_changes_of_the_server_require_operate(endpoint: str) -> None:
    assert TABLE[endpoint].permissions == {Permission.OPERATE}


@pytest.mark.parametrize(("endpoint", "requirement"), REST.items())
def test_permissions_on_a_model_are_required_where_the_path_names_one(endpoint: str, requirement: Requirement) -> None:
    if requirement.scope is Scope.MODEL:
        assert "{model}" in endpoint
    if "{model}" in endpoint and not endpoint.startswith("* "):
        assert requirement.scope is Scope.MODEL


PROBES = ("/health", "/ping", "GET /", "{health_route}")


@pytest.mark.parametrize(("dialect", "endpoint"), [(name, key) for name, needs in DIALECTS.items() for key in needs])
def test_dialects_are_as_strict(dialect: str, endpoint: str) -> None:
    requirement = DIALECTS[dialect][endpoint]
    assert not requirement.public or (endpoint.startswith("GET ") and endpoint.endswith(PROBES))
    if "{model}" in endpoint:
        assert requirement.scope is Scope.MODEL
    elif requirement.scope is Scope.MODEL:
        assert requirement == PREDICT


def test_what_is_not_offered_requires_a_credential() -> None:
    assert all(need == ANY_CALLER for endpoint, need in REST.items() if endpoint.startswith("* "))


def test_models_of_sagemaker_are_loaded_and_unloaded_by_operators() -> None:
    needs = DIALECTS["sagemaker"]
    assert needs["POST /models"].permissions == needs["DELETE /models/{model}"].permissions == {Permission.OPERATE}
