"""Frames from JSON lines and back: one object on each line."""

import json
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame, FrameLimits
from penstock.core.frames.records import from_records, to_records


def from_json_lines(data: str | bytes, limits: FrameLimits = DEFAULT_LIMITS) -> Frame:
    """Return the frame of objects, one on each line; blank lines are skipped, NaN and Infinity are numbers.

    Raises:
        InvalidInput: a line is no JSON object, a value is not one of a column, or there are too many.
    """
    return from_records(read_json_lines(data, limits), limits)


def read_json_lines(data: str | bytes, limits: FrameLimits = DEFAULT_LIMITS) -> list[Any]:
    """Return the JSON value of each line that is not blank.

    Raises:
        InvalidInput: a line is not JSON, or there are too many.
    """
    limits.check_text(data)
    try:
        text = (data if isinstance(data, str) else data.decode()).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise InvalidInput("the JSON lines are not UTF-8") from None
    limits.check(text.count("\n"), 0)
    return [_value(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def to_json_lines(frame: Frame) -> str:
    """Return one object on each line; NaN and infinity, which JSON does not have, are null."""
    lines = [json.dumps(_finite(record), ensure_ascii=False) for record in to_records(frame)]
    return "".join([line + "\n" for line in lines])


def _value(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInput(f"line {number} is not JSON; expected one object on each line") from None


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and value - value != 0 else value for name, value in record.items()}
