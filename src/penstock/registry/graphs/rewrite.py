"""Rewrites of graphs for serving: small edits of the bytes of a graph, and the digest of the result.

The edits are found once, at admission, and stored, so that the result is the same wherever the content is materialized.
"""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from penstock.core.errors import DataLoss
from penstock.engine.scratch import scratch_file
from penstock.registry.blobs.folder import CHANGED, CHUNK, PREFIX, translating_errors

FACT = "rewrite"
"""The name of a rewrite among the facts of an admission report."""


@dataclass(frozen=True, slots=True)
class ByteEdit:
    """Replaces ``length`` bytes at ``offset`` of the original by ``data``."""

    offset: int
    length: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Edits by ascending offset, and the digest (``sha256:`` and hex) of the result."""

    edits: tuple[ByteEdit, ...]
    digest: str


def apply_edits(original: memoryview, edits: Sequence[ByteEdit]) -> Iterator[memoryview | bytes]:
    """Yield the edited bytes in pieces."""
    at = 0
    for edit in edits:
        yield original[at : edit.offset]
        yield edit.data
        at = edit.offset + edit.length
    yield original[at:]


def write_edited(source: Path, rewrite: Rewrite, target: Path) -> None:
    """Write the edited source to a read-only file, which may be the source itself.

    Raises:
        Damaged: the result does not match the digest, so the source has changed since admission.
        NotReady: the disk is full.
    """
    with translating_errors():
        made = scratch_file(target.parent, target.name)
    with made as scratch:
        _write_edited(source, rewrite, scratch)
        with translating_errors():
            scratch.replace(target)


def _write_edited(source: Path, rewrite: Rewrite, target: Path) -> None:
    hashed = hashlib.sha256()
    with translating_errors(), source.open("rb") as original, target.open("wb") as result:
        at = 0
        for edit in rewrite.edits:
            _copy(original, result, edit.offset - at, hashed)
            hashed.update(edit.data)
            result.write(edit.data)
            original.seek(edit.length, os.SEEK_CUR)
            at = edit.offset + edit.length
        _copy(original, result, -1, hashed)
        os.fchmod(result.fileno(), 0o400)
    if PREFIX + hashed.hexdigest() != rewrite.digest:
        raise DataLoss(CHANGED)


def _copy(source: IO[bytes], target: IO[bytes], size: int, hashed: Any) -> None:
    """Copy and hash ``size`` bytes, or all (-1)."""
    while size and (chunk := source.read(CHUNK if size < 0 else min(size, CHUNK))):
        hashed.update(chunk)
        target.write(chunk)
        size -= len(chunk) if size > 0 else 0


def encode_rewrite(rewrite: Rewrite) -> dict[str, Any]:
    """Return a rewrite as JSON values."""
    edits = [[edit.offset, edit.length, b64encode(edit.data).decode()] for edit in rewrite.edits]
    return {"digest": rewrite.digest, "edits": edits}


def decode_rewrite(facts: Mapping[str, Any]) -> Rewrite | None:
    """Return the rewrite among the facts of a report, None if the graph is served as it was pushed."""
    values = facts.get(FACT)
    if not isinstance(values, Mapping):
        return None
    edits = (ByteEdit(offset, length, b64decode(data)) for offset, length, data in values["edits"])
    return Rewrite(tuple(edits), values["digest"])
