"""Contents in a folder: received, kept for good, checked, and cleared away only when nobody needs them."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.core.errors import DataLoss, NotReady, TooLarge
from penstock.registry.blobs.folder import FolderBlobs, IncomingFile, hash_file
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.db.database import open_database
from penstock.registry.garbage_collection import collect
from penstock.registry.records import Author, Content, VersionRecord
from penstock.registry.stores.versions import VersionStore
from tests.budgets import THOROUGH

BY = Author("ann")


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def keep(blobs: FolderBlobs, tmp_path: Path, content: bytes) -> str:
    with IncomingFile(tmp_path / "blobs" / "incoming", 1 << 20) as incoming:
        incoming.write(content)
        incoming.close()
        blobs.keep(incoming.path, incoming.digest)
        return incoming.digest


def test_bytes_in_digest_out(blobs: FolderBlobs, tmp_path: Path) -> None:
    digest = keep(blobs, tmp_path, b"some bytes")
    assert digest == f"sha256:{hashlib.sha256(b'some bytes').hexdigest()}"
    assert blobs.fetch(digest).read_bytes() == b"some bytes"
    assert blobs.fetch(digest).stat().st_mode & 0o777 == 0o400
    blobs.check(digest)
    assert keep(blobs, tmp_path, b"some bytes") == digest
    assert [item for item, age in blobs.stored()] == [digest]
    assert not list((tmp_path / "blobs" / "incoming").iterdir())
    blobs.delete(digest)
    blobs.delete(digest)
    with pytest.raises(DataLoss, match="missing from the blob store"):
        blobs.fetch(digest)


def test_a_flipped_bit_is_found_and_a_push_of_the_same_bytes_makes_it_good(blobs: FolderBlobs, tmp_path: Path) -> None:
    digest = keep(blobs, tmp_path, b"some bytes")
    place = blobs.fetch(digest)
    place.chmod(0o600)
    place.write_bytes(b"rome bytes")
    with pytest.raises(DataLoss, match="does not match"):
        blobs.check(digest)
    keep(blobs, tmp_path, b"some bytes")
    blobs.check(digest)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "sha256:" + "g" * 64, "md5:" + "a" * 64])
def test_a_malformed_digest_has_no_path(blobs: FolderBlobs, digest: str) -> None:
    with pytest.raises(DataLoss):
        blobs.fetch(digest)


def test_what_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TooLarge), IncomingFile(tmp_path / "in", 3) as incoming:
        incoming.write(b"four")
    assert not list((tmp_path / "in").iterdir())


def test_what_a_dead_process_was_receiving_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "in" / ".unpacked.0123456789abcdef.penstock").mkdir(parents=True)
    (tmp_path / "in" / ".incoming.0123456789abcdef.penstock").write_bytes(b"half")
    with IncomingFile(tmp_path / "in", 10) as first, IncomingFile(tmp_path / "in", 10) as second:
        assert sorted((tmp_path / "in").iterdir()) == sorted([first.path, second.path])


def test_many_may_receive_at_once(tmp_path: Path) -> None:
    def receive(number: int) -> bool:
        with IncomingFile(tmp_path / "in", 100) as incoming:
            incoming.write(str(number).encode())
            incoming.close()
            return hash_file(incoming.path) == incoming.digest

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(receive, range(3000 if THOROUGH else 500)))


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system of a megabyte needs the right to mount one")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_says_so_and_leaves_nothing(tiny: Path) -> None:
    blobs = FolderBlobs(tiny / "blobs")
    with IncomingFile(tiny / "blobs" / "incoming", 1 << 30) as incoming:
        incoming.write(b"x" * 1000)
        incoming.close()
        blobs.keep(incoming.path, incoming.digest)
        kept = incoming.digest
    with (
        pytest.raises(NotReady, match="the disk is full"),
        IncomingFile(tiny / "blobs" / "incoming", 1 << 30) as incoming,
    ):
        incoming.write(b"x" * (2 << 20))
    assert not list((tiny / "blobs" / "incoming").iterdir())
    blobs.check(kept)
    fill(tiny / "filler")
    with pytest.raises(NotReady, match=r"free space|cannot be read or written"):
        open_database(f"sqlite:///{tiny / 'r.db'}", 2.0)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def test_a_folder_that_cannot_be_written_says_so() -> None:
    with pytest.raises(NotReady, match=r"only be read|cannot be read or written"):
        IncomingFile(Path("/proc/penstock"), 10)


def test_only_what_nobody_needs_is_cleared_away(blobs: FolderBlobs, tmp_path: Path) -> None:
    store = VersionStore(open_database(f"sqlite:///{tmp_path / 'r.db'}", 5.0))
    layout = ContentLayout(blobs, tmp_path / "unpacked")
    needed, leased, free = (keep(blobs, tmp_path, content) for content in (b"needed", b"leased", b"free"))
    store.add_version(VersionRecord("m", "1", Content(needed, 6, "onnx", ()), "2026", "ann"), BY)
    store.contents.lease(leased, 60.0)
    assert collect(store, blobs, layout, grace_s=3600.0) == []
    assert collect(store, blobs, layout, grace_s=0.0) == [free]
    assert sorted(digest for digest, _ in blobs.stored()) == sorted([needed, leased])
    assert collect(store, blobs, layout, grace_s=0.0) == []
