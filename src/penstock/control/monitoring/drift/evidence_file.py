"""The file with the evidence of drift that a successor of this process goes on with."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.control.monitoring.drift.version_series import Carried, carried_in, carried_out
from penstock.engine.durable_files import write_atomically

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """Of one version: its reference's digest, its evidence (see ``VersionMonitor.kept``), and where its counters stood
    before that reference."""

    digest: str | None
    evidence: Any
    carried: Carried


def read_evidence(file: Path) -> dict[Key, KeptEvidence]:
    """What was written; nothing where it cannot be read."""
    try:
        return {
            (one["model"], one["version"]): KeptEvidence(
                one["digest"], one["evidence"], carried_in(one.get("carried", []))
            )
            for one in json.loads(file.read_text())
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_evidence(file: Path, kept: Sequence[tuple[Key, KeptEvidence]]) -> None:
    """Write the evidence of all versions, as far as the disk lets it."""
    values = [
        {
            "model": model,
            "version": version,
            "digest": one.digest,
            "evidence": one.evidence,
            "carried": carried_out(one.carried),
        }
        for (model, version), one in kept
    ]
    with suppress(OSError):
        write_atomically(file, json.dumps(values))
