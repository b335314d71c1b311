"""The fields of an audit entry as a log line, by their names in the Elastic Common Schema."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

_TYPES: Final = {
    "add": "creation",
    "create": "creation",
    "drop": "deletion",
    "erase": "deletion",
    "expire": "deletion",
    "forget": "deletion",
    "retire": "deletion",
    "revoke": "deletion",
    "export": "access",
    "refuse": "denied",
}
"""Types of actions by their last word; all others are ``change``."""


def audit_message(entry: Mapping[str, Any]) -> str:
    """Return an entry as a sentence."""
    return f"{entry['actor']} {entry['action']} {entry['subject']}"


def audit_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry; those without a value are "" or None.

    ``labels`` keep what the schema has no field for; ``event.hash`` binds the entry to all entries before it.
    """
    area, _, verb = str(entry["action"]).partition(".")
    kind = _TYPES.get(verb, "change")
    return {
        "event.kind": "event",
        "event.dataset": "penstock.audit",
        "event.action": entry["action"],
        "event.category": [_find_category(area, kind)],
        "event.type": [kind],
        "event.outcome": "failure" if kind == "denied" else "success",
        "event.sequence": int(entry["seq"]),
        "event.start": _format_time(str(entry["at"])),
        "event.reason": entry["reason"],
        "event.hash": entry["hash"],
        "user.name": entry["actor"],
        "source.ip": _find_address(str(entry["address"])),
        "http.request.id": entry["request_id"],
        "labels.model": entry["model"],
        "labels.subject": entry["subject"],
        "labels.auth_method": entry["method"],
        "labels.key_id": entry["key_id"],
        "labels.on_behalf_of": entry["on_behalf_of"],
    }


def _find_category(area: str, kind: str) -> str:
    """Return the category of an action; the schema has no refusals of configurations or identities."""
    if kind == "denied":
        return "api"
    return "iam" if area == "key" else "configuration"


def _format_time(at: str) -> str:
    return at.replace("+00:00", "Z")


def _find_address(text: str) -> str:
    """Return an address if it is one; a unix socket has none."""
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return ""
