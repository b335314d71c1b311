"""A repository as a tree of folders and files, on this machine or in a bucket."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from penstock.core.errors import FaultReason

LOST = FaultReason("it is a link to nothing")


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a folder; the ``tag`` of a file changes when its content may have changed, and ``problem`` says why
    the entry cannot be used (None: it can)."""

    name: str
    is_folder: bool
    tag: str = ""
    problem: FaultReason | None = None


class FileTree(Protocol):
    """Folders and files by their paths below a root ("" is the root); every method blocks.

    All methods raise ``NotReady`` while the repository cannot be reached.
    """

    name: str
    """Its path or URL, for operators."""

    def refresh(self) -> None:
        """Read the present state of the repository.

        Raises:
            InvalidInput: there is no such repository.
        """

    def entries(self, folder: str) -> Sequence[TreeEntry]:
        """Return the entries of a folder by name, without hidden ones; none if there is no such folder."""

    def read(self, path: str, what: str) -> str:
        """Return the text of a file; ``what`` names it in messages.

        Raises:
            InvalidInput: it is missing, too long, or not text.
        """

    def copy(self, path: str, target: Path, limit: int) -> None:
        """Copy a file of at most ``limit`` bytes into a new file.

        Raises:
            InvalidInput: it is missing, or leads out of the repository.
            TooLarge: it is longer.
            NotReady: the disk is full, or the file changed meanwhile.
        """


def find(tree: FileTree, path: str) -> TreeEntry | None:
    """Return the entry at a path, None without one; no part of a path may lead up."""
    folder = ""
    entry: TreeEntry | None = None
    for part in PurePosixPath(path).parts:
        if entry is not None and not entry.is_folder:
            return None
        entry = next((item for item in tree.entries(folder) if item.name == part), None)
        if entry is None:
            return None
        folder = join_path(folder, part)
    return entry


def join_path(folder: str, name: str) -> str:
    """Return the path of an entry in a folder."""
    return f"{folder}/{name}" if folder else name
