"""A gateway that serves its registry: a version's whole life through the admin API, seen by callers."""

import hashlib
import io
import json
import sqlite3
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import harness, zoo
from tests.faults.test_admission import endless, with_weights
from tests.harness import PATIENCE_S, Reply, Server, wait_until


def graph(version: int) -> bytes:
    """A model whose answers name its version."""
    return zoo.versioned(version).SerializeToString()


def ask(server: Server, model: str = "m", version: str = "") -> Reply:
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
    described = server.rest("GET", path)
    if described.status != 200:
        return described
    spec = described.json()["inputs"][0]
    shape = [1 if dim < 0 else dim for dim in spec["shape"]]
    tensor = {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": [0] * int(np.prod(shape))}
    return server.rest("POST", f"{path}/infer", {"inputs": [tensor]})


def answering(server: Server, version: str = "") -> str:
    return ask(server, version=version).headers["penstock-model-version"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with harness.running(None, tmp_path_factory.mktemp("registry"), "--workers", "2") as server:
        yield server


@pytest.fixture
def server(running: Server, request: pytest.FixtureRequest) -> Server:
    return running


def test_a_pushed_version_answers_and_is_described(server: Server) -> None:
    metadata = {"metrics": {"accuracy": 0.97}, "code_commit": "abcdef0", "card": {"summary": "adds"}}
    headers = {"penstock-metadata": json.dumps(metadata), "penstock-actor": "ann", "penstock-reason": "first%20one"}
    pushed = server.push("described", "1", graph(1), headers)
    assert pushed.status == 201, pushed
    document = pushed.json()
    assert document["digest"] == f"sha256:{hashlib.sha256(graph(1)).hexdigest()}"
    assert document["state"] == "READY"
    assert document["created_by"] == "ann"
    assert document["metadata"] == {"metrics": {"accuracy": 0.97}, "code_commit": "abcdef0"}
    assert document["card"] == {"summary": "adds"}
    assert document["admission"]["verdict"] == "admitted"
    assert document["signature"]["inputs"]
    assert pushed.headers["etag"] == f'"{document["revision"]}"'
    shown = server.admin("GET", "/admin/v1/models/described")
    assert shown.headers["etag"] == pushed.headers["etag"]
    assert shown.json()["versions"][0]["digest"] == document["digest"]
    assert ask(server, "described").headers["penstock-model-version"] == "1"
    metrics = server.admin("GET", "/metrics").body.decode()
    assert f'penstock_model_info{{digest="{document["digest"]}",model="described",version="1"}} 1.0' in metrics
    assert 'penstock_model_memory_bytes{model="described",version="1"}' in metrics
    entry = server.admin("GET", "/admin/v1/audit?model=described").json()["entries"][0]
    assert (entry["actor"], entry["action"], entry["reason"]) == ("ann", "version.add", "first one")


def test_the_same_bytes_again_are_welcome_and_others_are_not(server: Server) -> None:
    assert server.push("twice", "1", graph(1)).status == 201
    assert server.push("twice", "1", graph(1)).status == 200
    refused = server.push("twice", "1", graph(2))
    assert refused.status == 409
    assert "another content" in refused.error()


def test_what_admission_refuses_is_a_422_with_its_reason(tmp_path: Path) -> None:
    with harness.running(None, tmp_path, env={"PENSTOCK_ADMISSION__SECONDS": "4"}) as server:
        check_refusals(server)


def check_refusals(server: Server) -> None:
    for content, why in (
        (b"no graph", "not an ONNX graph"),
        (endless().SerializeToString(), "did not finish"),
        (with_weights("/etc/passwd").SerializeToString(), "weights in other files"),
    ):
        refused = server.push("refused", "1", content)
        assert refused.status == 422, refused
        assert why in refused.json()["reason"]
        assert refused.json()["error"] == refused.json()["reason"]
    assert server.admin("GET", "/admin/v1/models/refused").status == 404
    entries = server.admin("GET", "/admin/v1/audit?model=refused").json()["entries"]
    assert [entry["action"] for entry in entries] == ["version.refuse"] * 3
    assert "did not finish" in entries[1]["after"]["reason"]
    assert server.is_ready()


@pytest.mark.parametrize(
    ("model", "version", "status"), [("-bad", "1", 400), ("m", "x1", 400), ("m", "1" * 65, 400), ("m", "%2e%2e", 400)]
)
def test_names_that_cannot_be_are_refused(server: Server, model: str, version: str, status: int) -> None:
    assert server.push(model, version, graph(1)).status == status


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_tar_brings_weights_and_a_configuration(server: Server) -> None:
    weights = np.array([5, 6, 7, 8], np.float32).tobytes()
    model = with_weights("w.bin").SerializeToString()
    content = packed(model_dot_onnx=model, w_dot_bin=weights, config_dot_pbtxt=b"max_batch_size: 4")
    assert server.push("packed", "1", content).status == 201
    assert ask(server, "packed").json()["outputs"][0]["data"] == [5, 6, 7, 8]
    assert server.rest("GET", "/v2/models/packed/config").json()["max_batch_size"] == 4
    exported = server.admin("GET", "/admin/v1/models/packed/versions/1/content")
    assert exported.body == content
    assert exported.headers["penstock-digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_an_alias_decides_who_answers(server: Server) -> None:
    for number in (1, 2, 3):
        server.push("m", str(number), graph(number))
    assert answering(server) == "3"
    moved = server.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": "1", "expected": None})
    assert moved.status == 200
    assert moved.json()["acknowledged"] is True
    assert answering(server) == "1"
    assert answering(server, "champion") == "1"
    stale = server.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": "2", "expected": "3"})
    assert stale.status == 409
    etag = server.admin("GET", "/admin/v1/models/m").headers["etag"]
    path = "/admin/v1/models/m/aliases/champion"
    assert server.admin("PUT", path, {"version": "2", "reason": "better"}, {"if-match": etag}).status == 200
    assert server.admin("PUT", path, {"version": "3"}, {"if-match": etag}).status == 409
    assert answering(server) == "2"
    assert server.admin("PUT", path, {"version": "9"}).status == 404
    assert server.admin("PUT", "/admin/v1/models/m/aliases/9x", {"version": "1"}).status == 400
    back = server.admin("POST", "/admin/v1/models/m/rollback", {"reason": "worse"})
    assert (back.status, back.json()["version"]) == (200, "1")
    assert answering(server) == "1"
    assert server.admin("POST", "/admin/v1/models/m/rollback").status == 409
    assert server.admin("DELETE", "/admin/v1/models/m/versions/1").status == 409
    assert server.admin("DELETE", path).status == 200
    assert answering(server) == "3"
    assert server.admin("DELETE", path).status == 404


def test_without_an_alias_a_roll_back_goes_to_the_version_before_the_newest(server: Server) -> None:
    for number in (1, 2):
        server.push("plainly", str(number), graph(number))
    assert server.admin("POST", "/admin/v1/models/plainly/rollback", {}).json()["version"] == "1"
    assert ask(server, "plainly").headers["penstock-model-version"] == "1"


def test_a_retired_version_is_gone_for_callers_and_stays_in_the_registry(server: Server) -> None:
    for number in (1, 2):
        server.push("old", str(number), graph(number))
    assert server.admin("DELETE", "/admin/v1/models/old/versions/1", None, {"penstock-reason": "old"}).status == 200
    assert server.rest("GET", "/v2/models/old/versions/1").status == 404
    states = {
        version["version"]: version["state"]
        for version in server.admin("GET", "/admin/v1/models/old").json()["versions"]
    }
    assert states == {"1": "RETIRED", "2": "READY"}
    assert server.push("old", "1", graph(1)).status == 409
    assert server.admin("DELETE", "/admin/v1/models/old/versions/7").status == 404


def test_a_policy_serves_the_newest_and_keeps_the_one_before_warm(server: Server) -> None:
    server.push("few", "1", graph(1))
    settings = {"versions": "latest:1", "keep_warm_seconds": 1.0, "reason": "small machine"}
    assert server.admin("PUT", "/admin/v1/models/few/settings", settings).status == 200
    server.push("few", "2", graph(2))
    assert ask(server, "few").headers["penstock-model-version"] == "2"
    assert ask(server, "few", "1").status == 200  # still warm
    wait_until(
        lambda: server.rest("GET", "/v2/models/few/versions/1").status == 404, PATIENCE_S, "the end of its warmth"
    )
    back = server.admin("POST", "/admin/v1/models/few/rollback", {})
    assert back.status in (200, 409)
    bad = server.admin("PUT", "/admin/v1/models/few/settings", {"versions": "some", "transition": "x"})
    assert bad.status == 400
    assert "versions" in bad.error()
    assert "transition" in bad.error()
    assert server.admin("GET", "/admin/v1/models/few/settings").json()["versions"] == "latest:1"


def test_resources_first_unloads_before_it_loads(server: Server) -> None:
    server.push("small", "1", graph(1))
    settings = {"versions": "latest:1", "transition": "resources"}
    assert server.admin("PUT", "/admin/v1/models/small/settings", settings).status == 200
    server.push("small", "2", graph(2))
    assert ask(server, "small").headers["penstock-model-version"] == "2"
    assert server.rest("GET", "/v2/models/small/versions/1").status == 404


def test_the_audit_can_be_verified(server: Server) -> None:
    server.push("checked", "1", graph(41))
    lines = [json.loads(line) for line in server.admin("POST", "/admin/v1/registry/verify").body.splitlines()]
    assert lines[-1] == {"findings": []}
    assert lines[-2]["done"] == lines[-2]["total"] > 0


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("PUT", "/models/m/aliases/a", {"version": 1}, {}, 400),
        ("PUT", "/models/m/aliases/a", {"versions": "1"}, {}, 400),
        ("PUT", "/models/m/aliases/a", {"version": "1", "expected": 4}, {}, 400),
        ("PUT", "/models/m/aliases/a", {"version": "1"}, {"if-match": "zzz"}, 400),
        ("PUT", "/models/zzz/aliases/a", {"version": "1"}, {}, 404),
        ("POST", "/models/zzz/rollback", {}, {}, 404),
        ("GET", "/models/zzz/versions/1/content", None, {}, 404),
        ("GET", "/audit?limit=x", None, {}, 400),
        ("PUT", "/models/m/settings", {"keep_warm_seconds": -1}, {}, 400),
        ("POST", "/webhooks/mlflow", {}, {}, 501),
        ("PATCH", "/models/m", None, {}, 405),
        ("GET", "/models/m/versions/1", None, {}, 405),
        ("POST", "/models/m/rollback", {}, {"origin": "http://evil.example"}, 403),
        ("POST", "/models/m/rollback", {}, {"sec-fetch-site": "cross-site"}, 403),
        ("POST", "/models/m/rollback", {"reason": "x" * 3000}, {}, 400),
    ],
)
def test_bad_calls_are_refused(
    server: Server, method: str, path: str, body: dict[str, object] | None, headers: dict[str, str], status: int
) -> None:
    answer = server.admin(method, f"/admin/v1{path}", body, headers)
    assert answer.status == status, answer
    assert answer.json()["error"]


def test_bad_bodies_are_refused(server: Server) -> None:
    for body, status in ((b"{", 400), (b"[]", 400), (b"x" * (2 << 20), 413), (b"[" * 100_000, 400)):
        answer = harness.call(server.ops, "PUT", "/admin/v1/models/m/aliases/a", body)
        assert answer.status == status, answer
    answer = server.push("m", "77", graph(1), {"penstock-metadata": '{"odd": 1, "metrics": {"a": "b"}}'})
    assert answer.status == 400
    assert "odd" in answer.error()
    assert "metrics" in answer.error()


def test_the_audit_survives_the_gateway(tmp_path: Path) -> None:
    with harness.running(None, tmp_path) as server:
        server.push("m", "1", graph(1))
        server.push("m", "2", graph(2))
        server.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": "1"})
        assert (tmp_path / "home" / "gateway.json").exists()
    assert not (tmp_path / "home" / "gateway.json").exists()
    with harness.running(None, tmp_path) as server:
        assert answering(server) == "1"
        blob = next((tmp_path / "home" / "blobs" / "sha256").glob(f"??/{hashlib.sha256(graph(2)).hexdigest()}"))
    blob.chmod(0o600)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    with harness.running(None, tmp_path) as server:
        assert answering(server) == "1"
        states = {
            version["version"]: version for version in server.admin("GET", "/admin/v1/models/m").json()["versions"]
        }
        assert states["2"]["state"] == "UNAVAILABLE"
        assert "does not match its digest" in states["2"]["reason"]
        lines = server.admin("POST", "/admin/v1/registry/verify").body.splitlines()
        (finding,) = json.loads(lines[-1])["findings"]
        assert (finding["model"], finding["version"]) == ("m", "2")
        assert server.admin("GET", "/admin/v1/models/m/versions/2/content").status == 500


def test_a_lost_database_leaves_predictions_alone_and_refuses_changes(tmp_path: Path) -> None:
    with harness.running(None, tmp_path) as server:
        server.push("m", "1", graph(1))
        blocker = sqlite3.connect(tmp_path / "home" / "registry.db", isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        refused = server.push("m", "2", graph(2))
        assert refused.status == 503
        assert "busy" in refused.error()
        assert answering(server) == "1"
        assert server.is_ready()
        blocker.execute("ROLLBACK")
        blocker.close()
        assert server.push("m", "2", graph(2)).status == 201


def test_an_alias_is_never_without_a_version(server: Server) -> None:
    """While it moves to and fro, every call is answered by one of the two versions."""
    for number in (1, 2):
        server.push("swing", str(number), graph(number))
    server.admin("PUT", "/admin/v1/models/swing/aliases/champion", {"version": "1"})
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            answer = ask(server, "swing")
            seen.append((answer.status, answer.headers.get("penstock-model-version", "")))

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for turn in range(20):
        body = {"version": "12"[turn % 2]}
        assert server.admin("PUT", "/admin/v1/models/swing/aliases/champion", body).json()["acknowledged"]
    time.sleep(0.1)
    stop.set()
    for caller in callers:
        caller.join()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {"1", "2"}


def test_a_gateway_of_a_folder_takes_aliases_and_no_pushes(tmp_path: Path) -> None:
    zoo.place(tmp_path / "models", "m", {"1": zoo.versioned(1), "2": zoo.versioned(2)})
    with harness.running(tmp_path / "models", tmp_path) as server:
        refused = server.push("m", "3", graph(3))
        assert refused.status == 501
        assert "serves a folder" in refused.error()
        assert server.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": "1"}).status == 200
        assert answering(server) == "1"
        shown = server.admin("GET", "/admin/v1/models/m").json()["versions"][0]
        assert shown["admission"]["verdict"] == "admitted"
        assert shown["digest"].startswith("sha256:")
        assert server.admin("GET", "/admin/v1/registry").json()["source"] == "folder"
    with harness.running(tmp_path / "models", tmp_path) as server:
        assert answering(server) == "1"
