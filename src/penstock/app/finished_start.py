"""What a gateway does once it is ready, and no start waits for."""

from pathlib import Path

from penstock.app.hardening import tighten_contents
from penstock.control.retention import FILES, FOLDERS
from penstock.engine.start_memory import release_start_memory


def finish_start(home: Path, registry: str) -> None:
    """Take the rights of other users off the content of a home, and return the memory that only the start needed.

    It blocks, and may run on any thread.
    """
    tighten_contents(home, registry, FOLDERS, FILES)
    release_start_memory()
