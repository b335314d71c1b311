"""What an operator wants watched of a model: the policy's monitor section, as it is stated and as it is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InvalidInput

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MonitorPolicy:
    """How a model's rows are watched.

    ``sample``: share of rows counted. ``window_s``: what effect sizes look back on. ``budget``: rows between false
    alarms, of all features together. ``live_rows``: rows that a reference is learned from where none was pushed.
    """

    sample: float = 1.0
    window_s: float = 300.0
    budget: float = 100_000.0
    live_rows: int = 10_000


_FIELDS = {
    # word: field, least, most, whole
    "sample": ("sample", 0.0001, 1.0, False),
    "window_seconds": ("window_s", 5, 7 * 86_400, False),
    "rows_between_false_alarms": ("budget", 100, 1e12, False),
    "live_reference_rows": ("live_rows", 100, 100_000, True),
}


def policy_in(document: Document) -> MonitorPolicy:
    """A policy from an operator's document; what is not stated is as usual.

    Raises:
        InvalidInput: with every fault of the document.
    """
    faults = [f"'{name}' is no part of a policy" for name in sorted(set(document) - {"monitor", "reason"})]
    stated = document.get("monitor", {})
    if not isinstance(stated, dict):
        raise InvalidInput("; ".join([*faults, "'monitor' is an object"]))
    faults += [f"'monitor.{name}' is no setting" for name in sorted(set(stated) - _FIELDS.keys())]
    values: dict[str, Any] = {}
    for word, (field, least, most, whole) in _FIELDS.items():
        if word not in stated:
            continue
        value = stated[word]
        sound = type(value) is int if whole else type(value) in (int, float)
        if not sound or not least <= value <= most:
            faults.append(f"'monitor.{word}' is a {'whole ' if whole else ''}number from {least:g} to {most:g}")
        else:
            values[field] = value
    if faults:
        raise InvalidInput("; ".join(faults))
    return MonitorPolicy(**values)


def policy_out(policy: MonitorPolicy) -> dict[str, Any]:
    """A policy as operators see it."""
    return {"monitor": {word: getattr(policy, field) for word, (field, *_) in _FIELDS.items()}}
