"""A sandbox of admission that remembers what it has admitted: hundreds of gateways of tests serve the same few models.

The first gateway of a process of tests has each content examined as a user's has. Later ones get that report where
everything that an examination reads is the same. Nothing else is remembered: what was refused, has crashed or took too
long is examined each time.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock.registry.admission.sandbox import Sandbox

MOST_BYTES = 4 << 20
"""A larger content is examined: to read it would take long."""

FOLDERS = ("weights", "base")
LIMITS = ("work", "config", "seconds", "patience", "memory_bytes", "required")


class RememberingSandbox(Sandbox):
    """A sandbox with its reports on what it has admitted, one file for each in ``folder``."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._known: dict[int, Path] = {}
        folder.mkdir(exist_ok=True)

    def _begin(self, order: dict[str, Any]) -> None:
        with suppress(OSError, ValueError):
            file = self._known[order["number"]] = self._folder / identify(order)
            report = json.loads(file.read_bytes())
            return self._reply({"number": order["number"], "timed_out": False, "code": 0, "report": report})
        return super()._begin(order)

    def _finish(self, child: Any, timed_out: bool) -> None:
        file = self._known.pop(child.number, None)
        if file is not None and not timed_out and is_admitted(child.answer):
            scratch = file.with_name(f"{file.name}.{os.getpid()}")
            scratch.write_bytes(child.answer)
            scratch.replace(file)
        super()._finish(child, timed_out)


def is_admitted(answer: bytes | bytearray) -> bool:
    """Return whether a whole answer says that a content may serve."""
    try:
        return bool(json.loads(answer).get("reason") == "")
    except ValueError:
        return False


def identify(order: Mapping[str, Any]) -> str:
    """Return a name for all that decides about an order: files, configuration, limits, environment and rights.

    Raises:
        ValueError: its content is large, or has other things than files.
    """
    folders = {name: list(_files(Path(order[name]))) for name in FOLDERS if order[name]}
    graph = Path(order["graph"])
    rights = os.getresuid(), os.getresgid(), sorted(os.getgroups()), _namespaces(), sorted(os.environ.items())
    parts = [order[name] for name in LIMITS], graph.name, _digest(graph), folders, rights
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _namespaces() -> list[str]:
    return [str(path.readlink()) for path in sorted(Path("/proc/self/ns").iterdir())]


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            yield str(path.relative_to(folder)), _digest(path)


def _digest(file: Path) -> str:
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > MOST_BYTES:
        raise ValueError(file.name)
    return hashlib.sha256(file.read_bytes()).hexdigest()
