"""A bucket as a repository: listed, copied whole or not at all, and followed; beside folders, and while it is away."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.core.errors import InvalidInput, NotReady, TooLarge
from penstock.registry.blobs import bucket as bucket_module
from penstock.registry.repository.bucket_tree import BucketTree
from penstock.registry.repository.layout import files_of, find_models, one_model
from penstock.registry.repository.tree import find
from tests import harness, s3, zoo
from tests.harness import PATIENCE_S, wait_until
from tests.integration.registry.test_gateway import answering


@pytest.fixture
def prefix(bucket: s3.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in the bucket for one test."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path.name


def put(bucket: s3.Bucket, prefix: str, objects: dict[str, bytes]) -> None:
    for key, data in objects.items():
        bucket.call("PUT", f"/{bucket.name}/{prefix}/{key}", data)


CONFIG = b'output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "labels.txt" }'


def test_layouts_are_found_as_in_a_folder(bucket: s3.Bucket, prefix: str) -> None:
    objects = {
        "p/flat.onnx": b"flat",
        "p/m/1/model.onnx": b"graph",
        "p/m/1/w.bin": b"weights",
        "p/m/config.pbtxt": CONFIG,
        "p/m/labels.txt": b"labels",
        "p/hub/onnx/model.onnx": b"hub",
        "p/bad/v1/model.onnx": b"bad",
        "p/.hidden/1/model.onnx": b"hidden",
        "q/other.onnx": b"elsewhere",
    }
    put(bucket, prefix, objects)
    tree = BucketTree(f"s3://{bucket.name}/{prefix}/p/")
    found = {model.name: model for model in find_models(tree)}
    assert {name: dict(model.versions) for name, model in found.items()} == {
        "bad": {},
        "flat": {"1": "flat.onnx"},
        "hub": {"1": "hub/onnx/model.onnx"},
        "m": {"1": "m/1/model.onnx"},
    }
    assert found["bad"].problem is not None
    tagged = dict(files_of(tree, found["m"], "m/1/model.onnx", ("w.bin",)))
    assert sorted(tagged) == ["m/1/model.onnx", "m/1/w.bin", "m/labels.txt"]
    put(bucket, prefix, {"p/m/1/w.bin": b"WEIGHTS"})
    tree.refresh()
    again = dict(files_of(tree, found["m"], "m/1/model.onnx", ("w.bin",)))
    assert [path for path, tag in again.items() if tag != tagged[path]] == ["m/1/w.bin"]
    assert one_model(BucketTree(f"s3://{bucket.name}/{prefix}/p/m"), "name").versions == {"1": "1/model.onnx"}


def test_an_empty_or_missing_bucket_is_reported(bucket: s3.Bucket, prefix: str) -> None:
    with pytest.raises(InvalidInput, match="holds no model"):
        find_models(BucketTree(f"s3://{bucket.name}/{prefix}/nothing"))
    with pytest.raises((InvalidInput, NotReady)):
        find_models(BucketTree("s3://nowhere/p"))
    with pytest.raises(InvalidInput, match="s3://BUCKET/PREFIX"):
        BucketTree("s3://")


def test_an_object_is_copied_whole_or_not_at_all(
    bucket: s3.Bucket, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "PART", 1000)  # several requests for one object
    data = bytes(range(256)) * 20
    put(bucket, prefix, {"m/1/model.onnx": data, "m/1/empty.bin": b""})
    tree = BucketTree(f"s3://{bucket.name}/{prefix}")
    tree.refresh()
    tree.copy("m/1/model.onnx", tmp_path / "whole", 10_000)
    tree.copy("m/1/empty.bin", tmp_path / "empty", 0)
    assert (tmp_path / "whole").read_bytes() == data
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "whole").stat().st_mode & 0o777 == 0o400
    with pytest.raises(TooLarge):
        tree.copy("m/1/model.onnx", tmp_path / "long", len(data) - 1)
    put(bucket, prefix, {"m/1/model.onnx": bytes(len(data))})  # changed since it was listed
    with pytest.raises(NotReady, match="changed while it was read"):
        tree.copy("m/1/model.onnx", tmp_path / "torn", 10_000)
    bucket.call("DELETE", f"/{bucket.name}/{prefix}/m/1/model.onnx")
    with pytest.raises(NotReady, match="was deleted"):
        tree.copy("m/1/model.onnx", tmp_path / "gone", 10_000)
    with pytest.raises(InvalidInput, match="missing"):
        tree.copy("m/1/other", tmp_path / "other", 10_000)


def test_names_that_are_not_paths_are_left_out(bucket: s3.Bucket, prefix: str) -> None:
    put(bucket, prefix, {"m/1/model.onnx": b"graph", "m/1/": b"", "m/.x/model.onnx": b"", "m/1/a%5Cb": b""})
    tree = BucketTree(f"s3://{bucket.name}/{prefix}")
    tree.refresh()
    assert [(entry.name, entry.is_folder) for entry in tree.entries("m")] == [("1", True)]
    assert [entry.name for entry in tree.entries("m/1")] == ["model.onnx"]
    assert find(tree, "m/1/model.onnx")
    assert not tree.entries("nowhere")


def test_too_many_objects_are_reported(bucket: s3.Bucket, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.registry.repository.bucket_tree.MOST_OBJECTS", 2)
    put(bucket, prefix, {f"{name}.onnx": b"" for name in "abc"})
    with pytest.raises(InvalidInput, match="more than 2 objects"):
        find_models(BucketTree(f"s3://{bucket.name}/{prefix}"))


def test_a_gateway_serves_a_bucket_and_folders_and_follows_them(tmp_path: Path) -> None:
    with s3.running() as own:
        put(own, "p", {"m/1/model.onnx": zoo.versioned(1).SerializeToString()})
        zoo.place(tmp_path / "models", "local", {"1": zoo.versioned(5)})
        zoo.place(tmp_path / "more", "third", {"1": zoo.versioned(6)})
        quick = {"PENSTOCK_WATCH__SECONDS": "0.2", "PENSTOCK_WATCH__SETTLE_SECONDS": "0.3", **own.environment}
        others = [str(tmp_path / "more"), f"s3://{own.name}/p"]
        with harness.running(tmp_path / "models", tmp_path, *others, env=quick) as server:
            assert all(server.rest("GET", f"/v2/models/{name}/ready").status == 200 for name in ("m", "local", "third"))
            assert answering(server) == "1"
            put(own, "p", {"m/2/model.onnx": zoo.versioned(2).SerializeToString()})
            wait_until(lambda: answering(server) == "2", PATIENCE_S, "the new version")
            put(own, "p", {"third/1/model.onnx": zoo.versioned(7).SerializeToString()})
            wait_until(lambda: "several repositories" in server.log_text(), PATIENCE_S, "the conflict")
            assert server.rest("GET", "/v2/models/third/ready").status == 200
            assert own.process is not None
            own.process.kill()
            wait_until(lambda: "what is served of it stays as it is" in server.log_text(), PATIENCE_S, "the complaint")
            zoo.place(tmp_path / "models", "new", {"1": zoo.versioned(8)})
            wait_until(lambda: server.rest("GET", "/v2/models/new/ready").status == 200, PATIENCE_S, "the new model")
            assert answering(server) == "2"


def test_a_bucket_needs_its_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['obstore'] = None; from penstock.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "s3://models/p"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "pip install 'penstock[s3]'" in done.stderr
    assert "Traceback" not in done.stderr
