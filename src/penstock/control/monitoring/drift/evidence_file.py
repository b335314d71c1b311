"""The file with the evidence of drift and its events, with which the next control process continues.

Both are written at once: each change in the evidence has its event emitted, whenever the process ends.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.control.monitoring.drift.version_series import Carried, decode_carried, encode_carried
from penstock.core.versions import VersionKey
from penstock.engine.durable_files import write_atomically
from penstock.registry.stores.traffic import TrialEvent


@dataclass(frozen=True, slots=True)
class VersionEvidence:
    """The evidence of one version (see ``VersionMonitor.export_state``), the digest of its reference, and the values of
    its counters before that reference."""

    digest: str | None
    evidence: Any
    carried: Carried


ModelEvent = tuple[str, TrialEvent]
"""A model and an event on it."""


@dataclass(frozen=True, slots=True)
class EvidenceSnapshot:
    """The evidence of all versions, and the events of its changes that may not be emitted yet."""

    versions: dict[VersionKey, VersionEvidence]
    events: tuple[ModelEvent, ...] = ()


def read_evidence(file: Path) -> EvidenceSnapshot:
    """Read the file; empty evidence if that fails."""
    try:
        values = json.loads(file.read_text())
        if isinstance(values, list):  # an older control process wrote no events
            values = {"versions": values, "events": []}
        versions = {
            (version["model"], version["version"]): VersionEvidence(
                version["digest"], version["evidence"], decode_carried(version.get("carried", []))
            )
            for version in values["versions"]
        }
        return EvidenceSnapshot(versions, tuple((str(model), TrialEvent(**event)) for model, event in values["events"]))
    except (OSError, ValueError, KeyError, TypeError):
        return EvidenceSnapshot({})


def write_evidence(file: Path, snapshot: EvidenceSnapshot) -> None:
    """Write the evidence of all versions and its events; a failed write is ignored."""
    versions = [
        {
            "model": model,
            "version": version,
            "digest": item.digest,
            "evidence": item.evidence,
            "carried": encode_carried(item.carried),
        }
        for (model, version), item in snapshot.versions.items()
    ]
    events = [[model, asdict(event)] for model, event in snapshot.events]
    with suppress(OSError):
        write_atomically(file, json.dumps({"versions": versions, "events": events}))
