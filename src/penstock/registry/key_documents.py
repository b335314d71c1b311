"""API keys as JSON values of the admin API: what a new one is to have, and what is shown of those that there are."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, Final

from penstock.core.access.key_rules import check_key
from penstock.core.access.permissions import ALL_MODELS
from penstock.core.access.table import KeyRecord, Quota
from penstock.core.errors import InvalidInput
from penstock.core.stated_numbers import number_fault
from penstock.registry.records import Document
from penstock.registry.stores.keys import StoredKey

DAY_S: Final = 86_400.0
MOST_DAYS: Final = 36_500
OVERLAP_S: Final = DAY_S
"""How long the replaced key stays valid by default, seconds."""

MOST_OVERLAP_S: Final = 365 * DAY_S


def parse_new_key(values: Mapping[str, Any], now: float) -> KeyRecord:
    """Return the record of a new key, still without id and digest, from the body of a request; ``now`` is seconds since
    the epoch.

    Raises:
        InvalidInput: a value is not valid.
    """
    name, roles = values.get("name"), _check_texts(values.get("roles"), "roles")
    models = _check_texts(values.get("models", [ALL_MODELS]), "models")
    if not isinstance(name, str):
        raise InvalidInput("'name' must be given as a text")
    quota = parse_quota(values.get("quota", {}))
    check_key(name, roles, models, quota)
    life_s = parse_lifetime(values)
    return KeyRecord("", name, "", roles, models, None if life_s is None else now + life_s, quota)


def parse_lifetime(values: Mapping[str, Any]) -> float | None:
    """Return the seconds that a new key is to be valid (``expires_days``), None if that is not stated."""
    days = values.get("expires_days")
    if days is None:
        return None
    number = _check_number(days, "expires_days")
    if not 0 < number <= MOST_DAYS:
        raise InvalidInput(f"'expires_days' must be more than 0 and at most {MOST_DAYS}")
    return number * DAY_S


def parse_overlap(values: Mapping[str, Any]) -> float:
    """Return the seconds that the replaced key stays valid (``overlap_seconds``), a day by default."""
    overlap_s = values.get("overlap_seconds", OVERLAP_S)
    if fault := number_fault("overlap_seconds", overlap_s, 0, MOST_OVERLAP_S):
        raise InvalidInput(fault)
    return float(overlap_s)


def parse_quota(values: Any) -> Quota:
    """Return a quota from its JSON values, which may leave out what has no limit."""
    names = [field.name for field in fields(Quota)]
    if not isinstance(values, Mapping) or (unknown := sorted(values.keys() - set(names))):
        known = f"; '{unknown[0][:64]}' is unknown" if isinstance(values, Mapping) else ""
        raise InvalidInput(f"'quota' must have some of {', '.join(names)}{known}")
    numbers = {name: _check_number(value, f"quota.{name}") for name, value in values.items()}
    requests, rows, model_ms = (numbers.get(name, 0.0) for name in ("requests", "rows", "model_ms"))
    return Quota(requests, rows, model_ms, _check_whole(numbers, "concurrent"), _check_whole(numbers, "body_bytes"))


def key_document(key: StoredKey, now: float) -> Document:
    """Return a key as the admin API shows it: without its digest, and with its state at this time."""
    record = key.record
    state = "revoked" if key.revoked_at is not None else "valid" if key.is_valid(now) else "expired"
    return {
        "id": record.id,
        "name": record.name,
        "state": state,
        "roles": list(record.roles),
        "models": list(record.models),
        "quota": {name: limit for name, limit in asdict(record.quota).items() if limit},
        "created_at": _time_text(key.created_at),
        "created_by": key.created_by,
        "expires_at": _time_text(record.expires_at),
        "revoked_at": _time_text(key.revoked_at),
    }


def _check_whole(numbers: Mapping[str, float], name: str) -> int:
    number = numbers.get(name, 0.0)
    if not number.is_integer():
        raise InvalidInput(f"'quota.{name}' must be a whole number")
    return int(number)


def _time_text(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _check_texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"'{name}' must be given as a list of texts")
    return tuple(dict.fromkeys(value))


def _check_number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InvalidInput(f"'{name}' must be a number")
    return float(value)
