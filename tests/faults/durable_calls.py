"""Notes each durable call of the control process of a test, and kills the process at the one that ``order.json`` names.

A durable call is one that makes a change last: an fsync, a change of names in a folder, or a commit of the database.
Its site is what of the gateway's code leads to it on its thread. Nothing here is part of a gateway.
"""

import functools
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

CALLS = ("fsync", "fdatasync", "replace", "rename", "link", "unlink", "rmdir", "mkdir")
SOURCE = f"{os.sep}penstock{os.sep}"
GENERAL = (
    "engine/durable_files.py",
    "engine/scratch.py",
    "registry/db/",
    "control/calls/blocking.py",
    "engine/threads.py",
)
"""What others do durable things with: it tells nothing of a site."""

DEPTH = 3
MOST_ORDER = 10_000


class Watch:
    """Counts the calls of each site since an order was given; an order without a site has them noted only."""

    def __init__(self, folder: str) -> None:
        self._order = f"{folder}/order.json"
        self._calls = os.open(f"{folder}/calls.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._now: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()

    def meet(self, kind: str) -> str:
        """A call is about to be made; when to kill the process because of it: "before", "after" or "" (never)."""
        site = site_of(kind)
        with self._lock:
            order = self._read()
            if not order or not site:
                return ""
            if order != self._now:
                self._now = order
                self._counts.clear()
            self._counts[site] += 1
            line = {"step": order["step"], "site": site, "number": self._counts[site]}
            os.write(self._calls, json.dumps(line).encode() + b"\n")
        hit = site == order["site"] and line["number"] == order["number"]
        return str(order["when"]) if hit else ""

    def is_current(self) -> bool:
        """Whether the order that was met last still holds: a call may end long after the step that began it."""
        return bool(self._now) and self._read() == self._now

    def _read(self) -> dict[str, Any]:
        try:
            handle = os.open(self._order, os.O_RDONLY)
        except FileNotFoundError:
            return {}
        try:
            found: dict[str, Any] = json.loads(os.read(handle, MOST_ORDER) or b"{}")
        finally:
            os.close(handle)
        return found


def site_of(kind: str) -> str:
    """The kind of call, and the innermost functions of the gateway that lead to it; "" where it ends a question to the
    database, which changes nothing."""
    found: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < DEPTH:
        _, inside, path = frame.f_code.co_filename.rpartition(SOURCE)
        if path == "registry/db/database.py" and frame.f_code.co_name == "reading":
            return ""
        if inside and not path.startswith(GENERAL):
            found.append(f"{path}:{frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join([kind, *found])


def watched(watch: Watch, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which may be the last one."""

    @functools.wraps(call)
    def made(*arguments: Any, **keywords: Any) -> Any:
        when = watch.meet(kind)
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **keywords)
        if when == "after" and watch.is_current():
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return made


def replace(owner: object, name: str, call: Callable[..., Any]) -> None:
    setattr(owner, name, call)


def install(folder: str) -> None:
    """Watch this process; orders and notes are in ``folder``."""
    watch = Watch(folder)
    for name in CALLS:
        call = getattr(os, name)
        made = watched(watch, name, call)
        for known in (os.supports_dir_fd, os.supports_fd):
            if call in known:
                known.add(made)
        replace(os, name, made)
    replace(DefaultDialect, "do_commit", watched(watch, "commit", DefaultDialect.do_commit))
