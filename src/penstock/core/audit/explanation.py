"""Explains which versions of a model served at a time, why, and by whose change, from entries of the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.versions import CHAMPION, sort_key

Entry = Mapping[str, Any]
Document = dict[str, Any]

_CHANGE = ("seq", "at", "actor", "action", "reason", "method", "key_id", "address", "request_id", "on_behalf_of")


@dataclass(frozen=True, slots=True)
class ServingEvidence:
    """The entries in force at a time: the last about the route, about the alias ``champion``, about the settings and
    about load and unload, the entry of the rollout or experiment that set the route, and the last of each kind about
    each version."""

    route: Entry | None = None
    champion: Entry | None = None
    settings: Entry | None = None
    repository: Entry | None = None
    trial: Entry | None = None
    versions: Sequence[Entry] = field(default_factory=tuple)


def explain_serving(model: str, at: str, evidence: ServingEvidence) -> Document:
    """Return what the registry had a model serve at a time (ISO 8601), by which rule, and the changes that decided
    it."""
    rule, shares, decided = _find_decision(evidence)
    pushes = _find_pushes(evidence.versions)
    unload = evidence.repository if (evidence.repository or {}).get("action") == "model.unload" else None
    return {
        "model": model,
        "at": at,
        "rule": rule,
        "serving": [
            {"version": version, "weight": weight, **_read_push(pushes.get(version))}
            for version, weight in shares.items()
        ],
        "decided_by": None if decided is None else change_of(decided),
        "trial": None
        if evidence.trial is None
        else {**change_of(evidence.trial), "subject": evidence.trial["subject"]},
        "unloaded_by": None if unload is None else change_of(unload),
        "route": _read_after(evidence.route),
        "champion": (_read_after(evidence.champion) or {}).get("version"),
        "settings": _read_after(evidence.settings),
        "admitted": sorted(_find_admitted(evidence.versions), key=sort_key),
    }


def _find_decision(evidence: ServingEvidence) -> tuple[str, dict[str, int], Entry | None]:
    """Return the rule that decided, the weight of each version out of 10 000, and the entry that made it so."""
    route, champion = _read_after(evidence.route), _read_after(evidence.champion)
    if route is not None:
        return "route", dict(route.get("split") or {}), evidence.route
    if champion is not None:
        return f"alias {CHAMPION}", {champion["version"]: 10_000}, evidence.champion
    admitted = _find_admitted(evidence.versions)
    if not admitted:
        return "none", {}, None
    newest = max(admitted, key=sort_key)
    return "newest version", {newest: 10_000}, admitted[newest]


def _read_after(entry: Entry | None) -> Document | None:
    after = None if entry is None else entry["after"]
    return after if isinstance(after, dict) else None


def _decode_version(entry: Entry) -> str:
    return str(entry["subject"]).rpartition("/")[2]


def _find_pushes(entries: Sequence[Entry]) -> dict[str, Entry]:
    return {_decode_version(entry): entry for entry in entries if entry["action"] == "version.add"}


def _find_admitted(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Return the versions that were added and not retired, each with the entry of its push."""
    last: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda item: int(item["seq"])):
        last[_decode_version(entry)] = entry
    return {version: entry for version, entry in last.items() if entry["action"] == "version.add"}


def _read_push(entry: Entry | None) -> Document:
    if entry is None:
        return {"digest": None, "pushed_at": None, "pushed_by": None}
    digest = (_read_after(entry) or {}).get("digest")
    return {"digest": digest, "pushed_at": entry["at"], "pushed_by": entry["actor"]}


def change_of(entry: Entry) -> Document:
    """Return who made a change, when, how that is known, and why; empty fields are left out."""
    return {name: entry[name] for name in _CHANGE if entry.get(name) not in ("", None)}
