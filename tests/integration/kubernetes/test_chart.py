"""The Helm chart: sets of values rendered, validated as an API server does, and compared with what the gateway does."""

import copy
import json
import re
from collections.abc import Mapping
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock import __version__
from penstock.app.exposure import exposure_of, trusted_hosts_of
from penstock.config.settings import Settings, load_settings
from penstock.control.plane.control_plane import STOP_MARGIN_S
from penstock.core.access.origins import OriginPolicy
from tests.docs.pages import File, steps_of
from tests.integration.kubernetes import tools
from tests.integration.kubernetes.manifests import faults_of, loose_ends, pods_of, read_manifests
from tests.integration.kubernetes.tools import CHART, Rendered
from tests.integration.packaging.container import read_image

HERE = Path(__file__).parent
SETS: dict[str, Any] = yaml.safe_load((HERE / "value_sets.yaml").read_text())
REFUSED: dict[str, Any] = yaml.safe_load((HERE / "refused_values.yaml").read_text())
FLEETS = [name for name, one in SETS.items() if "registry" in one["values"]]
MEBIBYTES = {"Mi": 1, "Gi": 1024}

Manifest = dict[str, Any]


GUIDE = tools.ROOT / "docs" / "how-to" / "kubernetes.md"
OF_THE_GUIDE = {
    step.name: {"values": yaml.safe_load(step.text)}
    for step in steps_of(GUIDE)
    if isinstance(step, File) and step.name.endswith("-values.yaml")
}
"""The values that readers of the guide write."""


@cache
def all_rendered() -> Mapping[str, Rendered]:
    both = {**SETS, **REFUSED, **OF_THE_GUIDE}
    return dict(zip(both, tools.render([one["values"] for one in both.values()]), strict=True))


@cache
def manifests_of(name: str) -> list[Manifest]:
    """The objects of a set of values, which nobody changes."""
    return objects_in(all_rendered()[name])


def objects_in(one: Rendered) -> list[Manifest]:
    """The objects of a chart that was rendered."""
    assert not one.error, one.error
    files = {path: text for path, text in one.files.items() if not path.endswith("NOTES.txt")}
    return [manifest for _, text in sorted(files.items()) for manifest in read_manifests(text)]


def object_of(name: str, kind: str, suffix: str = "") -> Manifest:
    """The one object of a kind, with the end of its name."""
    found = [one for one in manifests_of(name) if one["kind"] == kind and one["metadata"]["name"].endswith(suffix)]
    (chosen,) = found if suffix else found[:1]
    return chosen


def gateway_of(name: str) -> tuple[Manifest, Manifest]:
    """The specification of the pods of the gateway, and its container."""
    ((_, template),) = [pair for pair in pods_of(manifests_of(name)) if pair[0]["kind"] != "Job"]
    spec = template["spec"]
    return spec, spec["containers"][0]


