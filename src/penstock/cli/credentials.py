"""The credential of a command: the token in the file that ``--token-file`` or the environment names."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.cli.console import ExitCode, fail

VARIABLE = "PENSTOCK_TOKEN_FILE"
LONGEST_TOKEN = 8192

_TOKEN = re.compile(rf"[A-Za-z0-9._~+/-]{{1,{LONGEST_TOKEN}}}=*", re.ASCII)
_files: list[Path] = []
"""The file of the present command, in a process that runs one at a time."""


@contextmanager
def using_token_file(file: Path | None) -> Iterator[None]:
    """Send the token in a file with every call of the block (None: no token)."""
    before, _files[:] = list(_files), [] if file is None else [file]
    try:
        yield
    finally:
        _files[:] = before


def read_authorization() -> str | None:
    """Return the value of the field ``authorization`` for a call, None without a token; the file is read each time, so
    that a token may be replaced while a command runs.

    Raises:
        typer.Exit: the file cannot be read, or has no token.
    """
    if not _files:
        return None
    file = _files[-1]
    try:
        with file.open("rb") as opened:
            token = opened.read(LONGEST_TOKEN + 100).decode("ascii", "replace").strip()
    except OSError as error:
        fail(f"the token file {file} cannot be read: {(error.strerror or 'error').lower()}", ExitCode.USAGE)
    if _TOKEN.fullmatch(token) is None:
        fail(f"the token file {file} must have one token, such as an API key, and nothing else", ExitCode.USAGE)
    return f"Bearer {token}"
