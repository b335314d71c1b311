"""The examples for clouds name what the gateway has: paths, ports, and the words it is started with."""

import json
from pathlib import Path

import pytest
import yaml

from penstock.config.settings import Settings
from penstock.core.access.endpoints import DIALECTS

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("sagemaker/*.json")), ids=lambda path: path.name)
def test_requests_to_sagemaker_are_objects_and_name_our_image(path: Path) -> None:
    request = json.loads(path.read_text())
    container = request.get("PrimaryContainer", {})
    assert "/penstock:" in container.get("Image", "/penstock:")
    assert container.get("Mode", "SingleModel") in ("SingleModel", "MultiModel")


def test_the_container_of_vertex_ai_is_started_without_options_on_the_default_routes() -> None:
    container = json.loads((DEPLOY / "vertex/model.json").read_text())["model"]["containerSpec"]
    assert container["args"] == ["serve"]
    routes = Settings().vertex
    assert (container["healthRoute"], container["predictRoute"]) == (routes.health_route, routes.predict_route)


def test_the_routes_of_azure_are_those_of_its_dialect() -> None:
    deployment = yaml.safe_load((DEPLOY / "azure/deployment.yaml").read_text())
    endpoint = yaml.safe_load((DEPLOY / "azure/endpoint.yaml").read_text())
    assert deployment["endpoint_name"] == endpoint["name"]
    routes = deployment["environment"]["inference_config"]
    assert {route["port"] for route in routes.values()} == {Settings().http_port}
    assert f"POST {routes['scoring_route']['path']}" in DIALECTS["azure"]
    assert f"GET {routes['readiness_route']['path']}" in DIALECTS["azure"]
