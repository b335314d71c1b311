"""The file with the evidence over time, in the gateway's home: counts and evidence begin anew with each instance, and
people still see what came before.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock.core.versions import VersionKey
from penstock.engine.durable_files import write_atomically

Histories = Mapping[VersionKey, tuple[str | None, Any]]
"""The digest of the reference and the evidence over time (see ``ColumnHistories.export_state``) by version."""


def read_histories(file: Path) -> Histories:
    """Read the file; nothing if that fails."""
    try:
        items = json.loads(file.read_text())
        return {(item["model"], item["version"]): (item["digest"], item["history"]) for item in items}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_histories(file: Path, histories: Histories) -> None:
    """Replace the file; a failed write is ignored, and what was written before stays."""
    items = [
        {"model": model, "version": version, "digest": digest, "history": history}
        for (model, version), (digest, history) in histories.items()
    ]
    with suppress(OSError):
        write_atomically(file, json.dumps(items))
