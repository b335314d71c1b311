"""Where running instances keep what their processes share: a private directory in memory for each home.

The layout is known only here: ``<base>/<home digest>/<instance>/`` with ``lock`` (held by the control process),
``control.sock``, ``instance.json`` (fixed for the instance's life), ``state.json`` (what must outlive the control
process) and one ``slot-N`` for each worker.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from penstock.engine.durable_files import write_atomically
from penstock.engine.scratch import temporary_folder

LOCK_WAIT_S = 5.0
BASE_BYTES = 64
"""Maximum length of a base folder: a socket's whole path must fit the kernel's 108 bytes."""


class RuntimeUnavailable(Exception):
    """There is no folder for the shared files; the text says why."""


def list_bases(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Return the folders for runtime directories, best first: in memory, the user's own, the temporary folder."""
    places = [Path("/dev/shm") / f"penstock-{uid}"]  # noqa: S108 - private() refuses whatever is not ours alone
    if session := environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(session) / "penstock")
    return [*places, temporary_folder() / f"penstock-{uid}"]


def make_private(path: Path) -> Path:
    """Create a directory that only this user may enter, or check that an existing one is.

    Raises:
        PermissionError: it is a link, or belongs to somebody else, or others may enter it.
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(errno.EPERM, "not a directory of this user alone", str(path))
    return path


def open_homes(home: Path, places: Sequence[Path]) -> list[Path]:
    """Return the directories of one home, one below each trusted base; best first.

    Raises:
        RuntimeUnavailable: none can.
    """
    digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    homes, refusals = [], []
    for path in places:
        if len(os.fsencode(path)) > BASE_BYTES:
            continue
        try:
            homes.append(make_private(make_private(path) / digest))
        except OSError as error:
            refusals.append(f"{path}: {error.strerror}")
    if not homes:
        raise RuntimeUnavailable(f"no private runtime directory can be made ({'; '.join(refusals)})")
    return homes


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold a file's lock while a block runs.

    Raises:
        RuntimeUnavailable: somebody else holds it for longer than a moment.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    while (handle := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise RuntimeUnavailable("another penstock holds the runtime directory; try again")
        time.sleep(0.01)
    try:
        yield
    finally:
        os.close(handle)


def try_lock(path: Path) -> int | None:
    """Return an open descriptor that holds the file's lock, or None if another process holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


class Instance:
    """The directory of one instance; ``lock`` is the descriptor that makes this process its control process."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        self.path = path
        self._lock = lock

    @property
    def socket(self) -> Path:
        """Return the socket on which the control process listens for its workers."""
        return self.path / "control.sock"

    def slot(self, index: int) -> Path:
        """Return a worker's counter file."""
        return self.path / f"slot-{index}"

    def slots(self) -> list[Path]:
        """Return all counter files."""
        return sorted(self.path.glob("slot-*"))

    def write(self, name: str, document: Mapping[str, Any]) -> None:
        """Store a JSON document atomically."""
        write_atomically(self.path / f"{name}.json", json.dumps(document))

    def read(self, name: str) -> dict[str, Any]:
        """Return a stored JSON document, empty if it is missing or unreadable."""
        try:
            document = json.loads((self.path / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def release(self) -> None:
        """Stop being its control process; workers continue for their grace time."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Delete the directory, and the home's with its last instance; no process may use it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.path.parent.rmdir()
        self.release()


def create(home: Path) -> Instance:
    """Create an empty instance that this process controls; the caller holds the home's lock."""
    path = make_private(make_private(home) / secrets.token_hex(4))
    return Instance(path, try_lock(path / "lock"))


def take_abandoned(home: Path) -> list[Instance]:
    """Return instances without a control process, now controlled by this one; the caller holds the home's lock."""
    locks = ((path, _lock_of(path)) for path in sorted(make_private(home).iterdir()) if path.is_dir())
    return [Instance(path, lock) for path, lock in locks if lock is not None]


def list_neighbours(home: Path) -> list[Path]:
    """Return the other homes of this user below the same base."""
    return [path for path in sorted(home.parent.iterdir()) if path != home and path.is_dir() and not path.is_symlink()]


def _lock_of(instance: Path) -> int | None:
    try:
        return try_lock(make_private(instance) / "lock")
    except OSError:  # it is being removed at this moment
        return None
