"""Gateways that are started as in a pod: exactly the arguments, variables, files and user of the manifests.

No container engine is needed: mounts and namespaces of this machine do what one would.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import penstock
from tests import zoo
from tests.certificates import issue, make_authority
from tests.docs.terminals import namespaces_missing
from tests.integration.kubernetes import tools
from tests.integration.kubernetes.manifests import read_manifests
from tests.integration.kubernetes.test_chart import SETS
from tests.integration.kubernetes.tools import ROOT
from tests.integration.packaging import container
from tests.integration.packaging.container import Container

SOURCE = Path(penstock.__file__).parents[1]
KSERVE = ROOT / "deploy" / "kserve"
NAME = "digits"
"""Of the InferenceService, and so of the model."""

USER = "54321:0"
"""Neither the owner of the volume nor root: a volume's root belongs to somebody else in a pod too."""

AFFINE = [[3.0, 5.0, 7.0]]
"""What 2 x + 1 makes of the row of the client."""

Start = Callable[..., Container]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a container of a pod with these mounts and more variables; all end with the module."""
    if because := container.obstacle() or namespaces_missing():
        pytest.skip(because)
    image = container.read_image()
    client = {str(Path(__file__).parent): Path(__file__).parent, str(SOURCE): SOURCE}
    pods: list[Container] = []
    with ExitStack() as stack:

        def started(spec: Mapping[str, Any], mounts: Mapping[str, Path]) -> Container:
            given = replace(image, start=[image.start[0], *spec["args"]])
            more = {one["name"]: one["value"] for one in spec["env"]}
            folder = tmp_path_factory.mktemp("pod")
            for source in mounts.values():
                source.chmod(0o755)  # as in volumes, where files are of another user
            run = container.running(given, Path(sys.prefix), {**mounts, **client}, folder, USER, more)
            pods.append(stack.enter_context(run))
            return pods[-1]

        yield started
        for pod in pods:
            pod.process.terminate()  # all at once; the second signal that follows skips the drains


def ask(pod: Container, *calls: list[str]) -> list[Any]:
    """What calls from inside the pod's network give."""
    program = str(Path(__file__).with_name("client.py"))
    ended = pod.run(f"{sys.prefix}/bin/python", program, json.dumps(calls))
    assert ended.returncode == 0, f"{ended.stderr}\n{pod.log.read_text()}"
    found: list[Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def runtime(file: str) -> dict[str, Any]:
    """The container of a runtime, as KServe makes it of its template for an InferenceService."""
    text = (KSERVE / file).read_text()
    filled = re.sub(r"\{\{\s*\.Name\s*\}\}", NAME, text)
    spec: dict[str, Any] = yaml.safe_load(filled)["spec"]["containers"][0]
    assert "{{" not in json.dumps(spec)
    return spec


def probes(spec: Mapping[str, Any]) -> list[list[str]]:
    """The calls that the node makes of the probes of a container."""
    calls = []
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if where := spec[probe].get("httpGet"):
            calls.append(["get", f"http://127.0.0.1:{where['port']}{where['path']}"])
        else:
            calls.append(["grpc_health", f"127.0.0.1:{spec[probe]['grpc']['port']}"])
    return calls


def test_kserve_starts_the_runtime_on_a_bare_graph(start: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    models = tmp_path_factory.mktemp("models")
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), models / "model.onnx")
    spec = runtime("clusterservingruntime.yaml")
    pod = start(spec, {"/mnt/models": models})
    assert ask(pod, *probes(spec)) == [200, 200, 200]
    host = f"host: {NAME}-predictor.models.svc.cluster.local"
    assert ask(pod, ["get", "http://127.0.0.1:8080/v2/models/digits", host]) == [200]
    http, grpc = ask(pod, ["triton", "http", "127.0.0.1:8080", NAME], ["triton", "grpc", "127.0.0.1:9000", NAME])
    assert http == grpc == ["1", AFFINE]
    url = "http://127.0.0.1:8080"
    assert ask(pod, ["kserve", url, NAME], ["kserve_v1", url, NAME]) == [AFFINE, {"predictions": AFFINE}]


def test_kserve_starts_the_runtime_on_version_folders(start: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    models = tmp_path_factory.mktemp("models")
    for version, factor in (("1", 1.0), ("2", 2.0)):
        (models / version).mkdir()
        zoo.save(zoo.affine(factor, 1.0, ("n", 3)), models / version / "model.onnx")
    spec = runtime("clusterservingruntime-grpc.yaml")
    pod = start(spec, {"/mnt/models": models})
    assert ask(pod, *probes(spec)) == [200, 1, 200]
    assert ask(pod, ["triton", "grpc", "127.0.0.1:9000", NAME]) == [["2", AFFINE]]


def test_a_pod_of_the_chart_is_probed_in_clear_and_guarded_elsewhere(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mounts")
    for name in ("config", "tls"):
        (folder / name).mkdir()
    (rendered,) = tools.render([SETS["guarded-by-keys"]["values"]])
    (config,) = read_manifests(rendered.files["penstock/templates/configmap.yaml"])
    (workload,) = read_manifests(rendered.files["penstock/templates/workload.yaml"])
    (folder / "config" / "penstock.yaml").write_text(config["data"]["penstock.yaml"])
    pair = issue(make_authority(folder / "authority"), folder / "tls", "server")
    pair.certificate.rename(folder / "tls" / "tls.crt")
    pair.key.rename(folder / "tls" / "tls.key").chmod(0o644)
    spec = workload["spec"]["template"]["spec"]["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["volumeMounts"]}
    pod = start(spec, {mounts[name]: folder / name for name in ("config", "tls")})
    ports = {port["name"]: port["containerPort"] for port in spec["ports"]}
    health = f"http://127.0.0.1:{ports['health']}"
    paths = [spec[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    probed = ask(pod, *(["get", f"{health}{path}", "host: 10.1.2.3:8003"] for path in (*paths, "/metrics")))
    assert probed == [200, 200, 200, 404]
    base = f"https://127.0.0.1:{ports['http']}/v2"
    created = pod.run("penstock", "keys", "create", "app", "--role", "viewer")
    assert created.returncode == 0, created.stderr
    name = "host: penstock.models.svc.cluster.local"
    token = f"authorization: Bearer {created.stdout.strip().splitlines()[-1]}"
    assert ask(pod, ["get", base, name], ["get", base, name, token]) == [401, 200]
    listening = pod.run("cat", "/proc/net/tcp").stdout
    assert re.search(r" 0100007F:1F42 ", listening), listening  # the ops port, on loopback alone
    assert not re.search(r" 00000000:1F42 ", listening)
