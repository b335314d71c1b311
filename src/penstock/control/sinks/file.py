"""Events to a file: one line of JSON each, synced."""

import os
from collections.abc import Mapping
from typing import Any

from penstock.control.sinks.base import SinkContext, SinkFault, json_bytes, path_of
from penstock.registry.records import Document


def append_to_file(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Append the event."""
    path = path_of(values["path"], context)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(json_bytes(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SinkFault(f"the file cannot be written: {error.strerror}") from None
