"""The locales of this machine, which text operators need: where they lie, which there are, what chooses one."""

import os
import stat
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/usr/lib/locale")
"""Where the C library finds locales."""

VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "LOCPATH")
"""What decides, in the environment, which locale is used and where it is found."""


def folders() -> list[Path]:
    """Where the C library looks for locales before its own folder, if the operator says so."""
    return [Path(folder) for folder in os.environ.get("LOCPATH", "").split(":") if folder]


def installed() -> str:
    """The locales there are, and which one is chosen; an archive of locales is told by its size and age."""
    chosen = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return "; ".join([*chosen, *(one for folder in (*folders(), FOLDER) for one in _entries(folder))])


def _entries(folder: Path) -> list[str]:
    found = []
    with suppress(OSError):
        for entry in sorted(folder.iterdir()):
            facts = entry.stat()
            is_archive = stat.S_ISREG(facts.st_mode)
            found.append(f"{entry.name} {facts.st_size} {facts.st_mtime_ns}" if is_archive else entry.name)
    return found
