"""Files that are hashed, and used only while they stay the very same: what is loaded is what was hashed.

The folder is pinned by a descriptor and reached through it (``/proc/self/fd``), so that nobody can exchange it. Each
file and each folder on the way to it is compared before and after by its identity, which holds the time of its last
change: the kernel sets that time whenever bytes, names or rights change, and no call can set it back (``ctime`` in
inode(7)). So a file that is swapped, and swapped back, is noticed too.
"""

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from penstock.core.errors import DataLoss
from penstock.registry.blobs.folder import CHANGED, GONE, PREFIX, fault_of, hash_descriptor

CLOCK_STEP_NS = 20_000_000
"""More than the longest step of the kernel's clock for times of files, nanoseconds."""

_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY

_Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of the bytes and of anything (nanoseconds)."""


class FilesChanged(DataLoss):
    """Files changed between the time they were hashed and the end of their use; another try may find them at rest."""


@contextmanager
def verified_files(root: Path, files: Sequence[tuple[str, str]]) -> Iterator[Path]:
    """Yield a path of the folder ``root`` through which its ``files`` (paths, and their SHA-256 in hex) are those with
    these digests.

    Raises:
        DataLoss: a file is missing, or has other bytes.
        FilesChanged: a file or a folder on the way to it changed while the block ran.
        NotReady: they cannot be read now.
    """
    handle = _open(root, _FOLDER)
    try:
        anchor = Path(f"/proc/self/fd/{handle}")
        identities = {path: _verify(anchor, path, digest) for path, digest in files}
        folders = {folder: _identify(anchor / folder) for path, _ in files for folder in _folders_of(path)}
        before = {**identities, **folders}
        _wait_for_clock(before.values())
        yield anchor
        for path, identity in before.items():
            if _identify(anchor / path) != identity:
                raise FilesChanged("its files changed while they were loaded")
    finally:
        os.close(handle)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise DataLoss(GONE) from None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link, which none of ours is
            raise DataLoss(CHANGED) from None
        raise fault_of(error) from None


def _verify(anchor: Path, path: str, digest: str) -> _Identity:
    """Return the identity of a file that has this digest."""
    handle = _open(anchor / path, _FILE)
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode) or hash_descriptor(handle) != PREFIX + digest:
            raise DataLoss(CHANGED)
        if _identity_of(os.fstat(handle)) != _identity_of(before):
            raise FilesChanged("its files changed while they were read")
    finally:
        os.close(handle)
    return _identity_of(before)


def _wait_for_clock(identities: Iterable[_Identity | None]) -> None:
    """Wait until a change gives another time than the last one did: the clock of file systems moves in steps."""
    newest = max((identity[-1] for identity in identities if identity is not None), default=0)
    fresh_ns = newest + CLOCK_STEP_NS - time.time_ns()
    if fresh_ns > 0:
        time.sleep(min(fresh_ns, CLOCK_STEP_NS) / 1e9)


def _folders_of(path: str) -> list[str]:
    """Return the folders between the root and a file."""
    return [str(folder) for folder in PurePosixPath(path).parents if folder != PurePosixPath()]


def _identify(path: Path) -> _Identity | None:
    try:
        return _identity_of(os.lstat(path))
    except OSError:
        return None


def _identity_of(facts: os.stat_result) -> _Identity:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
