"""Compares the registry with what the audit last stated about it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock.core.audit.statements import Document, Statement


@dataclass(frozen=True, slots=True)
class StateFinding:
    """A subject that the registry has otherwise than the audit states; ``model`` is "" for one that belongs to none."""

    model: str
    subject: str
    seq: int
    problem: str


VERSION_FIELDS: Final = (
    "model",
    "version",
    "digest",
    "size",
    "form",
    "files",
    "graph",
    "config",
    "created_at",
    "created_by",
    "metadata",
    "reason",
    "facts",
)
"""The columns of a version that never change; its digest covers these, and no column that a later release adds."""

REFERENCE_FIELDS: Final = ("model", "version", "digest", "source", "document")
SIGNATURE_FIELDS: Final = ("model", "version", "digest", "bundle", "signers", "added_at", "added_by")
APPROVAL_FIELDS: Final = ("model", "version", "actor", "digest", "at", "reason")
ALIAS_FIELDS: Final = ("model", "alias", "version", "before")
KEY_FIELDS: Final = ("id", "name", "digest", "roles", "models", "quota", "created", "created_by")
TRIAL_FIELDS: Final = ("id", "model", "kind", "open", "created_at", "created_by")
"""The columns of other rows that their digest covers. A key is revoked and expires, and a trial's document changes, by
entries of their own."""


def digest_of_row(row: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    """Return the digest of some columns of a row."""
    return digest_of_document({name: row[name] for name in fields})


def digest_of_version(row: Mapping[str, Any]) -> str:
    """Return the digest of what never changes of a version's row."""
    return digest_of_row(row, VERSION_FIELDS)


def digest_of_trial(row: Mapping[str, Any]) -> str:
    """Return the digest of a rollout or an experiment: its row and its specification, without its evidence."""
    part = row["document"].get(row["kind"])
    spec = part.get("spec") if isinstance(part, dict) else None
    return digest_of_document({**{name: row[name] for name in TRIAL_FIELDS}, "spec": spec})


def digest_of_document(document: Mapping[str, Any]) -> str:
    """Return the digest of JSON values."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def compare_state(
    stated: Mapping[str, Statement], present: Mapping[str, Document], complete: bool, now: float
) -> list[StateFinding]:
    """Return the subjects that differ at a time (seconds since the epoch); without the ``complete`` audit, those
    without a statement are left out."""
    findings = []
    for subject in sorted(stated.keys() | present.keys()):
        statement, found = stated.get(subject), present.get(subject)
        if statement is None and not complete:
            continue
        if statement is not None and found is None and now >= statement.absent_from:
            continue
        problem = _describe_difference(None if statement is None else statement.value, found)
        if problem:
            findings.append(StateFinding(_model_of(subject), subject, statement.seq if statement else 0, problem))
    return findings


def _model_of(subject: str) -> str:
    parts = subject.split("/")
    return parts[1] if parts[0] == "models" else ""


def _describe_difference(expected: Document | None, found: Document | None) -> str:
    if expected is None:
        return "" if found is None else "the registry has it, but the audit does not state it"
    if found is None:
        return "the audit states it, but the registry does not have it"
    names = sorted(name for name in expected if expected[name] != found.get(name))
    return f"it is not what the audit states: {', '.join(names)}" if names else ""
