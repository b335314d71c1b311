"""Limits of the present process: memory, time, files, processes, privileges, and a network of its own.

Calls for which Python has no functions go through the C library; their numbers are those of ``linux/prctl.h``,
``linux/capability.h`` and ``linux/sched.h``.
"""

import ctypes
import os
import resource
import signal
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS, _PDEATHSIG = 38, 39, 1
_NEWNET, _NEWUSER = 0x40000000, 0x10000000
_CAPABILITY_VERSION = 0x20080522
_DAC_OVERRIDE: Final = 1 << 1
"""Access to files of other users, which a gateway of root has always had; Landlock still bounds it."""

SPARE_PROCESSES: Final = 512
"""Processes and threads of this user that may be started beyond the present ones."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Limits of a sandboxed process: additional memory (bytes), processor time (seconds), the size of a file that it
    writes (bytes; 0 for no written files), processes and threads of its user, and open files; None for no limit."""

    memory_bytes: int
    cpu_seconds: int | None = None
    file_bytes: int = 0
    processes: int | None = None
    open_files: int | None = None


def die_with_parent() -> None:
    """End this process when its parent ends."""
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def refuse_new_privileges() -> bool:
    """Let no program that this process executes gain privileges; return whether that holds."""
    _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(_libc.prctl(_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)


def drop_capabilities(keep_file_access: bool) -> None:
    """Give up the capabilities of root for good; with ``keep_file_access``, except access to files of other users."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    buffer = ctypes.create_string_buffer(24)
    if _libc.capget(header, buffer) != 0:
        return
    effective, permitted = struct.unpack_from("=2I", buffer.raw)
    kept = _DAC_OVERRIDE if keep_file_access else 0
    _libc.capset(header, struct.pack("=6I", effective & kept, permitted & kept, 0, 0, 0, 0))


def limit_process(limits: ResourceLimits) -> bool:
    """Limit this process, and let it write no core dumps; return whether its memory is limited."""
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    bounds = {
        resource.RLIMIT_AS: present + limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    for kind, bound in bounds.items():
        if bound is not None:
            early = kind == resource.RLIMIT_CPU  # a signal comes a second before the end, so that the cause is known
            _bound(kind, bound, early)
    return _is_bounded(resource.RLIMIT_AS, present + limits.memory_bytes)


def limit_data(memory_bytes: int) -> bool:
    """Limit the private writable memory of this process, all in all; return whether that holds. Mapped files, and
    addresses that are only reserved, do not count."""
    with suppress(ValueError, OSError):
        _bound(resource.RLIMIT_DATA, memory_bytes, early=False)
    return _is_bounded(resource.RLIMIT_DATA, memory_bytes)


def _bound(kind: int, bound: int, early: bool) -> None:
    hard = resource.getrlimit(kind)[1]
    wanted = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(kind, (wanted - early, wanted))


def _is_bounded(kind: int, bound: int) -> bool:
    soft = resource.getrlimit(kind)[0]
    return soft != resource.RLIM_INFINITY and soft <= bound


def without_network() -> bool:
    """Move into a new network namespace, where even loopback is down; return whether that is allowed."""
    flags = _NEWNET if os.geteuid() == 0 else _NEWNET | _NEWUSER
    return bool(_libc.unshare(flags) == 0)


def count_processes() -> int:
    """Return the number of processes and threads of this user."""
    total, own = 0, os.geteuid()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and process.stat().st_uid == own:
                total += sum(1 for _ in (process / "task").iterdir())
    return total
