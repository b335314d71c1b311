"""Scratch files and folders: the only module that makes temporary files, and that deletes those of killed processes.

The process that makes scratch holds its lock (``flock``) until it discards it. That distinguishes it from what a killed
process left, in containers too, where process ids of others mean nothing. Its name is ``.NAME.<16 hex
digits>.penstock``.
"""

import fcntl
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("penstock.engine")

MOST_NAME = 40
"""Maximum characters of a name that its scratch contains: a file name has at most 255 bytes."""

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - for names that nobody can guess, and folders of this user alone
"""Where temporary files go on a root that is read-only."""

CONTENTS = "sha256"
"""Folders of contents by digest, which may be many and hold no scratch."""

_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.penstock", re.DOTALL)
_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _DeleteFailures:
    """Counts scratch that could not be deleted, and logs each reason once."""

    def __init__(self) -> None:
        self.count = 0
        self._reported: str | None = None
        self._lock = threading.Lock()

    def report(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        with self._lock:
            self.count += 1
            is_new, self._reported = reason != self._reported, reason
        if is_new:
            log.warning("scratch cannot be deleted: %s; the janitor retries it", reason)

    def clear(self) -> None:
        with self._lock:
            self._reported = None


_failures = _DeleteFailures()


class Scratch:
    """A scratch file or folder at ``path``; ``handle`` is a descriptor that holds its lock. The context manager yields
    the path, and discards what is left at the end."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.handle = handle
        self._open = True

    def write(self, data: bytes) -> None:
        """Append bytes to a file; raises ``OSError``."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.handle, view) :]

    def discard(self) -> None:
        """Delete it, unless it was moved elsewhere; never raises: the next sweep retries what cannot be deleted."""
        if not self._open:
            return
        self._open = False
        try:
            _delete(self.path)
            _failures.clear()
        except OSError as error:
            _failures.report(error)
        with suppress(OSError):  # the lock ends in any case
            os.close(self.handle)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.discard()


def scratch_file(folder: Path, name: str, mode: int = 0o600) -> Scratch:
    """Create an empty file in ``folder``, with ``name`` in its name.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        path = _path_of(folder, name)
        handle = os.open(path, _FILE, mode)
        _lock(handle)
        if os.fstat(handle).st_nlink:  # else a sweep was quicker than the lock
            return Scratch(path, handle)
        os.close(handle)


def scratch_folder(folder: Path, name: str) -> Scratch:
    """Create an empty folder that only this user can access; raises as ``scratch_file``."""
    while True:
        path = _path_of(folder, name)
        path.mkdir(mode=0o700)
        with suppress(FileNotFoundError):  # a sweep was quicker than the lock
            handle = os.open(path, _LOOK | os.O_DIRECTORY)
            _lock(handle)
            if path.is_dir():
                return Scratch(path, handle)
            os.close(handle)


def temporary_folder() -> Path:
    """Return the folder of this machine for temporary files; where none can be written, as in a container with a
    read-only root, the one in memory.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return IN_MEMORY


def is_scratch(name: str) -> bool:
    """Whether a file or folder with this name is scratch."""
    return _NAME.fullmatch(name) is not None


def sweep(folder: Path) -> int:
    """Delete scratch in a folder whose process has ended; return the number. Never raises."""
    return sum(_sweep_path(path) for path in _list_files(folder) if is_scratch(path.name))


def sweep_below(root: Path) -> int:
    """Sweep a folder and all folders below it."""
    gone = 0
    for directory, folders, files in os.walk(root):
        gone += sum(_sweep_path(Path(directory, name)) for name in (*folders, *files) if is_scratch(name))
        folders[:] = [name for name in folders if not is_scratch(name) and name != CONTENTS]
    return gone


def delete_failures() -> int:
    """Return how often this process could not delete scratch."""
    return _failures.count


def _path_of(folder: Path, name: str) -> Path:
    return folder / f".{name[:MOST_NAME]}.{secrets.token_hex(8)}.penstock"


def _lock(handle: int) -> None:
    with suppress(OSError):  # where files cannot be locked, no sweep can either, so none deletes them
        fcntl.flock(handle, fcntl.LOCK_EX)


def _list_files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _sweep_path(path: Path) -> bool:
    """Delete one, if it belongs to this user and its lock is free."""
    try:
        handle = os.open(path, _LOOK)
    except OSError:  # gone meanwhile, or somebody else's
        return False
    try:
        return os.fstat(handle).st_uid == os.geteuid() and _is_unlocked(handle) and _try_delete(path)
    finally:
        os.close(handle)


def _is_unlocked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _try_delete(path: Path) -> bool:
    try:
        _delete(path)
    except OSError as error:
        _failures.report(error)
        return False
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
