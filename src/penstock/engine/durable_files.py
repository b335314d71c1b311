"""Replaces files and folders atomically: readers see the old or the new one, even after a power loss."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.engine.scratch import scratch_file

EVERYBODY = 0o666
"""The mode of ordinary files before the process's umask."""


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a file beside ``path`` that replaces it when the block ends; it is removed if the block fails.

    Raises:
        OSError: it cannot be written; what was at ``path`` stays.
    """
    with scratch_file(path.parent, path.name, EVERYBODY) as scratch:
        yield scratch
        sync(scratch)
        scratch.replace(path)
    sync(path.parent)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text atomically; raises ``OSError`` as ``replace_file``."""
    with replace_file(path) as scratch:
        scratch.write_text(text)


def sync(path: Path) -> None:
    """Write a file's bytes, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Write a folder and everything below it to the disk; links are skipped."""
    for directory, _, names in os.walk(folder):
        for path in (Path(directory, name) for name in names):
            if path.is_file() and not path.is_symlink():
                sync(path)
        sync(Path(directory))


def move_folder(source: Path, target: Path) -> bool:
    """Move a folder with its content durably to a free path; return False if another one is there already.

    Raises:
        OSError: it cannot be moved.
    """
    sync_tree(source)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    sync(target.parent)
    return True