def settings_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the gateway makes of the file and the environment of its container, with those of the image below."""
    _, container = gateway_of(name)
    environment = {one["name"]: one.get("value", "postgresql://of.a/secret") for one in container["env"]}
    file = folder / "penstock.yaml"
    file.write_text(object_of(name, "ConfigMap")["data"]["penstock.yaml"])
    assert environment.pop("PENSTOCK_CONFIG") == "/etc/penstock/config/penstock.yaml"
    for variable, value in {**read_image().environment, **environment}.items():
        if variable.startswith("PENSTOCK_"):
            monkeypatch.setenv(variable, value)
    return load_settings(file)


@pytest.mark.parametrize("name", SETS)
def test_objects_are_valid_and_lead_somewhere(name: str) -> None:
    manifests = manifests_of(name)
    assert all_rendered()[name].warnings == ()
    assert [fault for manifest in manifests for fault in faults_of(manifest)] == []
    assert loose_ends(manifests, SETS[name].get("given", ())) == []


@pytest.mark.parametrize("name", OF_THE_GUIDE)
def test_the_values_of_the_guide_are_valid(name: str) -> None:
    assert [fault for manifest in manifests_of(name) for fault in faults_of(manifest)] == []


def test_there_are_enough_sets() -> None:
    assert len(SETS) >= 30
    kinds = {manifest["kind"] for name in SETS for manifest in manifests_of(name)}
    assert {"HorizontalPodAutoscaler", "ScaledObject", "ServiceMonitor", "PrometheusRule", "Certificate"} <= kinds
    assert {"NetworkPolicy", "PodDisruptionBudget", "Job", "Ingress", "StatefulSet", "Deployment"} <= kinds


def test_a_field_that_an_object_does_not_have_is_found() -> None:
    one_of_each = {one["kind"]: one for name in SETS for one in manifests_of(name) if isinstance(one.get("spec"), dict)}
    for manifest in one_of_each.values():
        changed = copy.deepcopy(manifest)
        changed["spec"]["noSuchField"] = 1
        assert len(faults_of(changed)) == len(faults_of(manifest)) + 1, manifest["kind"]
        del changed["spec"]["noSuchField"]
        changed["metadata"]["label"] = {}
        assert faults_of(changed), manifest["kind"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused(name: str) -> None:
    one = all_rendered()[name]
    assert REFUSED[name]["says"] in one.error, one.error


@pytest.mark.parametrize("name", SETS)
def test_the_gateway_starts_with_its_settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(name, tmp_path, monkeypatch)
    exposure = exposure_of(settings)
    assert not exposure.is_refused, exposure.refusal()
    _, container = gateway_of(name)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (ports["http"], ports["grpc"]) == (settings.http_port, settings.grpc_port)
    assert ports["health"] == settings.health_port
    assert settings.host == settings.health_host == SETS[name]["values"].get("bindAddress", "0.0.0.0")
    is_exposed = SETS[name]["values"].get("ops", {}).get("exposed", False)
    assert (settings.ops_host != "127.0.0.1", ports.get("ops")) == (
        is_exposed,
        settings.ops_port if is_exposed else None,
    )
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(settings.home.is_relative_to(path) for path in mounts)
    if settings.tls:
        assert any(settings.tls.key_file.is_relative_to(path) for path in mounts)


@pytest.mark.parametrize("name", SETS)
def test_a_pod_ends_by_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, container = gateway_of(name)
    stop = settings_of(name, tmp_path, monkeypatch).stop
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = sleep + stop.drain_delay_seconds + stop.drain_timeout_seconds + STOP_MARGIN_S
    assert needed <= spec["terminationGracePeriodSeconds"] <= ceil(needed) + 8


@pytest.mark.parametrize("name", SETS)
def test_a_pod_has_few_rights(name: str) -> None:
    for owner, template in pods_of(manifests_of(name)):
        spec = template["spec"]
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is (name == "renamed" and owner["kind"] != "Job")
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        context = spec["containers"][0]["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "/tmp" in {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}


@pytest.mark.parametrize("name", SETS)
def test_shared_memory_is_enough_for_the_workers_and_part_of_the_limit(name: str) -> None:
    spec, container = gateway_of(name)
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    (volume,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "shared-memory"]
    assert volume["medium"] == "Memory"
    workers = json.loads(object_of(name, "ConfigMap")["data"]["penstock.yaml"])["workers"]
    assert 64 + 9 * workers <= mebibytes(volume["sizeLimit"]) < mebibytes(container["resources"]["limits"]["memory"])


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * MEBIBYTES[quantity[-2:]]


@pytest.mark.parametrize("name", SETS)
def test_the_ops_port_is_open_only_to_peers_that_the_values_name(name: str) -> None:
    values = SETS[name]["values"]
    is_exposed = values.get("ops", {}).get("exposed", False)
    services = [one for one in manifests_of(name) if one["kind"] == "Service"]
    ports = {port["targetPort"] for one in services for port in one["spec"]["ports"]}
    assert ports == {"http", "grpc", *(["ops"] if is_exposed else [])}
    assert not [one for one in services if len(one["spec"]["ports"]) > 1 and "ops" in str(one["spec"]["ports"])]
    if values.get("networkPolicy", {}).get("enabled", True):
        rules = object_of(name, "NetworkPolicy")["spec"]["ingress"]
        opened = {port["port"]: rule.get("from") for rule in rules for port in rule["ports"]}
        assert set(opened) == {"http", "grpc", *(["ops"] if is_exposed else [])}
        assert not is_exposed or opened["ops"] == values["networkPolicy"]["opsFrom"]


def test_services_are_among_the_hosts_that_requests_may_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("ingress-without-access", tmp_path, monkeypatch)
    hosts = trusted_hosts_of(settings, exposure_of(settings))
    for service in ("penstock", "penstock-headless"):
        assert {service, f"{service}.models", f"{service}.models.svc.cluster.local"} <= set(hosts)
    policy = OriginPolicy(hosts, any_address=True)
    for pod in ("penstock-0", "10-1-2-3"):
        assert policy.refusal(b"GET", f"{pod}.penstock-headless.models.svc:8000".encode(), {}) is None
    assert {"models.example", "*.internal.example"} <= set(hosts)
    assert settings_of("fleet", tmp_path, monkeypatch).trusted_hosts == ()


def test_a_certificate_has_the_names_of_the_services() -> None:
    spec = object_of("cert-manager", "Certificate")["spec"]
    services = {"penstock", "penstock.models.svc", "penstock-headless.models.svc", "models.example"}
    assert {*services, "*.penstock-headless.models.svc.cluster.local"} <= set(spec["dnsNames"])
    monitor = object_of("monitored", "ServiceMonitor")["spec"]["endpoints"][0]
    assert monitor["tlsConfig"]["serverName"] == "penstock-ops.models.svc"
    assert "scrapeTimeout" not in monitor  # a longer one than the interval is refused
    assert monitor["authorization"]["credentials"] == {"name": "scrape", "key": "token"}


@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_loses_no_gateway_in_a_rollout_and_divides_its_alarms(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = next(one for one in manifests_of(name) if one["kind"] in {"Deployment", "StatefulSet"})
    values = SETS[name]["values"]
    if owner["kind"] == "Deployment" and "strategy" not in values:
        assert owner["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    scaled = values.get("autoscaling", {})
    assert ("replicas" in owner["spec"]) is not bool(scaled)
    most = scaled.get("maxReplicas", 10) if scaled else values["replicas"]
    assert settings_of(name, tmp_path, monkeypatch).monitor.gateways >= most
    assert object_of(name, "PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_job_comes_before_everything_and_has_the_database() -> None:
    job = object_of("fleet", "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["migrate"]
    environment = {one["name"]: one for one in container["env"]}
    assert (
        environment["PENSTOCK_REGISTRY"]["value"]
        == "postgresql://penstock@db.example:5432/penstock?sslmode=verify-full"
    )
    assert environment["PGPASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "database", "key": "password"}
    assert "Job" not in {one["kind"] for one in manifests_of("fleet-without-a-job")}


def test_scaling_compares_the_ratio_with_the_target() -> None:
    trigger = object_of("keda", "ScaledObject")["spec"]["triggers"][0]
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("Value", "0.7")
    assert 'namespace="models",pod=~"penstock-' in trigger["metadata"]["query"]
    fallback = {"failureThreshold": 4, "replicas": 2, "behavior": "currentReplicasIfHigher"}
    assert (object_of("keda", "ScaledObject")["spec"]["fallback"], trigger["metadata"]["ignoreNullValues"]) == (
        fallback,
        "false",
    ), "a scrape that fails must not scale down"
    assert "fallback" not in object_of("keda-with-credentials", "ScaledObject")["spec"]
    metrics = object_of("horizontal-autoscaler-with-processors", "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metrics[0]["pods"]["target"]["averageValue"] == "550m"
    assert metrics[1]["containerResource"]["target"]["averageUtilization"] == 70


def test_scaling_counts_the_pods_of_this_release_alone() -> None:
    query = object_of("keda", "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    (pattern,) = set(re.findall(r'pod=~"([^"]+)"', query))
    for pod in ("penstock-7d9f8c5b6d-x2x9k", "penstock-7d9f8cx2x9k"):  # the second as Kubernetes cuts long names
        assert re.fullmatch(pattern, pod)
    for other in ("penstock-canary-7d9f8c5b6d-x2x9k", "penstock-canary-0", "penstock-canary-7d9f8c-x2x9k"):
        assert not re.fullmatch(pattern, other)


@pytest.mark.parametrize(("release", "name"), [("1.blue", "release-1-blue-penstock"), ("penstock.2", "penstock-2")])
def test_a_release_may_have_any_name_that_helm_takes(release: str, name: str) -> None:
    (rendered,) = tools.render([{"workload": "StatefulSet", "config": {"insecure_no_auth": True}}], release=release)
    names = {one["metadata"]["name"] for one in objects_in(rendered)}
    assert name in names
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", one) for one in names), names


def test_labels_of_an_object_come_before_the_common_ones() -> None:
    ((_, template),) = pods_of(manifests_of("labels-in-two-places"))
    assert template["metadata"]["labels"]["team"] == "pods"
    assert object_of("labels-in-two-places", "ServiceMonitor")["metadata"]["labels"]["release"] == "prometheus"
    assert object_of("labels-in-two-places", "Service")["metadata"]["labels"]["team"] == "fraud"


def test_the_migration_has_the_files_that_the_address_of_a_database_may_name() -> None:
    pod = object_of("fleet-with-an-authority-in-a-mount", "Job")["spec"]["template"]["spec"]
    paths = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert "/run/secrets/penstock/database" in paths


def test_links_lead_where_the_values_say() -> None:
    texts = [text for path, text in all_rendered()["monitored"].files.items() if path.endswith("monitoring.yaml")]
    assert "https://penstock.ops.example/console/models/" in texts[0]
    assert "https://wiki.example/penstock/alerts.html#penstockdown" in texts[0]
    assert "127.0.0.1:8002" not in texts[0]
    (rules,) = [one for one in manifests_of("monitored-with-relabelling") if one["kind"] == "PrometheusRule"]
    assert "https://console.example/runbook#penstockdown" in json.dumps(rules)
    assert "127.0.0.1:8002" not in json.dumps(rules)
    (target,) = {one["metadata"]["labels"]["grafana_dashboard"] for one in dashboards_of("monitored")}
    assert (target, len(dashboards_of("monitored"))) == ("1", 4)


def dashboards_of(name: str) -> list[Manifest]:
    return [one for one in manifests_of(name) if "-dashboard-" in one["metadata"]["name"]]


def test_a_change_of_the_settings_replaces_the_pods() -> None:
    def sum_of(name: str) -> str:
        ((_, template),) = [pair for pair in pods_of(manifests_of(name)) if pair[0]["kind"] != "Job"]
        found: str = template["metadata"]["annotations"]["checksum/config"]
        return found

    assert sum_of("fleet") != sum_of("fleet-with-a-budget-of-alarms")
    assert sum_of("fleet") == sum_of("fleet-by-address")


def test_large_numbers_stay_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = settings_of("sixteen-workers", tmp_path, monkeypatch).limits
    assert (limits.max_body_bytes, limits.memory_bytes) == (2147483647, 8589934592)


def test_the_chart_is_of_this_release() -> None:
    facts = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (facts["version"], facts["appVersion"]) == (__version__, __version__)
    _, container = gateway_of("fleet")
    assert container["image"] == f"penstock:{__version__}"
