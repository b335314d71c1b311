"""Removes rights from the present process for good: memory, time, files, network, as far as the kernel supports it.

The numbers of Landlock are those of ``include/uapi/linux/landlock.h``; calls go through the C library, because Python
has no functions for them.
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_NET_TCP = 0b11
_SCOPES = 0b11
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Number of rights on files in each ABI; later ones have 16."""

_NO_NEW_PRIVS, _PDEATHSIG = 38, 1
_NEWNET, _NEWUSER = 0x40000000, 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """End this process when its parent ends."""
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Limit this process: additional memory in bytes, processor time in seconds, no written files, no core dumps."""
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    bounds = {
        resource.RLIMIT_AS: present + memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
    }
    for kind, bound in bounds.items():
        hard = resource.getrlimit(kind)[1]
        wanted = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        early = kind == resource.RLIMIT_CPU  # a signal comes a second before the end, so that the cause is known
        resource.setrlimit(kind, (wanted - early, wanted))


def without_network() -> None:
    """Move into a new network namespace, where even loopback is down; stay if that is not allowed."""
    flags = _NEWNET if os.geteuid() == 0 else _NEWNET | _NEWUSER
    _libc.unshare(flags)


def landlock_abi() -> int:
    """Return the version of Landlock in this kernel, 0 for none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)))


def read_only(folders: Iterable[Path], files: Iterable[Path]) -> bool:
    """Allow only reading of these folders and files from now on, and no TCP; return False without Landlock."""
    abi = landlock_abi()
    _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not abi:
        return False
    rights = (1 << _FS_RIGHTS.get(abi, 16)) - 1
    attributes = struct.pack("QQQ", rights, _NET_TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return False
    for path in folders:
        _allow(ruleset, path, _READ_FILE | _READ_DIR)
    for path in files:
        _allow(ruleset, path, _READ_FILE)
    done = bool(_libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    os.close(ruleset)
    return done


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with suppress(OSError):  # a missing path needs no rule
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, handle), 0)
        finally:
            os.close(handle)
