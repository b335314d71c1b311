"""Keeps what a gateway writes from other users: the file mode mask, its home folder, and no core dumps."""

import logging
import os
import resource
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

log = logging.getLogger("penstock.app")

OTHERS = 0o077
_FILE = "sqlite:///"
"""What the registry begins with if it is a file, whose folder may hold anything."""

CORE_BYTES = 1
"""Limit of core dumps: below the smallest one. Unlike 0 it also stops the kernel from passing them to a program, where
``/proc/sys/kernel/core_pattern`` names one: see core(5) and ``do_coredump`` of Linux."""


def protect_process() -> None:
    """Let new files of this process and its children be its user's alone, and let none of them dump its memory."""
    os.umask(OTHERS)
    with suppress(ValueError, OSError):  # the hard limit is lower already
        resource.setrlimit(resource.RLIMIT_CORE, (CORE_BYTES, CORE_BYTES))


def provide_user_folder() -> None:
    """Let ``~`` mean the root folder for a user without an entry in the system, as container engines do."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def is_own_home(home: Path, registry: str) -> bool:
    """Whether a home is a folder for Penstock alone: not that of a database file, the user's own, or a shared one."""
    shared = {Path("/"), Path.home()}
    if registry.startswith(_FILE) or home in shared:
        return False
    return home.is_dir() and not home.stat().st_mode & stat.S_ISVTX


def tighten_home(home: Path, registry: str) -> None:
    """Take the rights of other users off a home that an earlier release, or somebody else, made with them.

    What cannot be changed is only logged: a volume may belong to another user.
    """
    try:
        if is_own_home(home, registry) and _tighten(home):
            log.info("other users had access to %s, and have none now", home)
    except OSError as error:
        log.warning("other users have access to %s: %s", home, (error.strerror or "error").lower())


def tighten_contents(home: Path, registry: str, folders: Iterable[str], files: Collection[str]) -> int:
    """Take the rights of other users off what Penstock keeps in a home: these folders, and files of these patterns.

    Whatever else is there stays as it is. Never raises.

    Returns:
        How many files and folders others had rights to.
    """
    found = 0
    for path in _walk_contents(home, folders, files) if is_own_home(home, registry) else ():
        with suppress(OSError):
            found += _tighten(path)
    return found


def _walk_contents(home: Path, folders: Iterable[str], files: Collection[str]) -> Iterator[Path]:
    for name in folders:
        folder = home / name
        if folder.is_dir() and not folder.is_symlink():
            yield folder
            for directory, *names in os.walk(folder):
                yield from (Path(directory, item) for below in names for item in below)
    with suppress(OSError):
        yield from [path for path in home.iterdir() if any(fnmatch(path.name, pattern) for pattern in files)]


def _tighten(path: Path) -> bool:
    """Take the rights of others off a file or folder; return whether they had any. Links stay."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode) or not mode & OTHERS:
        return False
    path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    return True
