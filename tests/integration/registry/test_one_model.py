"""A folder that is one model, and layouts of other tools, as a running gateway serves or reports them."""

import shutil
from pathlib import Path

import pytest

from tests import harness, zoo
from tests.harness import PATIENCE_S, wait_until
from tests.integration.registry.test_gateway import answering

QUICK = {"PENSTOCK_WATCH__SECONDS": "0.2", "PENSTOCK_WATCH__SETTLE_SECONDS": "0.3"}


def put(path: Path, version: int) -> Path:
    zoo.save(zoo.versioned(version), path)
    return path


def test_a_mounted_folder_of_one_model_is_served_and_followed(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    put(mount / "1" / "model.onnx", 1)
    with harness.running(mount, tmp_path, "--model-name", "m", env=QUICK) as server:
        assert answering(server) == "1"
        put(mount / "2" / "model.onnx", 2)
        wait_until(lambda: answering(server) == "2", PATIENCE_S, "the new version")


@pytest.mark.parametrize("given", ["mount", "mount/network.onnx"])
def test_a_bare_graph_is_one_model(tmp_path: Path, given: str) -> None:
    put(tmp_path / "mount" / "network.onnx", 7)
    with harness.running(tmp_path / given, tmp_path, "--model-name", "m") as server:
        assert server.rest("GET", "/v2/models/m/versions/1/ready").status == 200


def test_a_name_is_for_one_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / name / "model.onnx", 1)
    folders = [str(tmp_path / name) for name in ("one", "two")]
    ended = harness.run_command("serve", *folders, "--model-name", "m", folder=tmp_path)
    assert ended.returncode == 2
    assert "--model-name needs exactly one model folder" in ended.stderr
    ended = harness.run_command("serve", "--model-name", "m", folder=tmp_path)
    assert ended.returncode == 2


def test_layouts_are_served_or_reported_with_the_rule(tmp_path: Path) -> None:
    models, hub = tmp_path / "models", tmp_path / "hub" / "models--org--bert"
    for number, name in enumerate(("flat/model.onnx", "hub/onnx/model.onnx", "padded/01/model.onnx"), 1):
        put(models / name, number)
    put(models / "alike" / "1" / "model.onnx", 4)
    shutil.copytree(models / "alike" / "1", models / "alike" / "01")
    put(models / "named" / "v1" / "model.onnx", 5)
    (models / "empty").mkdir()
    blob = put(hub / "blobs" / "abc", 6)
    (hub / "snapshots" / "rev" / "onnx").mkdir(parents=True)
    (hub / "snapshots" / "rev" / "onnx" / "model.onnx").symlink_to(blob)
    (models / "bert").symlink_to(hub / "snapshots" / "rev")
    (models / "stolen").mkdir()
    (models / "stolen" / "model.onnx").symlink_to(put(tmp_path / "elsewhere.onnx", 7))
    with harness.running(models, tmp_path) as server:
        index = server.rest("POST", "/v2/repository/index", {}).json()
        by_version = {(item["name"], item.get("version", "")): item for item in index}
        ready = {key for key, item in by_version.items() if item["state"] == "READY"}
        assert ready == {("flat", "1"), ("hub", "1"), ("padded", "01"), ("alike", "1"), ("bert", "1")}
        reasons = {key: str(item.get("reason", "")) for key, item in by_version.items() if key not in ready}
        assert "version '01' looks like version '1'" in reasons["alike", "01"]
        assert any("a version begins with a digit" in why for (name, _), why in reasons.items() if name == "named")
        assert any("no version folder, such as 1" in why for (name, _), why in reasons.items() if name == "empty")
        assert any("leads out of the model folder" in why for (name, _), why in reasons.items() if name == "stolen")
        assert not any(str(tmp_path) in why for why in reasons.values())
        log = server.log_text()
        assert str(tmp_path / "elsewhere.onnx") in log
