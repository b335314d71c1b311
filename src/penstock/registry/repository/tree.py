"""A repository as folders and files: what layouts are read from, whether it lies on this machine or in a bucket."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from penstock.core.errors import Reason

LOST = Reason("it is a link to nothing")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder; ``tag`` of a file changes when its bytes may have, ``problem`` says why it is not to be
    used (None = it may be)."""

    name: str
    is_folder: bool
    tag: str = ""
    problem: Reason | None = None


class Tree(Protocol):
    """Folders and files by their paths below a root ("" is the root); every method blocks.

    All raise ``NotReady`` while they cannot be reached.
    """

    name: str
    """What operators call it."""

    def look(self) -> None:
        """Take note of what is there now.

        Raises:
            InvalidInput: there is no such repository.
        """

    def entries(self, folder: str) -> Sequence[Entry]:
        """What lies in a folder, by name, hidden things left out; nothing where there is no such folder."""

    def read(self, path: str, what: str) -> str:
        """The text of a file; ``what`` names it.

        Raises:
            InvalidInput: it is missing, too long, or no text.
        """

    def copy(self, path: str, target: Path, limit: int) -> None:
        """Write a file's bytes, at most ``limit`` of them, into a new one.

        Raises:
            InvalidInput: it is missing, or leads out of the repository.
            TooLarge: it is longer.
            NotReady: there is no room, or the file changed meanwhile.
        """


def find(tree: Tree, path: str) -> Entry | None:
    """The entry at a path, None if there is none; no part of a path may lead up."""
    folder = ""
    found: Entry | None = None
    for part in PurePosixPath(path).parts:
        if found is not None and not found.is_folder:
            return None
        found = next((entry for entry in tree.entries(folder) if entry.name == part), None)
        if found is None:
            return None
        folder = below(folder, part)
    return found


def below(folder: str, name: str) -> str:
    """The path of something in a folder."""
    return f"{folder}/{name}" if folder else name
