"""What a folder of this machine gives away: its own files, those its owner links to, and nothing else."""

import os
from pathlib import Path

import pytest

from penstock.core.errors import InvalidInput, TooLarge
from penstock.registry.repository.layout import find_models, one_model
from penstock.registry.repository.local import LocalTree
from penstock.registry.repository.tree import find


def put(path: Path, content: str = "graph") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def link(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def graphs_or_reasons(root: Path) -> dict[str, str]:
    """By model and version: the graph's path, or why there is none."""
    found: dict[str, str] = {}
    for model in find_models(LocalTree(root)):
        found |= {f"{model.name}/{version}": path for version, path in model.versions.items()}
        found |= {f"{model.name}/{version}": why.text for version, why in model.broken.items()}
        found |= {} if model.problem is None else {model.name: model.problem.text}
    return found


OUTSIDE = "it is a link that leads out of the model folder"


def test_links_inside_are_followed_and_others_are_reported(tmp_path: Path) -> None:
    outside, root = put(tmp_path / "outside.onnx"), tmp_path / "models"
    put(root / "m/1/model.onnx")
    put(root / "near/2/model.onnx")
    link(root / "m/2/model.onnx", outside)
    link(root / "m/3", root / "near/2")
    link(root / "m/4", tmp_path)
    link(root / "m/5/model.onnx", "../../near/2/model.onnx")
    link(root / "out.onnx", outside)
    link(root / "gone.onnx", root / "nowhere")
    link(root / "release", root / "release-7")
    link(root / "README", outside)
    assert graphs_or_reasons(root) == {
        "m/1": "m/1/model.onnx",
        "m/2": OUTSIDE,
        "m/3": "m/3/model.onnx",
        "m/4": OUTSIDE,
        "m/5": "m/5/model.onnx",
        "near/2": "near/2/model.onnx",
        "out/1": OUTSIDE,
        "gone/1": "it is a link to nothing",
        "release": "it is a link to nothing",
    }
    refused = next(model for model in find_models(LocalTree(root)) if model.name == "m").broken["2"]
    assert str(outside) in refused.full_text
    assert str(outside) not in refused.text


def test_the_folder_of_a_model_may_be_a_link_to_a_release(tmp_path: Path) -> None:
    put(tmp_path / "releases/7/1/model.onnx")
    put(tmp_path / "releases/blobs/w")
    link(tmp_path / "releases/7/2/model.onnx", "../../blobs/w")  # out of the release
    link(tmp_path / "releases/7/3/model.onnx", "../1/model.onnx")
    link(tmp_path / "models/m", tmp_path / "releases/7")
    assert graphs_or_reasons(tmp_path / "models") == {"m/1": "m/1/model.onnx", "m/2": OUTSIDE, "m/3": "m/3/model.onnx"}


def test_a_kubernetes_mount(tmp_path: Path) -> None:
    put(tmp_path / "m/..2026_01/1/model.onnx")
    link(tmp_path / "m/..data", "..2026_01")
    link(tmp_path / "m/1", "..data/1")
    assert graphs_or_reasons(tmp_path) == {"m/1": "m/1/model.onnx"}


def snapshot(cache: Path) -> Path:
    """A repository in a cache of Hugging Face; its snapshot."""
    repository = cache / "models--org--bert"
    put(repository / "blobs/aaa")
    put(repository / "blobs/bbb", "weights")
    link(repository / "snapshots/r1/onnx/model.onnx", "../../../blobs/aaa")
    link(repository / "snapshots/r1/onnx/model.onnx_data", "../../../blobs/bbb")
    return repository / "snapshots/r1"


def test_a_snapshot_of_a_hugging_face_cache(tmp_path: Path) -> None:
    found = snapshot(tmp_path / "cache")
    link(tmp_path / "models/bert", found)
    assert graphs_or_reasons(tmp_path / "models") == {"bert/1": "bert/onnx/model.onnx"}
    tree = LocalTree(found, one_model=True)
    assert one_model(tree, "bert").versions == {"1": "onnx/model.onnx"}
    tree.copy("onnx/model.onnx_data", tmp_path / "copied", 100)
    assert (tmp_path / "copied").read_text() == "weights"
    put(tmp_path / "cache/secret")
    link(found / "onnx/other.onnx", tmp_path / "cache/secret")
    with pytest.raises(InvalidInput):
        tree.copy("onnx/other.onnx", tmp_path / "other", 100)


def test_links_into_the_users_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = snapshot(tmp_path / "hf/hub")
    link(tmp_path / "models/m/1/model.onnx", found / "onnx/model.onnx")
    link(tmp_path / "models/flat.onnx", found / "onnx/model.onnx")
    assert set(graphs_or_reasons(tmp_path / "models").values()) == {OUTSIDE}
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert graphs_or_reasons(tmp_path / "models") == {"m/1": "m/1/model.onnx", "flat/1": "flat.onnx"}
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    assert graphs_or_reasons(tmp_path / "models") == {"m/1": "m/1/model.onnx", "flat/1": "flat.onnx"}


def test_a_special_file_is_reported(tmp_path: Path) -> None:
    put(tmp_path / "good.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    assert graphs_or_reasons(tmp_path)["pipe/1"] == "it is not a plain file"
    for name in ("pipe.onnx", "gone.onnx", "../x", "."):
        with pytest.raises(InvalidInput):
            LocalTree(tmp_path).copy(name, tmp_path / "copied", 100)


def test_one_model_may_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/model.onnx")
    put(tmp_path / "m/1/model.onnx")
    link(tmp_path / "m/2", tmp_path / "elsewhere")
    model = one_model(LocalTree(tmp_path / "m", one_model=True), "m")
    assert (set(model.versions), set(model.broken)) == ({"1"}, {"2"})


def test_a_link_that_is_exchanged_after_it_was_looked_at_is_not_followed(tmp_path: Path) -> None:
    secret = put(tmp_path / "secret", "secret")
    graph = put(tmp_path / "models/m/1/model.onnx")
    tree = LocalTree(tmp_path / "models")
    assert find(tree, "m/1/model.onnx")
    graph.unlink()
    graph.symlink_to(secret)
    with pytest.raises(InvalidInput, match="not a plain file inside the model folder"):
        tree.copy("m/1/model.onnx", tmp_path / "copied", 100)
    assert not (tmp_path / "copied").exists()


def test_a_copy_is_bounded_and_cannot_be_written(tmp_path: Path) -> None:
    put(tmp_path / "models/m.onnx", "x" * 100)
    tree = LocalTree(tmp_path / "models")
    with pytest.raises(TooLarge, match="99 bytes left"):
        tree.copy("m.onnx", tmp_path / "one", 99)
    tree.copy("m.onnx", tmp_path / "two", 100)
    assert (tmp_path / "two").read_text() == "x" * 100
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "two").stat().st_nlink == 1


@pytest.mark.parametrize(
    "path", ["", "a", "a/b", "a/b/c", "missing", "a/missing", "a/file/deeper", "../models", "/etc"]
)
def test_entries_are_found_by_their_path(tmp_path: Path, path: str) -> None:
    put(tmp_path / "models/a/b/c")
    put(tmp_path / "models/a/file")
    found = find(LocalTree(tmp_path / "models"), path)
    assert (found is not None) == (path in ("a", "a/b", "a/b/c"))
