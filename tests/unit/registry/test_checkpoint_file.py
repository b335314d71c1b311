"""The file of checkpoints: appended to, for its owner alone, and bounded."""

import stat
from pathlib import Path

import pytest

from penstock.core.audit.merkle import EMPTY_ROOT
from penstock.core.audit.notes import Checkpoint, SignedCheckpoint
from penstock.core.errors import DataLoss, NotReady
from penstock.registry import checkpoint_file
from penstock.registry.checkpoint_file import CheckpointFile
from penstock.registry.signing.note_keys import CheckpointKey

KEY = CheckpointKey(b"k" * 32)


def signed(size: int, origin: str = "penstock/id") -> SignedCheckpoint:
    return KEY.sign(Checkpoint(origin, size, EMPTY_ROOT))


def test_checkpoints_are_appended_and_read(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "audit-checkpoints.txt")
    assert (file.read(), file.last("penstock/id")) == ([], None)
    kept = [signed(1), signed(7, "penstock/other"), signed(3)]
    for checkpoint in kept:
        file.append(checkpoint)
    assert CheckpointFile(tmp_path / "audit-checkpoints.txt").read() == kept
    assert (file.last("penstock/id"), file.last("penstock/other")) == (kept[2].checkpoint, kept[1].checkpoint)
    assert stat.S_IMODE((tmp_path / "audit-checkpoints.txt").stat().st_mode) == 0o600


def test_a_long_file_becomes_the_older_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_file, "MOST_BYTES", 3 * len(signed(1).note))
    file = CheckpointFile(tmp_path / "audit-checkpoints.txt")
    for size in range(1, 8):
        file.append(signed(size))
    assert [item.checkpoint.size for item in file.read()] == [4, 5, 6, 7]
    assert {item.name for item in tmp_path.iterdir()} == {"audit-checkpoints.txt", "audit-checkpoints.1.txt"}


def test_a_file_that_was_changed_is_found(tmp_path: Path) -> None:
    path = tmp_path / "audit-checkpoints.txt"
    file = CheckpointFile(path)
    file.append(signed(1))
    path.write_text(path.read_text() + "more\n")
    with pytest.raises(DataLoss, match="was changed"):
        file.read()
    path.write_bytes(b"\xff")
    with pytest.raises(DataLoss, match="was changed"):
        file.read()


def test_a_file_that_cannot_be_written_or_read_says_so(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path)
    with pytest.raises(NotReady):
        file.append(signed(1))
    with pytest.raises(NotReady):
        file.read()
