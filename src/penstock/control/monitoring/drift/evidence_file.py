"""The file with the evidence of drift that a successor of this process goes on with, and with the events of it.

Both are written at once: a change that is known to the evidence has its event told, whenever the process ends.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.control.monitoring.drift.version_series import Carried, carried_in, carried_out
from penstock.core.versions import VersionKey
from penstock.engine.durable_files import write_atomically
from penstock.registry.stores.traffic import Event


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """Of one version: its reference's digest, its evidence (see ``VersionMonitor.kept``), and where its counters stood
    before that reference."""

    digest: str | None
    evidence: Any
    carried: Carried


ModelEvent = tuple[str, Event]
"""A model, and what is to be told of it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The evidence of all versions, and the events of the changes that it knows of, if they may not be told yet."""

    versions: dict[VersionKey, KeptEvidence]
    events: tuple[ModelEvent, ...] = ()


def read_evidence(file: Path) -> Kept:
    """What was written; nothing where it cannot be read."""
    try:
        values = json.loads(file.read_text())
        if isinstance(values, list):  # an older control process wrote no events
            values = {"versions": values, "events": []}
        versions = {
            (one["model"], one["version"]): KeptEvidence(
                one["digest"], one["evidence"], carried_in(one.get("carried", []))
            )
            for one in values["versions"]
        }
        return Kept(versions, tuple((str(model), Event(**event)) for model, event in values["events"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Kept({})


def write_evidence(file: Path, kept: Kept) -> None:
    """Write the evidence of all versions and the events of it, as far as the disk lets it."""
    versions = [
        {
            "model": model,
            "version": version,
            "digest": one.digest,
            "evidence": one.evidence,
            "carried": carried_out(one.carried),
        }
        for (model, version), one in kept.versions.items()
    ]
    events = [[model, asdict(event)] for model, event in kept.events]
    with suppress(OSError):
        write_atomically(file, json.dumps({"versions": versions, "events": events}))
