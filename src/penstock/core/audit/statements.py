"""What the audit last stated about each part of the registry's state: one statement for each row that it covers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

Document = dict[str, Any]
Entry = Mapping[str, Any]

VERSION_ACTIONS: Final = ("version.add", "version.retire", "version.forget")
EACH_ACTIONS: Final = ("signature.add", "signature.forget", "version.approve")
"""Actions of which every entry counts, not only the last one about a subject: each states another row."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The last statement about a subject (None: it does not exist), and the entry that made it. From ``absent_from`` on
    (seconds since the epoch) it may be gone, as retention deletes it without an entry."""

    seq: int
    value: Document | None
    absent_from: float = math.inf


class Statements:
    """The last statements by subject, from entries in their order.

    The subject of a signature is that of its version with ``/signatures/`` and the digest, that of an approval with
    ``/approvals/`` and the approver.
    """

    def __init__(self) -> None:
        self.by_subject: dict[str, Statement] = {}
        self._parts: dict[str, set[str]] = {}

    def add(self, entry: Entry) -> None:
        """Take the next entry."""
        subject, action = str(entry["subject"]), str(entry["action"])
        match kind_of(subject):
            case "":
                pass
            case "versions":
                self._add_version(entry, subject, action)
            case "signatures":
                self._add_signature(entry, subject, action)
            case "rollouts" | "experiments":
                self._add_trial(entry, subject)
            case "keys":
                self._add_key(entry, subject, action)
            case _:
                self._add_whole(entry, subject)

    def _add_whole(self, entry: Entry, subject: str) -> None:
        """Take an entry that states all of its subject; a policy's by its digest, as its secrets may be masked."""
        after = entry["after"]
        value = after if isinstance(after, dict) else None
        self._put(entry, subject, (value and _record_of(value)) or value)

    def _add_version(self, entry: Entry, subject: str, action: str) -> None:
        after = entry["after"]
        if action == "version.approve":
            value = {"digest": after["digest"], "reason": entry["reason"]} | _record_of(after)
            self._put_part(entry, subject, f"approvals/{entry['actor']}", value)
        elif action == "version.retire":
            self._put(entry, subject, {**self._value(subject), **after})
        elif action == "version.add":
            self._put(entry, subject, {"digest": after["digest"], "standing": "admitted"} | _record_of(after))
        elif action == "version.forget":
            self._put(entry, subject, None)
            for part in self._parts.get(subject, ()):
                self.by_subject[part] = replace(self.by_subject[part], absent_from=-math.inf)

    def _add_signature(self, entry: Entry, subject: str, action: str) -> None:
        version = subject.removesuffix("/signatures")
        if action == "signature.add":
            after = entry["after"]
            self._put_part(entry, version, f"signatures/{after['digest']}", dict(after))
        elif action == "signature.forget":
            self._put_part(entry, version, f"signatures/{entry['before']['digest']}", None)

    def _put_part(self, entry: Entry, version: str, part: str, value: Document | None) -> None:
        """State a signature or an approval. Before entries had the digest of the row, retention left no entry."""
        subject = f"{version}/{part}"
        self._put(entry, subject, value, math.inf if value is None or "record" in value else -math.inf)
        self._parts.setdefault(version, set()).add(subject)

    def _add_trial(self, entry: Entry, subject: str) -> None:
        """Take an entry about a rollout or an experiment; one that is closed is deleted in time."""
        after = entry["after"] or {}
        stated = {name: after[name] for name in ("open", "record") if name in after}
        self._put(entry, subject, stated, math.inf if stated.get("open") else -math.inf)

    def _add_key(self, entry: Entry, subject: str, action: str) -> None:
        """Take an entry about an API key; one that was revoked or has expired is deleted in time."""
        after = entry["after"] or {}
        if action == "key.revoke":
            self._put(entry, subject, {**self._value(subject), "revoked": True}, -math.inf)
            return
        if action == "key.expire":
            value = {**self._value(subject), "expires_at": after["expires_at"]}
        else:
            names = ("expires_at", "record") if "record" in after else ("expires_at", "name", "roles", "models")
            value = {name: after[name] for name in names} | {"revoked": False}
        if action == "key.rotate" and "record" not in after:  # the end of the keys that it replaced has no entry
            for key in entry["before"]["keys"]:
                self._forget_end(entry, f"keys/{key}")
        self._put(entry, subject, value, math.inf if value["expires_at"] is None else value["expires_at"])

    def _forget_end(self, entry: Entry, subject: str) -> None:
        value = {name: item for name, item in self._value(subject).items() if name != "expires_at"}
        self._put(entry, subject, value, -math.inf)

    def _value(self, subject: str) -> Document:
        before = self.by_subject.get(subject)
        return before.value or {} if before else {}

    def _put(self, entry: Entry, subject: str, value: Document | None, absent_from: float = math.inf) -> None:
        self.by_subject[subject] = Statement(int(entry["seq"]), value, absent_from)


def _record_of(after: Mapping[str, Any]) -> Document:
    return {"record": after["record"]} if "record" in after else {}


def kind_of(subject: str) -> str:
    """Return what a subject is a part of the registry's state as, "" for none."""
    match subject.split("/"):
        case ["models", _, "route" | "policy" | "settings" as kind]:
            return kind
        case ["models", _, "versions" | "aliases" | "rollouts" | "experiments" as kind, _]:
            return kind
        case ["models", _, "versions", _, "reference" | "signatures" as kind]:
            return kind
        case ["keys", _]:
            return "keys"
        case _:
            return ""
