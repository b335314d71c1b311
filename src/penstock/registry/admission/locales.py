"""The locales of this machine, which text operators need: their folders, their names, and the variables that select
one."""

import os
import stat
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/usr/lib/locale")
"""The folder in which the C library finds locales."""

VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "LOCPATH")
"""Environment variables that select the locale and its folder."""


def list_folders() -> list[Path]:
    """Return the folders that the operator has set, which the C library searches before its own."""
    return [Path(folder) for folder in os.environ.get("LOCPATH", "").split(":") if folder]


def describe_locales() -> str:
    """Return a description of the installed locales and the selected one; an archive is described by size and time."""
    selected = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return "; ".join([*selected, *(entry for folder in (*list_folders(), FOLDER) for entry in _list_entries(folder))])


def _list_entries(folder: Path) -> list[str]:
    entries = []
    with suppress(OSError):
        for entry in sorted(folder.iterdir()):
            facts = entry.stat()
            is_archive = stat.S_ISREG(facts.st_mode)
            entries.append(f"{entry.name} {facts.st_size} {facts.st_mtime_ns}" if is_archive else entry.name)
    return entries
