"""Landlock: from now on this process reads, writes and connects only where it is allowed to.

The numbers are those of ``include/uapi/linux/landlock.h``; calls go through the C library, because Python has no
functions for them. Landlock holds for the thread that applies it and for those that it starts.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from penstock.core.confinement import NETWORK_ABI, SIGNALS_ABI

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REGULAR, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_TRUNCATE_ABI = 3
_NET_TCP = 0b11
_SCOPES = 0b11
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Number of rights on files in each ABI; later ones have 16."""

_READ = _READ_FILE | _READ_DIR
_WRITE: Final = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REGULAR | _TRUNCATE
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE
"""Rights that a rule for a file, and not for a folder, may have."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class AllowedPaths:
    """Files and folders that a process may read, and those in which it may also create, change and delete files."""

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()


def landlock_abi() -> int:
    """Return the version of Landlock in this kernel, 0 for none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)))


def restrict(paths: AllowedPaths) -> int:
    """Allow only these paths from now on, no TCP port, and no signal or abstract socket of other processes; return the
    version of Landlock that did it, 0 if none could. ``no_new_privs`` must be set.

    A path that does not exist gets no rule.
    """
    abi = landlock_abi()
    if not abi:
        return 0
    ruleset = _create(abi)
    if ruleset < 0:
        return 0
    try:
        _allow(ruleset, paths.readable, _READ)
        _allow(ruleset, paths.writable, _WRITE if abi >= _TRUNCATE_ABI else _WRITE & ~_TRUNCATE)
        return abi if _libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


def _create(abi: int) -> int:
    """Return a ruleset that forbids all that this version can forbid; negative if it cannot be created."""
    files = (1 << _FS_RIGHTS.get(abi, 16)) - 1
    attributes = struct.pack("QQQ", files, _NET_TCP if abi >= NETWORK_ABI else 0, _SCOPES if abi >= SIGNALS_ABI else 0)
    size = 24 if abi >= SIGNALS_ABI else 16 if abi >= NETWORK_ABI else 8
    return int(_libc.syscall(_CREATE_RULESET, attributes, size, 0))


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        with suppress(OSError):  # a missing path needs no rule
            _allow_path(ruleset, path, rights)


def _allow_path(ruleset: int, path: Path, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = rights if stat.S_ISDIR(os.fstat(handle).st_mode) else rights & _OF_FILES
        _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, handle), 0)
    finally:
        os.close(handle)
