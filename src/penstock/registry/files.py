"""Reading what lies beside a model: only beneath its own folder, only so much, and no name in any fault."""

import os
from pathlib import Path, PurePosixPath
from typing import Protocol

from penstock.core.errors import InvalidInput

MAX_TEXT_BYTES = 16 << 20
MAX_DATA_BYTES = 1 << 30


def beneath(folder: Path, relative: str, what: str) -> Path:
    """The existing file at ``relative`` inside ``folder``, also after every symbolic link is followed.

    Raises:
        InvalidInput: the file is missing, no plain file, or lies outside the folder; ``what`` names it.
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
    """Refuse a name that leads out of a folder or nowhere; raises ``InvalidInput``, where ``what`` names it."""
    parts = PurePosixPath(relative).parts
    if not parts or ".." in parts or PurePosixPath(relative).is_absolute() or "\0" in relative:
        raise InvalidInput(f"{what} must be a relative name inside the model's folder")


class ModelFiles(Protocol):
    """The files that a model's configuration names, by their names below the model's folder.

    Both methods raise ``InvalidInput`` where there is no such file; ``what`` names it.
    """

    def text(self, relative: str, what: str) -> str:
        """The text of a file."""

    def data(self, relative: str, what: str) -> bytes:
        """The bytes of a file."""


class FilesBeneath:
    """Files in a folder of this machine; see ``ModelFiles``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def text(self, relative: str, what: str) -> str:
        """See ``ModelFiles``."""
        return read_text(beneath(self._folder, relative, what), what)

    def data(self, relative: str, what: str) -> bytes:
        """See ``ModelFiles``."""
        return read_data(beneath(self._folder, relative, what), what)


class NamesOnly:
    """Takes note of what is named, and reads nothing; see ``ModelFiles``."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def text(self, relative: str, what: str) -> str:
        """Nothing, of the file that is named now."""
        check_relative(relative, what)
        self.names.append(relative)
        return ""

    def data(self, relative: str, what: str) -> bytes:
        """Nothing, of the file that is named now."""
        return self.text(relative, what).encode()


def read_data(path: Path, what: str, limit: int = MAX_DATA_BYTES) -> bytes:
    """The bytes of a file.

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
    """The text of a file.

    Raises:
        InvalidInput: it cannot be read, is too long, or is not UTF-8.
    """
    try:
        return read_data(path, what, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{what} is not UTF-8 text") from None
