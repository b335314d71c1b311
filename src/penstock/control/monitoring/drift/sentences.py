"""What the monitor found, in a sentence for logs and events: which column, since when, and by what evidence."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.monitor.drift_changes import QUALITY, DriftChange

MOST_COLUMNS = 8
"""Columns that a sentence names; events list all."""


def sentence(change: DriftChange, columns: Sequence[str]) -> str:
    """What has changed; ``columns`` are all that drift (or are not sound) after it."""
    if not change.begins:
        return f"{change.feature} {_over(change)}{_others(columns, change.feature, 'still affected')}"
    found = change.evidence
    parts = [f"{change.feature} {_begins(change)}"]
    if found.get("since"):
        parts.append(f"since {_time(found['since'])}")
    parts.append(f"with log evidence {found['log_e']:.1f} (an alarm needs {found['log_e_threshold']:.1f})")
    return " ".join(parts) + _sizes(found) + _others(columns, change.feature, "also affected")


def _begins(change: DriftChange) -> str:
    if change.about == QUALITY:
        return f"has more {change.evidence['kind'].replace('_', ' ')} values than its reference"
    return "drifts from its reference"


def _over(change: DriftChange) -> str:
    return "is sound again" if change.about == QUALITY else "looks like its reference again"


def _sizes(found: dict[str, Any]) -> str:
    """How much has changed, as far as the evidence says."""
    parts = []
    if found.get("psi_threshold") is not None:
        parts.append(
            f"PSI {found['psi']:.3f} over {found['rows']} rows (chance gives up to {found['psi_threshold']:.3f})"
        )
    if found.get("moved"):
        first = found["moved"][0]
        parts.append(f"most in bin {first['bin']} ({first['change']:+.1%})")
    if found.get("cause"):
        parts.append(f"cause: {found['cause']}")
    parts += [f"thresholds are wider because {reason['why']}" for reason in found.get("widened", [])]
    return "; " + ", ".join(parts) if parts else ""


def _others(columns: Sequence[str], own: str, word: str) -> str:
    others = [name for name in columns if name != own]
    if not others:
        return ""
    more = f" and {len(others) - MOST_COLUMNS} more" if len(others) > MOST_COLUMNS else ""
    return f"; {word}: {', '.join(others[:MOST_COLUMNS])}{more}"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
