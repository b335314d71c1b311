"""Signed models through a gateway: only what trusted signers have signed is pushed and loaded, whoever asks for it and
whoever writes the database."""

import io
import json
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.registry.signing import keys
from penstock.registry.signing.signer import sign_path
from tests import harness, zoo
from tests.harness import PATIENCE_S, Reply, Server, wait_until
from tests.integration.registry.test_gateway import ask, graph
from tests.unit.registry.signing.keys_of_tests import private_key, private_pem

CI, BOB, FOREIGN = (private_key("P-256", number) for number in (11, 12, 13))
PATH = "/admin/v1/models/{}/versions/{}/signatures"


def settings(folder: Path, **changes: Any) -> dict[str, str]:
    """The environment of a gateway that requires signatures; the files of the keys are in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    trusted = []
    for name, key, models in (("ci", CI, ["*"]), ("bob", BOB, ["lin", "other"])):
        (folder / f"{name}.pem").write_text(keys.public_pem(key))
        trusted.append({"name": name, "public_key_file": str(folder / f"{name}.pem"), "models": models})
    return {"PENSTOCK_ADMISSION__SIGNATURES": json.dumps({"mode": "require", "trusted": trusted, **changes})}


def signature(
    content: Mapping[str, bytes] | bytes, folder: Path, key: Any = CI, model: str = "", version: str = ""
) -> str:
    """The bundle of a graph, or of the files of a folder."""
    place = folder / f"signed{time.monotonic_ns()}"
    if isinstance(content, bytes):
        place.write_bytes(content)
    for name, data in {} if isinstance(content, bytes) else content.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return sign_path(place, key, place / "model.sig", model, version)


def tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def add(server: Server, model: str, version: str, bundle: str) -> Reply:
    return harness.call(server.ops, "PUT", PATH.format(model, version), bundle.encode())


def actions(server: Server, model: str) -> list[str]:
    entries = server.admin("GET", f"/admin/v1/audit?model={model}").json()["entries"]
    return [entry["action"] for entry in entries]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("signatures")
    with harness.running(None, folder, env=settings(folder)) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    return running


def test_a_signed_version_is_pushed_and_answers(server: Server, tmp_path: Path) -> None:
    added = add(server, "good", "1", signature(graph(1), tmp_path))
    assert (added.status, added.json()["signers"]) == (201, ["ci"])
    assert server.push("good", "1", graph(1)).status == 201
    assert ask(server, "good").headers["penstock-model-version"] == "1"
    shown = server.admin("GET", "/admin/v1/models/good").json()["versions"][0]
    assert [item["signers"] for item in shown["signatures"]] == [["ci"]]
    assert actions(server, "good") == ["signature.add", "version.add"]
    gates = server.admin("GET", "/admin/v1/models/good/versions/1/gates").json()
    assert (gates["passed"], gates["gates"]) == (True, [{"gate": "signature", "passed": True}])


def test_a_folder_is_pushed_with_its_bundle_in_it(server: Server, tmp_path: Path) -> None:
    files = {"model.onnx": graph(1), "config.pbtxt": b"max_batch_size: 4\n"}
    bundle = signature(files, tmp_path)
    pushed = server.push("folder", "1", tar({**files, "model.sig": bundle.encode()}))
    assert pushed.status == 201, pushed
    assert ask(server, "folder").status == 200
    assert actions(server, "folder") == ["signature.add", "version.add"]


def test_a_graph_that_admission_rewrites_is_loaded_by_the_signature_of_the_pushed_one(
    server: Server, tmp_path: Path
) -> None:
    pushed = zoo.binary("Div", "INT64").SerializeToString()
    assert add(server, "zipped", "1", signature(pushed, tmp_path)).status == 201
    reply = server.push("zipped", "1", pushed)
    assert (reply.status, reply.json()["state"]) == (201, "READY"), reply.json()["reason"]
    assert reply.json()["admission"]["served_digest"] != reply.json()["digest"]


ONE = {"model.onnx": graph(1)}

REFUSED: dict[str, tuple[Mapping[str, bytes] | bytes, Any, Mapping[str, bytes] | bytes, str]] = {
    "none": (graph(1), None, graph(1), "it has no signature of a trusted signer"),
    "byte": (graph(1), CI, graph(2), "the graph is not the signed one"),
    "file": ({**ONE, "labels.txt": b"a"}, CI, {**ONE, "labels.txt": b"b"}, "1 file is changed since the signature"),
    "added": ({**ONE, "labels.txt": b"a"}, CI, {**ONE, "labels.txt": b"a", "more": b""}, "1 file is not signed"),
    "missing": ({**ONE, "labels.txt": b"a"}, CI, ONE, "1 file is missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_signed_as_it_is_pushed_is_refused(case: str, server: Server, tmp_path: Path) -> None:
    signed, key, pushed, reason = REFUSED[case]
    if key is not None:
        assert add(server, f"bad-{case}", "1", signature(signed, tmp_path, key)).status == 201
    reply = server.push(f"bad-{case}", "1", pushed if isinstance(pushed, bytes) else tar(pushed))
    assert reply.status == 422
    assert reason in reply.json()["error"]
    assert actions(server, f"bad-{case}")[-1] == "version.refuse"


def test_a_bundle_that_cannot_count_is_refused(server: Server, tmp_path: Path) -> None:
    good = signature(graph(1), tmp_path)
    without = json.dumps({key: part for key, part in json.loads(good).items() if key != "dsseEnvelope"})
    cases = {
        signature(graph(1), tmp_path, FOREIGN): "not signed by a trusted signer",
        signature(graph(1), tmp_path, BOB): "not signed by a trusted signer",  # he may sign other models
        signature(graph(1), tmp_path, CI, "other"): "it was made for model 'other'",
        signature(graph(1), tmp_path, CI, "refused", "2"): "it was made for version '2'",
        without: "no DSSE envelope",
        "{}": "not a Sigstore bundle",
    }
    for bundle, reason in cases.items():
        reply = add(server, "refused", "1", bundle)
        assert (reply.status, reason in reply.json()["error"]) == (422, True), (reply, reason)
    assert actions(server, "refused") == ["signature.refuse"] * len(cases)
    assert server.push("refused", "1", graph(1)).status == 422


def test_a_version_whose_record_was_changed_behind_its_back_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    with harness.running(None, folder, env=settings(folder)) as server:
        for version in (1, 2):
            assert add(server, "lin", str(version), signature(graph(version), tmp_path)).status == 201
            assert server.push("lin", str(version), graph(version)).status == 201
        # at every worker: one that has not loaded it yet has nothing to keep
        wait_until(
            lambda: ask_state(server, "lin")["1"]["state"] == "READY", PATIENCE_S, "the version as it was pushed"
        )
        with sqlite3.connect(folder / "home" / "registry.db", timeout=PATIENCE_S) as database:
            names = "digest, size, files, facts"
            row = database.execute(f"SELECT {names} FROM versions WHERE version = '2'").fetchone()
            database.execute("UPDATE versions SET digest = ?, size = ?, files = ?, facts = ? WHERE version = '1'", row)
            database.execute("UPDATE registry SET revision = revision + 1")
            database.execute("UPDATE models SET revision = (SELECT revision FROM registry)")
        wait_until(lambda: "do not allow to load it" in server.log_text(), PATIENCE_S, "the refusal of a worker")
        answer = ask(server, "lin", "1")
        assert answer.status == 200, (answer, server.log_text())
        assert answer.json()["outputs"][0]["data"] == [1.0] * 3  # the content that was checked
        verified = harness.run_command("models", "verify", folder=folder, env=settings(folder))
        assert verified.returncode == 8
        assert "lin:1" in verified.stdout
        assert "the graph is not the signed one" in verified.stdout
    with harness.running(None, folder, env=settings(folder)) as again:
        reply = ask_state(again, "lin")
        assert reply["1"]["state"] == "UNAVAILABLE"
        assert "its signatures do not allow to load it" in reply["1"]["reason"]
        assert reply["2"]["state"] == "READY"


def ask_state(server: Server, model: str) -> dict[str, Any]:
    versions = server.admin("GET", f"/admin/v1/models/{model}").json()["versions"]
    return {item["version"]: item for item in versions}


def test_two_signers_are_needed_and_a_withdrawn_key_ends_its_versions(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    with harness.running(None, folder, env=settings(folder, threshold=2)) as server:
        assert add(server, "lin", "1", signature(graph(1), tmp_path)).status == 201
        one = server.push("lin", "1", graph(1))
        assert (one.status, "2 signers must have signed it, and 1 have: ci" in one.json()["error"]) == (422, True)
        assert add(server, "lin", "1", signature(graph(1), tmp_path, BOB)).status == 201
        assert server.push("lin", "1", graph(1)).status == 201
        wait_until(lambda: ask(server, "lin").status == 200, PATIENCE_S, "the version")
    env = settings(folder)
    stated = json.loads(env["PENSTOCK_ADMISSION__SIGNATURES"])
    stated["trusted"] = [{"name": "new", "public_key_file": str(folder / "new.pem")}]
    (folder / "new.pem").write_text(keys.public_pem(FOREIGN))
    with harness.running(None, folder, env={"PENSTOCK_ADMISSION__SIGNATURES": json.dumps(stated)}) as server:
        state = ask_state(server, "lin")["1"]
        assert state["state"] == "UNAVAILABLE"
        assert "not signed by a trusted signer" in state["reason"]
        assert ask_infer(server).status == 503


def ask_infer(server: Server, model: str = "lin") -> Reply:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}
    return server.rest("POST", f"/v2/models/{model}/infer", {"inputs": [tensor]})


def test_the_command_line_signs_and_pushes(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.onnx").write_bytes(graph(1))
    (tmp_path / "k.pem").write_bytes(private_pem(CI))
    env = settings(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return harness.run_command("models", *arguments, folder=tmp_path, env=env)

    signed = run("sign", str(tmp_path / "m"), "--key", str(tmp_path / "k.pem"), "--model", "lin:1")
    assert (signed.returncode, signed.stdout.strip()) == (0, str(tmp_path / "m" / "model.sig")), signed
    refused = run("push", "lin", str(tmp_path / "m" / "model.onnx"), "--version", "1")
    assert (refused.returncode, "no signature" in refused.stderr) == (4, True), refused
    with_signature = ("--signature", str(tmp_path / "m" / "model.sig"))
    pushed = run("push", "lin", str(tmp_path / "m" / "model.onnx"), "--version", "1", *with_signature)
    assert pushed.returncode == 0, pushed
    other = run("push", "lin", str(tmp_path / "m" / "model.onnx"), "--version", "2", *with_signature)
    assert (other.returncode, "made for version '1'" in other.stderr) == (4, True), other
    assert "signature: ci" in run("show", "lin:1").stdout
    assert run("gates", "lin:1").stdout == "signature: passed\n"
    assert run("verify").returncode == 0
    bad = run("sign", str(tmp_path / "m"), "--key", str(tmp_path / "ci.pem"))
    assert (bad.returncode, "private key cannot be read" in bad.stderr) == (2, True), bad


def test_a_signer_without_a_usable_key_ends_the_start(tmp_path: Path) -> None:
    env = settings(tmp_path)
    (tmp_path / "ci.pem").write_text("no key")
    ended = harness.run_command("serve", folder=tmp_path, env=env)
    assert (ended.returncode, "signer 'ci': the public key cannot be read" in ended.stderr) == (2, True), ended


def test_signatures_that_only_warn_refuse_nothing(tmp_path: Path) -> None:
    env = settings(tmp_path, mode="warn")
    with harness.running(None, tmp_path / "gateway", env=env) as server:
        assert add(server, "lin", "1", signature(graph(1), tmp_path, FOREIGN)).json()["signers"] == []
        assert server.push("lin", "1", graph(1)).status == 201
        wait_until(lambda: ask(server, "lin").status == 200, PATIENCE_S, "the version")
        assert "model lin version 1 is pushed although it has no signature of a trusted signer" in server.log_text()
        assert "model lin version 1 is loaded although its signatures do not allow it" in server.log_text()


def test_gates_of_a_policy_hold_at_the_admin_api(server: Server, tmp_path: Path) -> None:
    for version in (1, 2):
        assert add(server, "gated", str(version), signature(graph(version), tmp_path)).status == 201
    assert server.push("gated", "1", graph(1)).status == 201
    assert server.admin("PUT", "/admin/v1/models/gated/policy", {"gates": {"approvals": 1}}).status == 200
    assert server.push("gated", "2", graph(2), {"penstock-actor": "ann"}).status == 201
    assert ask_infer(server, "gated").headers["penstock-model-version"] == "1"  # what answered before keeps on
    alias, approve = "/admin/v1/models/gated/aliases/champion", "/admin/v1/models/gated/versions/2/approve"
    refused = server.admin("PUT", alias, {"version": "2"})
    assert (refused.status, "approval: it has 0 approvals" in refused.json()["error"]) == (422, True), refused
    assert server.admin("DELETE", alias, {}).status == 200
    assert "no version has passed its gates" in ask_infer(server, "gated").error()
    assert server.admin("POST", approve, {}, {"penstock-actor": "ann"}).status == 403
    assert server.admin("POST", approve, {"reason": "ok"}, {"penstock-actor": "bob"}).status == 200
    wait_until(lambda: ask_infer(server, "gated").status == 200, PATIENCE_S, "the newest version that passes")
    assert ask_infer(server, "gated").headers["penstock-model-version"] == "2"
    assert server.admin("PUT", alias, {"version": "2"}).status == 200
    assert ask(server, "gated", "1").status == 200  # a call that names a version needs no gate
