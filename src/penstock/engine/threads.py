"""The cores that this process may use, and the priority of its threads.

Cores are the affinity mask, cut down by the quotas of control groups. ONNX Runtime looks at neither, so thread counts
are always set from here.
"""

import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

BACKGROUND: Final = 10
"""Niceness of threads that no caller waits for, added to that of the thread that starts them. Beside an event loop that
wants a whole core, such a thread gets about a tenth of it (docs/adr/0044)."""

_MOUNT = PurePosixPath("sys/fs/cgroup")


def lower_priority(niceness: int) -> None:
    """Lower the priority of the current thread: it runs when others are idle, more so with a greater ``niceness`` (1 to
    19).
    """
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + niceness))


def background_pool(threads: int | None, name: str) -> ThreadPoolExecutor:
    """Return a pool whose work comes after that of the event loops; ``None`` for the executor's own number of
    threads.
    """
    return ThreadPoolExecutor(threads, name, partial(lower_priority, BACKGROUND))


def read_cores(root: Path = Path("/")) -> int:
    """Return the whole cores that this process may use, at least 1; ``root`` is the parent of ``proc`` and ``sys``."""
    return count_cores(len(os.sched_getaffinity(0)), read_quotas(root))


def count_cores(affinity: int, quotas: Iterable[float]) -> int:
    """Return the whole cores under the smallest of the limits: half a core does not justify a thread."""
    return max(1, int(min((affinity, *quotas))))


def read_quotas(root: Path) -> list[float]:
    """Return the quotas (cores) of this process's control groups and all groups above them."""
    quotas: list[float | None] = []
    for folder in group_folders(text_of(root / "proc/self/cgroup"), "cpu"):
        quotas.append(quota_v2(text_of(root / folder / "cpu.max")))
        quotas.append(
            quota_v1(text_of(root / folder / "cpu.cfs_quota_us"), text_of(root / folder / "cpu.cfs_period_us"))
        )
    return [quota for quota in quotas if quota is not None]


def group_folders(groups: str, controller: str) -> list[PurePosixPath]:
    """Folders that may hold limits of a ``controller`` (``cpu``, ``memory``), for the text of ``/proc/self/cgroup``;
    innermost first.

    A container often sees its own group as the mount itself, so every path ends there.
    """
    folders: list[PurePosixPath] = []
    for line in groups.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            mounts = [_MOUNT, _MOUNT / "unified"]
        elif controller in controllers.split(","):
            mounts = [_MOUNT / controllers, _MOUNT / controller]
        else:
            continue
        inner = PurePosixPath(path.strip().lstrip("/"))
        folders += [mount / group for mount in mounts for group in (inner, *inner.parents)]
    return folders


def quota_v2(text: str) -> float | None:
    """Return the cores in a ``cpu.max`` file (``quota period``); ``None`` without a limit."""
    quota, _, period = text.strip().partition(" ")
    return _divide_quota(quota, period or "100000")


def quota_v1(quota: str, period: str) -> float | None:
    """Return the cores in the files ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``; ``None`` without a limit (-1)."""
    return _divide_quota(quota.strip(), period.strip())


def _divide_quota(quota: str, period: str) -> float | None:
    if not (quota.isdecimal() and period.isdecimal()) or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)


def text_of(path: Path) -> str:
    """Return the text of a small file, empty if it cannot be read."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
