"""Describes a drift change in a sentence for logs and events: the column, the onset, and the evidence."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.monitor.drift_changes import QUALITY, DriftChange

MOST_COLUMNS = 8
"""The most columns in a sentence; events list all."""


def describe_change(change: DriftChange, columns: Sequence[str]) -> str:
    """Describe a change; ``columns`` are all that drift (or violate quality) after it."""
    if not change.begins:
        return f"{change.feature} {_recovered_text(change)}{_others_text(columns, change.feature, 'still affected')}"
    evidence = change.evidence
    parts = [f"{change.feature} {_describe_start(change)}"]
    if evidence.get("since"):
        parts.append(f"since {_duration_text(evidence['since'])}")
    parts.append(f"with log evidence {evidence['log_e']:.1f} (an alarm needs {evidence['log_e_threshold']:.1f})")
    return " ".join(parts) + _describe_sizes(evidence) + _others_text(columns, change.feature, "also affected")


def _describe_start(change: DriftChange) -> str:
    if change.about == QUALITY:
        return f"has more {change.evidence['kind'].replace('_', ' ')} values than its reference"
    return "drifts from its reference"


def _recovered_text(change: DriftChange) -> str:
    return "is sound again" if change.about == QUALITY else "looks like its reference again"


def _describe_sizes(evidence: dict[str, Any]) -> str:
    """Describe the size of the change, as far as the evidence has it."""
    parts = []
    if evidence.get("psi_threshold") is not None:
        parts.append(
            f"PSI {evidence['psi']:.3f} over {evidence['rows']} rows "
            f"(chance gives up to {evidence['psi_threshold']:.3f})"
        )
    if evidence.get("moved"):
        first = evidence["moved"][0]
        parts.append(f"most in bin {first['bin']} ({first['change']:+.1%})")
    if evidence.get("cause"):
        parts.append(f"cause: {evidence['cause']}")
    parts += [f"thresholds are wider because {reason['why']}" for reason in evidence.get("widened", [])]
    return "; " + ", ".join(parts) if parts else ""


def _others_text(columns: Sequence[str], own: str, word: str) -> str:
    others = [name for name in columns if name != own]
    if not others:
        return ""
    more = f" and {len(others) - MOST_COLUMNS} more" if len(others) > MOST_COLUMNS else ""
    return f"; {word}: {', '.join(others[:MOST_COLUMNS])}{more}"


def _duration_text(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
