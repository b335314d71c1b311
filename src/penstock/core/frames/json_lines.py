"""JSON lines: one value on each line, and frames as one object on each."""

import json
from typing import Any, Final

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame, FrameLimits
from penstock.core.frames.json_numbers import load_json
from penstock.core.frames.records import to_records
from penstock.core.slices import NUMBER_SLICE, PauseWork, no_pause

LONGEST_LINE: Final = 2 << 20
"""Characters of a line: it is parsed at once."""

LINES: Final = 256
"""Lines that are parsed at once."""


def read_json_lines(data: str | bytes, limits: FrameLimits = DEFAULT_LIMITS, pause: PauseWork = no_pause) -> list[Any]:
    """Return the JSON value of each line that is not blank; with pauses.

    Raises:
        InvalidInput: a line is not JSON, or there are too many.
    """
    limits.check_text(data)
    try:
        text = (data if isinstance(data, str) else data.decode()).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise InvalidInput("the JSON lines are not UTF-8") from None
    limits.check(text.count("\n"), 0)
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            values.append(_read_value(number, line))
        if number % LINES == 0 or len(line) > LINES * LINES:
            pause()
    return values


def to_json_lines(frame: Frame, pause: PauseWork = no_pause) -> str:
    """Return one object on each line; NaN and infinity, which JSON does not have, are null. There is a pause after
    each slice."""
    step, lines = max(1, NUMBER_SLICE // max(1, len(frame.columns))), list[str]()
    for first in range(0, frame.rows, step):
        records = to_records(frame.part(first, first + step))
        lines += [json.dumps(_replace_infinite(record), ensure_ascii=False) + "\n" for record in records]
        pause()
    return "".join(lines)


def _read_value(number: int, line: str) -> Any:
    if len(line) > LONGEST_LINE:
        raise InvalidInput(f"line {number} has {len(line)} characters, over the limit of {LONGEST_LINE}")
    try:
        return load_json(line)
    except (ValueError, RecursionError):
        raise InvalidInput(f"line {number} is not JSON; expected one object on each line") from None


def _replace_infinite(record: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and value - value != 0 else value for name, value in record.items()}
