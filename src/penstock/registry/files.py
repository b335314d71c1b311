"""Reads the files beside a model: only within its own folder, of bounded size, and without paths in errors."""

import os
from pathlib import Path, PurePosixPath
from typing import Protocol

from penstock.core.errors import InvalidInput

MAX_TEXT_BYTES = 16 << 20
MAX_DATA_BYTES = 1 << 30


def find_beneath(folder: Path, relative: str, what: str) -> Path:
    """Return the existing file at ``relative`` in ``folder``, which it must not leave by symbolic links.

    Raises:
        InvalidInput: the file is missing, not a plain file, or outside the folder; ``what`` names it in the message.
    """
    check_relative(relative, what)
    try:
        path = (folder / relative).resolve(strict=True)
        inside = path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        raise InvalidInput(f"{what} is missing") from None
    if not inside:
        raise InvalidInput(f"{what} lies outside the model's folder")
    if not path.is_file():
        raise InvalidInput(f"{what} is not a plain file")
    return path


def check_relative(relative: str, what: str) -> None:
    """Check that a name stays within its folder; raises ``InvalidInput``, whose message names it as ``what``."""
    parts = PurePosixPath(relative).parts
    if not parts or ".." in parts or PurePosixPath(relative).is_absolute() or "\0" in relative:
        raise InvalidInput(f"{what} must be a relative name inside the model's folder")


class ModelFiles(Protocol):
    """The files that a model's configuration references, by their names below the model's folder.

    Both methods raise ``InvalidInput`` if there is no such file; ``what`` names it in the message.
    """

    def text(self, relative: str, what: str) -> str:
        """Return the text of a file."""

    def data(self, relative: str, what: str) -> bytes:
        """Return the bytes of a file."""


class FilesBeneath:
    """Files in a folder of this machine; see ``ModelFiles``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def text(self, relative: str, what: str) -> str:
        """See ``ModelFiles``."""
        return read_text(find_beneath(self._folder, relative, what), what)

    def data(self, relative: str, what: str) -> bytes:
        """See ``ModelFiles``."""
        return read_data(find_beneath(self._folder, relative, what), what)


class NamesOnly:
    """Collects the names of the files without reading them; see ``ModelFiles``."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def text(self, relative: str, what: str) -> str:
        """Collect the name, and return an empty text."""
        check_relative(relative, what)
        self.names.append(relative)
        return ""

    def data(self, relative: str, what: str) -> bytes:
        """Collect the name, and return no bytes."""
        return self.text(relative, what).encode()


def read_data(path: Path, what: str, limit: int = MAX_DATA_BYTES) -> bytes:
    """Return the bytes of a file.

    Raises:
        InvalidInput: it cannot be read, or is longer than ``limit`` bytes.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise InvalidInput(f"{what} is longer than {limit} bytes")
            return file.read(limit)
    except OSError:
        raise InvalidInput(f"{what} cannot be read") from None


def read_text(path: Path, what: str) -> str:
    """Return the text of a file.

    Raises:
        InvalidInput: it cannot be read, is too long, or is not UTF-8.
    """
    try:
        return read_data(path, what, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{what} is not UTF-8 text") from None
