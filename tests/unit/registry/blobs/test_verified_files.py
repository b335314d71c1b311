"""Files that are used only while they are what was hashed: every way to exchange one is noticed."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.errors import DataLoss
from penstock.registry.blobs.verified_files import FilesChanged, verified_files

FILES = ("version/model.onnx", "version/deep/w.bin", "labels.txt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (1, 1))
    return folder


def digests() -> list[tuple[str, str]]:
    return [(name, hashlib.sha256(name.encode()).hexdigest()) for name in FILES]


def swap_and_swap_back(path: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    path.write_text("evil")
    path.unlink()
    aside.rename(path)


def overwrite_and_restore(path: Path) -> None:
    before, facts = path.read_bytes(), path.stat()
    for data in (b"evil" * 4, before):
        path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def swap_folders(path: Path) -> None:
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.with_name("aside").rename(path.parent)


def link(path: Path) -> None:
    path.with_name("another").hardlink_to(path)


def test_verified_files_are_read_through_the_folder(root: Path) -> None:
    with verified_files(root, digests()) as anchor:
        assert [(anchor / name).read_text() for name in FILES] == list(FILES)
        root.rename(root.with_name("moved"))  # the folder itself is pinned, wherever it goes
        assert (anchor / FILES[0]).read_text() == FILES[0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [swap_and_swap_back, overwrite_and_restore, link])
def test_a_change_while_they_are_used_is_noticed_even_if_it_is_undone(
    root: Path, name: str, change: Callable[[Path], None]
) -> None:
    with pytest.raises(FilesChanged), verified_files(root, digests()):
        change(root / name)


def test_folders_that_are_exchanged_are_noticed(root: Path) -> None:
    with pytest.raises(FilesChanged), verified_files(root, digests()):
        swap_folders(root / "version" / "deep" / "w.bin")


def test_a_folder_that_is_exchanged_as_a_whole_is_not_followed(root: Path) -> None:
    with verified_files(root, digests()) as anchor:
        root.rename(root.with_name("aside"))
        (root / "version").mkdir(parents=True)
        (root / FILES[0]).write_text("evil")
        assert (anchor / FILES[0]).read_text() == FILES[0]


@pytest.mark.parametrize("data", ["evil", "version/model.onnX", ""])
def test_other_bytes_are_refused(root: Path, data: str) -> None:
    (root / FILES[0]).write_text(data)
    with pytest.raises(DataLoss, match="does not match its digest"), verified_files(root, digests()):
        pass


def test_missing_files_and_folders_are_refused(root: Path) -> None:
    (root / FILES[1]).unlink()
    with pytest.raises(DataLoss, match="missing"), verified_files(root, digests()):
        pass
    with pytest.raises(DataLoss, match="missing"), verified_files(root / "none", digests()):
        pass


def test_links_and_pipes_are_refused(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "same"
    target.write_text(FILES[0])
    (root / FILES[0]).unlink()
    (root / FILES[0]).symlink_to(target)
    with pytest.raises(DataLoss), verified_files(root, digests()):
        pass
    (root / FILES[0]).unlink()
    os.mkfifo(root / FILES[0])
    with pytest.raises(DataLoss), verified_files(root, digests()):
        pass


def test_a_fault_within_the_block_stays_what_it_is(root: Path) -> None:
    def fail() -> None:
        swap_and_swap_back(root / FILES[0])
        raise KeyError

    with pytest.raises(KeyError), verified_files(root, digests()):
        fail()
