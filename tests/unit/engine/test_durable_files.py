"""Files take their place as a whole, and are on the disk before they have their name; nobody else renames files."""

import ast
import errno
import os
from pathlib import Path

import pytest

import penstock
from penstock.engine.durable_files import move_folder, replace_file, sync_tree, write_atomically

SOURCE = Path(penstock.__file__).parent

RENAMING = {
    "engine/durable_files.py": "the helper",
    "registry/blobs/folder.py": "contents are synced while they are received",
    "registry/checkpoint_file.py": "a full file becomes the older part; if that is lost, it does so again",
    "registry/contents/layout.py": "a damaged folder goes into a scratch folder",
    "registry/graphs/rewrite.py": "in a folder that is synced as a whole before it is renamed",
}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in its order."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def replaced(path: Path, target: Path) -> Path:
        steps.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return steps


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_at_the_end(tmp_path: Path, steps: list[str]) -> None:
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert steps[0].startswith("sync .file.")
    assert steps[1:] == ["rename to file", f"sync {tmp_path.name}"]


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    (tmp_path / "file").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "file", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    def half() -> None:
        with replace_file(tmp_path / "file") as scratch:
            scratch.write_text("half")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        half()
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_synced_with_every_file_and_folder(tmp_path: Path, steps: list[str]) -> None:
    (tmp_path / "top" / "below").mkdir(parents=True)
    (tmp_path / "top" / "a").write_text("a")
    (tmp_path / "top" / "below" / "b").write_text("b")
    (tmp_path / "top" / "link").symlink_to(tmp_path)
    sync_tree(tmp_path / "top")
    assert sorted(steps) == ["sync a", "sync b", "sync below", "sync top"]


def test_a_folder_is_moved_with_all_its_bytes_to_a_free_path_only(tmp_path: Path, steps: list[str]) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert not move_folder(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "old"
    assert (tmp_path / "new" / "file").read_text() == "new"
    steps.clear()
    assert move_folder(tmp_path / "new", tmp_path / "free")
    assert (tmp_path / "free" / "file").read_text() == "new"
    assert steps == ["sync file", "sync new", f"sync {tmp_path.name}"]


def test_a_folder_that_cannot_be_moved_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        move_folder(tmp_path / "new", tmp_path / "file")


def renames(file: Path) -> bool:
    """Whether a file's code renames: ``x.replace(y)`` with one argument (texts have two), or ``x.rename(y)``."""
    text = file.read_text()
    for node in ast.walk(ast.parse(text)) if "replace" in text or "rename" in text else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
            one = node.func.attr in ("replace", "rename") and len(node.args) == 1
            if one or ast.unparse(node.func) in ("os.replace", "os.rename"):
                return True
    return False


def test_files_are_renamed_by_the_helper_alone() -> None:
    found = {str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py") if renames(file)}
    assert found == set(RENAMING)
