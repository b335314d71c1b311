"""Scratch is there while it is used, gone afterwards, and swept once its process is; no deletion ends a job."""

import errno
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.engine.scratch import (
    IN_MEMORY,
    Scratch,
    delete_failures,
    is_scratch,
    scratch_file,
    scratch_folder,
    sweep,
    sweep_below,
    temporary_folder,
)

Make = Callable[[Path, str], Scratch]
MAKES = [scratch_file, scratch_folder]

HOLDING = """
import sys, time
from pathlib import Path
from penstock.engine.scratch import scratch_file, scratch_folder
file, folder = scratch_file(Path(sys.argv[1]), "a"), scratch_folder(Path(sys.argv[1]), "b")
file.write(b"half")
(folder.path / "below").mkdir()
(folder.path / "below" / "half").write_text("half")
print("made", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has made a file and a folder."""
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        yield process
        process.kill()


@pytest.mark.parametrize("make", MAKES)
def test_it_is_there_for_the_time_of_a_block(tmp_path: Path, make: Make) -> None:
    with make(tmp_path, "name") as path:
        assert path.parent == tmp_path
        assert is_scratch(path.name)
        assert path.name.startswith(".name.")
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", MAKES)
def test_only_this_user_may_see_it(tmp_path: Path, make: Make) -> None:
    with make(tmp_path, "name") as path:
        assert path.stat().st_mode & 0o077 == 0


def test_an_ordinary_file_has_the_mode_of_ordinary_files(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    with scratch_file(tmp_path, "name", 0o666) as path:
        assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_bytes_are_appended(tmp_path: Path) -> None:
    made = scratch_file(tmp_path, "name")
    made.write(b"first ")
    made.write(b"second")
    assert made.path.read_bytes() == b"first second"
    made.discard()


@pytest.mark.parametrize("make", MAKES)
def test_what_was_moved_elsewhere_stays(tmp_path: Path, make: Make) -> None:
    with make(tmp_path, "name") as path:
        path.rename(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_long_names_are_cut(tmp_path: Path) -> None:
    with scratch_file(tmp_path, "ä" * 200) as path:
        assert is_scratch(path.name)


@pytest.mark.parametrize("name", ["", ".a", "a.0123456789abcdef.penstock", ".a.01.penstock", ".a.0123456789abcdef"])
def test_other_names_are_no_scratch(name: str) -> None:
    assert not is_scratch(name)


def test_a_sweep_spares_what_is_used_here_or_elsewhere(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with scratch_file(tmp_path, "mine"), scratch_folder(tmp_path, "mine"):
        assert sweep(tmp_path) == 0
        assert len(list(tmp_path.iterdir())) == 4
    assert holder.poll() is None


def test_a_sweep_deletes_what_a_killed_process_left(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    (tmp_path / ".other.json").touch()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(tmp_path.iterdir())) == 3
    assert sweep(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == [".other.json"]


def left(folder: Path, make: Make = scratch_file) -> Path:
    """What a killed process would leave."""
    made = make(folder, "left")
    os.close(made.handle)
    return made.path


def test_folders_below_are_swept_but_contents_by_digest_and_scratch_in_use(tmp_path: Path) -> None:
    below, contents = tmp_path / "a" / "b", tmp_path / "blobs" / "sha256"
    below.mkdir(parents=True)
    contents.mkdir(parents=True)
    gone = [left(tmp_path), left(below), left(below, scratch_folder)]
    with scratch_folder(tmp_path, "used") as used:
        kept = [left(contents), left(used)]
        assert sweep_below(tmp_path) == 3
        assert not any(path.exists() for path in gone)
        assert all(path.exists() for path in kept)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / ".link.0123456789abcdef.penstock"
    link.symlink_to(target)
    assert sweep(tmp_path) == 0
    assert target.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    path = left(tmp_path)
    os.chown(path, 12345, 12345)
    assert sweep(tmp_path) == 0
    assert path.exists()


def test_a_missing_folder_has_no_scratch(tmp_path: Path) -> None:
    assert sweep(tmp_path / "missing") == sweep_below(tmp_path / "missing") == 0


@pytest.mark.parametrize("make", MAKES)
def test_what_cannot_be_deleted_is_counted_reported_once_and_swept_later(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = delete_failures()
    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr(os, "unlink", broken)
        patch.setattr(os, "rmdir", broken)
        for _ in range(3):
            with make(tmp_path, "name") as path:
                assert path.exists()
        assert sweep(tmp_path) == 0
    assert delete_failures() == before + 6
    assert [record.getMessage() for record in caplog.records] == [
        "scratch cannot be deleted: Input/output error; the janitor retries it"
    ]
    assert sweep(tmp_path) == 3
    with make(tmp_path, "name"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_fails_says_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "unlink", broken)
    with pytest.raises(ValueError, match="the job's own"), scratch_file(tmp_path, "name"):
        raise ValueError("the job's own")


def test_it_is_discarded_once(tmp_path: Path) -> None:
    made = scratch_file(tmp_path, "name")
    made.discard()
    other = os.open(tmp_path, os.O_RDONLY)
    made.discard()  # does not close what has its descriptor now
    os.fstat(other)
    os.close(other)


def test_the_temporary_folder_is_there() -> None:
    assert temporary_folder().is_dir()


def test_a_read_only_root_leaves_the_folder_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert temporary_folder() == IN_MEMORY
    assert IN_MEMORY.is_dir()
