"""What the audit last stated about versions, aliases, routes, policies, settings and references, and how the registry
differs from it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]

VERSION_ACTIONS: Final = ("version.add", "version.retire", "version.forget")
REFERENCE_ACTIONS: Final = ("reference.set", "reference.relearn", "reference.forget")
NO_STATEMENTS: Final = ("version.refuse",)
"""Actions about a subject that change nothing of it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The last statement about a subject (None: it does not exist), and the entry that made it."""

    seq: int
    value: Document | None


@dataclass(frozen=True, slots=True)
class StateFinding:
    """A subject that the registry has otherwise than the audit states."""

    model: str
    subject: str
    seq: int
    problem: str


class Statements:
    """The last statements, from entries in their order."""

    def __init__(self) -> None:
        self.by_subject: dict[str, Statement] = {}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take the next entry."""
        subject, action = str(entry["subject"]), str(entry["action"])
        if action not in NO_STATEMENTS and is_stated(subject):
            self.by_subject[subject] = Statement(int(entry["seq"]), self._value(subject, action, entry["after"]))

    def _value(self, subject: str, action: str, after: Any) -> Document | None:
        if action == "version.retire":
            before = self.by_subject.get(subject)
            return {**(before.value or {} if before else {}), **after}
        if action == "version.add":
            return {name: after[name] for name in ("digest", "record") if name in after} | {"standing": "admitted"}
        if action == "policy.set" and "record" in after:
            return {"record": after["record"]}  # its secrets may be masked
        return after if isinstance(after, dict) else None


def is_stated(subject: str) -> bool:
    """Whether entries about a subject state how it is: ``models/M/`` with a version, its reference, an alias, the
    route, the policy or the settings."""
    match subject.split("/"):
        case ["models", _, "route" | "policy" | "settings"]:
            return True
        case ["models", _, "versions" | "aliases", _]:
            return True
        case ["models", _, "versions", _, "reference"]:
            return True
        case _:
            return False


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


def digest_of_version(row: Mapping[str, Any]) -> str:
    """Return the digest of what never changes of a version's row."""
    return digest_of_document({name: row[name] for name in VERSION_FIELDS})


def digest_of_document(document: Mapping[str, Any]) -> str:
    """Return the digest of JSON values."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def compare_state(
    stated: Mapping[str, Statement], present: Mapping[str, Document], complete: bool
) -> list[StateFinding]:
    """Return the subjects that differ; without the ``complete`` audit, those without a statement are left out."""
    findings = []
    for subject in sorted(stated.keys() | present.keys()):
        statement = stated.get(subject)
        if statement is None and not complete:
            continue
        expected = None if statement is None else statement.value
        problem = _difference(expected, present.get(subject))
        if problem:
            model = subject.split("/")[1]
            findings.append(StateFinding(model, subject, 0 if statement is None else statement.seq, problem))
    return findings


def _difference(expected: Document | None, found: Document | None) -> str:
    if expected is None:
        return "" if found is None else "the registry has it, but the audit does not state it"
    if found is None:
        return "the audit states it, but the registry does not have it"
    names = sorted(name for name in expected if expected[name] != found.get(name))
    return f"it is not what the audit states: {', '.join(names)}" if names else ""


def count_models(subjects: Iterable[str]) -> int:
    """Return the number of models among subjects."""
    return len({subject.split("/")[1] for subject in subjects})
