"""Reads checkpoints that were kept elsewhere: signed notes one after another, or JSON of a sink or an export."""

import json
from collections.abc import Iterator
from typing import Any

from penstock.core.audit.notes import SignedCheckpoint, read_checkpoint, read_checkpoints
from penstock.core.errors import InvalidInput


def read_kept_checkpoints(text: str) -> list[SignedCheckpoint]:
    """Return the checkpoints in a text, none in an empty one; their signatures are not verified.

    It has signed notes, each with an empty line after it; or it is JSON: the body that a webhook received, or lines
    such as a file sink and ``penstock audit export`` write. Other events, and lines that are cut off, are left out.

    Raises:
        InvalidInput: one of them is not a checkpoint, or there is none.
    """
    if not text.lstrip().startswith("{"):
        return read_checkpoints(text)
    found = [read_checkpoint(note) for document in _parse_documents(text) if (note := _note_of(document))]
    if not found:
        raise InvalidInput("there is no checkpoint: expected signed notes, or events io.penstock.audit.checkpoint.v1")
    return found


def _parse_documents(text: str) -> Iterator[Any]:
    """Yield the JSON values of a text, which is one of them or has one on each line."""
    whole = _parse(text)
    yield from map(_parse, text.splitlines()) if whole is None else (whole,)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _note_of(document: Any) -> str:
    """Return the signed note in an event, in its data, or in a line of an export; "" without one."""
    if not isinstance(document, dict):
        return ""
    data = document.get("data", document)
    note = (data.get("note") or data.get("checkpoint")) if isinstance(data, dict) else None
    return note if isinstance(note, str) else ""
