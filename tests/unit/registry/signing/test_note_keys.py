"""Keys that sign checkpoints: made once, for their owner alone, and checked against RFC 8032."""

import stat
from pathlib import Path

import pytest

from penstock.core.audit.merkle import EMPTY_ROOT
from penstock.core.audit.notes import Checkpoint, is_signed, read_checkpoint, read_public_key
from penstock.core.errors import DataLoss, NotReady
from penstock.registry.signing.note_keys import (
    CheckpointKey,
    is_open_to_others,
    is_valid,
    read_key,
    read_or_create_key,
)

CHECKPOINT = Checkpoint("penstock/id", 0, EMPTY_ROOT)


def test_a_signature_is_that_of_rfc_8032() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # §7.1, test 1
    key = CheckpointKey(seed)
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24655141438e7a100b"
    )
    assert is_valid(key.public, signature, b"")
    assert not is_valid(key.public, signature, b"x")
    assert not is_valid(b"short", signature, b"")
    assert "9d61" not in repr(key)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    assert read_key(path) is None
    key = read_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_create_key(path).public == key.public
    assert [item.name for item in tmp_path.iterdir()] == ["audit.key"]


def test_a_checkpoint_is_signed_and_verified_with_the_public_key_alone(tmp_path: Path) -> None:
    key = read_or_create_key(tmp_path / "audit.key")
    note = key.sign(CHECKPOINT).note
    public = read_public_key(key.public_key("penstock/id").text)
    assert is_signed(read_checkpoint(note), [public], is_valid)
    assert not is_signed(read_checkpoint(note), [CheckpointKey(b"o" * 32).public_key("penstock/id")], is_valid)
    with pytest.raises(DataLoss):
        is_signed(read_checkpoint(note.replace("\n0\n", "\n1\n")), [public], is_valid)


@pytest.mark.parametrize(
    ("mode", "owner", "is_open"),
    [(0o600, 10001, False), (0o640, 10001, True), (0o604, 10001, True), (0o440, 0, False), (0o444, 0, True)],
)
def test_only_the_owner_and_of_mounted_secrets_the_group_may_read(mode: int, owner: int, is_open: bool) -> None:
    assert is_open_to_others(mode, owner) is is_open


def test_a_file_that_others_can_read_or_that_is_not_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    read_or_create_key(path)
    path.chmod(0o604)
    with pytest.raises(NotReady, match="chmod 600"):
        read_key(path)
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(DataLoss, match="Ed25519"):
        read_key(path)
    with pytest.raises(NotReady, match="cannot be read"):
        read_key(tmp_path)
    with pytest.raises(NotReady):
        read_or_create_key(tmp_path / "absent" / "audit.key")
