"""Checks lines against the Elastic Common Schema: names, types and allowed values of fields, and their order."""

import json
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

FIELDS: dict[str, str | list[str]] = json.loads((Path(__file__).parent / "unit/telemetry/ecs_fields.json").read_text())
"""Types of fields as Elastic Common Schema 8.17 states them; a list has the allowed values that Penstock uses."""

FIRST = ("@timestamp", "log.level", "message")
"""The order in which the ECS logging specification asks for these fields."""

REQUIRED = {*FIRST, "ecs.version", "service.name", "event.dataset"}


def _is_date(value: Any) -> bool:
    return isinstance(value, str) and value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None


def _is_ip(value: Any) -> bool:
    return bool(ip_address(value))


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


CHECKS: dict[str, Callable[[Any], bool]] = {"date": _is_date, "ip": _is_ip, "long": _is_long}


def read_ecs(line: str) -> dict[str, Any]:
    """Return the fields of a line, which is checked."""
    fields: dict[str, Any] = json.loads(line)
    assert tuple(fields)[:3] == FIRST, fields
    assert fields.keys() >= REQUIRED, fields
    for name, value in fields.items():
        check_field(name, value)
    return fields


def check_field(name: str, value: Any) -> None:
    """Check the type of a field, or that its values are allowed."""
    expected = FIELDS["labels.*" if name.startswith("labels.") else name]
    if isinstance(expected, list):
        values = value if isinstance(value, list) else [value]
        assert set(values) <= set(expected), (name, value)
    else:
        assert CHECKS.get(expected, _is_text)(value), (name, value)
