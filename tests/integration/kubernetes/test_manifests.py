"""The manifests without Helm: kustomize's base and overlays, and the runtimes of KServe."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock import __version__
from penstock.app.exposure import exposure_of
from penstock.config.settings import load_settings
from penstock.control.plane.control_plane import STOP_MARGIN_S
from tests.integration.kubernetes import tools
from tests.integration.kubernetes.manifests import faults_of, loose_ends, pods_of, read_manifests
from tests.integration.kubernetes.tools import ROOT
from tests.integration.packaging.container import read_image

OVERLAYS = {
    "kustomize/overlays/trusted-network": (),
    "kustomize/overlays/fleet": ("penstock-tls", "penstock-database", "penstock-bucket"),
}
GRACE_S = 30.0
"""Of a pod that states none."""


@cache
def built(folder: str) -> list[dict[str, Any]]:
    return read_manifests(tools.kustomize(ROOT / "deploy" / folder))


@pytest.mark.parametrize("folder", OVERLAYS)
def test_overlays_are_valid_and_lead_somewhere(folder: str) -> None:
    assert [fault for manifest in built(folder) for fault in faults_of(manifest)] == []
    assert loose_ends(built(folder), OVERLAYS[folder]) == []
    for _, template in pods_of(built(folder)):
        assert template["spec"]["containers"][0]["image"] == f"penstock:{__version__}"


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_gateway_starts_with_the_settings_of_an_overlay(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = [one["data"]["penstock.yaml"] for one in built(folder) if one["kind"] == "ConfigMap"]
    ((_, template),) = [pair for pair in pods_of(built(folder)) if pair[0]["kind"] == "Deployment"]
    container = template["spec"]["containers"][0]
    environment = {one["name"]: one.get("value", "postgresql://of.a/secret") for one in container["env"]}
    for variable, value in {**read_image().environment, **environment}.items():
        if variable.startswith("PENSTOCK_"):
            monkeypatch.setenv(variable, value)
    monkeypatch.delenv("PENSTOCK_CONFIG")
    (tmp_path / "penstock.yaml").write_text(config)
    settings = load_settings(tmp_path / "penstock.yaml")
    assert not exposure_of(settings).is_refused
    stop = settings.stop
    needed = stop.drain_delay_seconds + stop.drain_timeout_seconds + STOP_MARGIN_S
    assert needed <= template["spec"]["terminationGracePeriodSeconds"]
    (memory,) = [one["emptyDir"]["sizeLimit"] for one in template["spec"]["volumes"] if one["name"] == "shared-memory"]
    assert int(memory.removesuffix("Mi")) >= 64 + 9 * int(settings.workers)


def test_the_runtimes_of_kserve_are_valid() -> None:
    runtimes = built("kserve")
    assert {one["metadata"]["name"] for one in runtimes} == {"kserve-penstock", "kserve-penstock-grpc"}
    for runtime in runtimes:
        assert faults_of(runtime) == []
        spec = runtime["spec"]
        (container,) = spec["containers"]
        assert (container["name"], container["image"]) == ("kserve-container", f"penstock:{__version__}")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}
        assert "{{" not in json.dumps(container).replace("{{.Name}}", ""), "braces are templates of KServe"
        flags = dict(argument.split("=", 1) for argument in container["args"] if "=" in argument)
        assert float(flags["--drain-delay"]) + float(flags["--drain-timeout"]) + STOP_MARGIN_S < GRACE_S
    port = {one["metadata"]["name"]: one["spec"]["containers"][0]["ports"][0]["containerPort"] for one in runtimes}
    assert port == {"kserve-penstock": 8080, "kserve-penstock-grpc": 9000}
    protocols = {one["metadata"]["name"]: one["spec"]["protocolVersions"] for one in runtimes}
    assert protocols == {"kserve-penstock": ["v2", "v1"], "kserve-penstock-grpc": ["grpc-v2"]}


def test_the_example_names_a_runtime() -> None:
    example = yaml.safe_load((ROOT / "deploy" / "kserve" / "inferenceservice.yaml").read_text())
    assert faults_of(example) == []
    predictor = example["spec"]["predictor"]
    assert predictor["model"]["runtime"] in {one["metadata"]["name"] for one in built("kserve")}
    assert predictor["terminationGracePeriodSeconds"] == GRACE_S
