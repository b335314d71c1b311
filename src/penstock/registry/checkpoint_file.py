"""The file of a home with the checkpoints that its gateway has seen: it is only appended to, and one older part is
kept."""

import os
from contextlib import suppress
from pathlib import Path

from penstock.core.audit.notes import Checkpoint, SignedCheckpoint, read_checkpoints
from penstock.core.errors import DataLoss, InvalidInput, NotReady, storage_fault

MOST_BYTES = 16 << 20
"""A longer file becomes the older part, in place of the one before: together about 100,000 checkpoints."""

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class CheckpointFile:
    """Checkpoints, oldest first, each with an empty line after it; only the gateway's user can read the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older = path.with_name(f"{path.stem}.1{path.suffix}")

    def append(self, signed: SignedCheckpoint) -> None:
        """Append a checkpoint durably.

        Raises:
            NotReady: the disk is full, or the file cannot be written.
        """
        try:
            handle = os.open(self._path, _APPEND, 0o600)
            try:
                os.write(handle, f"{signed.note}\n".encode())
                os.fsync(handle)
                size = os.fstat(handle).st_size
            finally:
                os.close(handle)
            if size > MOST_BYTES:
                self._path.replace(self._older)
        except OSError as error:
            raise storage_fault(error) or NotReady("the file of checkpoints cannot be written", str(error)) from None

    def read(self) -> list[SignedCheckpoint]:
        """Return all checkpoints.

        Raises:
            DataLoss: the file was changed: it has something else.
            NotReady: it cannot be read.
        """
        return [signed for path in (self._older, self._path) for signed in read_file(path)]

    def last(self, origin: str) -> Checkpoint | None:
        """Return the largest checkpoint of a log, None without one; raises as ``read``."""
        found = (item.checkpoint for item in self.read() if item.checkpoint.origin == origin)
        return max(found, key=lambda checkpoint: checkpoint.size, default=None)


def read_file(path: Path) -> list[SignedCheckpoint]:
    """Return the checkpoints of a file, none if it does not exist; raises as ``CheckpointFile.read``."""
    text = ""
    try:
        with suppress(FileNotFoundError):
            text = path.read_text("utf-8")
        return read_checkpoints(text)
    except (InvalidInput, UnicodeDecodeError):
        raise DataLoss("the file of checkpoints was changed: it does not have checkpoints alone") from None
    except OSError as error:
        raise NotReady("the file of checkpoints cannot be read", str(error)) from None
