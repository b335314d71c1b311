"""Appends events to a file: one line of JSON each, synced."""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from penstock.control.sinks.base import SinkContext, SinkFault, json_bytes, path_of
from penstock.registry.records import Document


def append_to_file(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Append the event."""
    path = path_of(values["path"], context)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0, opener=_open_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # several models may write to one file
            _append(file.fileno(), json_bytes(event) + b"\n")
    except OSError as error:
        raise SinkFault(f"the file cannot be written: {error.strerror}") from None


def _open_private(path: str, flags: int) -> int:
    """Open a file that is made for its owner alone; a link at its end is not followed."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _append(file: int, line: bytes) -> None:
    """Append a line, whole or not at all; a partial line of an ended process does not damage later ones."""
    size = os.fstat(file).st_size
    torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
    rest = b"\n" * torn + line
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise
