"""Ed25519 keys (RFC 8032) that sign checkpoints of the audit: the key file of a home, signatures and their validity."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from penstock.core.audit.notes import Checkpoint, NoteSignature, PublicKey, SignedCheckpoint
from penstock.core.errors import DataLoss, NotReady, storage_fault
from penstock.engine.durable_files import sync
from penstock.engine.scratch import scratch_file

MOST_BYTES = 1 << 14


class CheckpointKey:
    """A private key; only its public half is shown."""

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - on first use

        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "CheckpointKey()"

    def public_key(self, name: str) -> PublicKey:
        """Return the public key under the name of a log."""
        return PublicKey(name, self.public)

    def sign(self, checkpoint: Checkpoint) -> SignedCheckpoint:
        """Return a checkpoint signed under the name of its origin."""
        key = self.public_key(checkpoint.origin)
        signature = self._private.sign(checkpoint.text.encode())
        return SignedCheckpoint(checkpoint, (NoteSignature(key.name, key.key_id, signature),), checkpoint.text)


def is_valid(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a public key (32 bytes) has made a signature of a message."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - on first use
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - on first use

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_key(path: Path) -> CheckpointKey | None:
    """Return the key in a file, None without a file.

    Raises:
        NotReady: the file cannot be read, or other users can read it.
        DataLoss: it is not a key.
    """
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            content = file.read(MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotReady("the key of the audit cannot be read", str(error)) from None
    if is_open_to_others(state.st_mode, state.st_uid):
        raise NotReady("other users can read the key of the audit; allow only its owner: chmod 600", str(path))
    return CheckpointKey(_find_seed(content))


def is_open_to_others(mode: int, owner: int) -> bool:
    """Whether other users can use a file. The group may, if the file is root's: this is how container platforms mount
    secrets."""
    return bool(mode & (stat.S_IRWXO if owner == 0 else stat.S_IRWXG | stat.S_IRWXO))


def read_or_create_key(path: Path) -> CheckpointKey:
    """Return the key in a file, which is created with a new key if it does not exist; raises as ``read_key``."""
    key = read_key(path)
    if key is None:
        _create(path, secrets.token_bytes(32))
        key = read_key(path)
    if key is None:
        raise NotReady("the key of the audit was deleted just now")
    return key


def _create(path: Path, seed: bytes) -> None:
    """Create the file with its whole content, or not at all; a file that exists meanwhile stays."""
    try:
        with scratch_file(path.parent, path.name) as scratch:
            scratch.write_bytes(_make_pem(seed))
            sync(scratch)
            with suppress(FileExistsError):
                os.link(scratch, path)
        sync(path.parent)
    except OSError as error:
        raise storage_fault(error) or NotReady("the key of the audit cannot be written", str(error)) from None


def _make_pem(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - on first use
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - on first use

    return Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _find_seed(content: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - on first use
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - on first use

    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise DataLoss("the file with the key of the audit is not an Ed25519 private key (PEM)")
    return key.private_bytes_raw()
