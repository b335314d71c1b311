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
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # several models may write to one file
            _append(file.fileno(), json_bytes(event) + b"\n")
    except OSError as error:
        raise SinkFault(f"the file cannot be written: {error.strerror}") from None


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
