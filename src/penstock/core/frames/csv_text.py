"""Frames from CSV and back, as RFC 4180 has it: fields may be quoted, and quotes in them are doubled.

A field without anything is missing, a quoted one without anything is the empty text. Lines may end without a carriage
return, and a byte order mark is skipped.
"""

import re
from array import array
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.cells import text_array
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame, FrameColumn, FrameLimits
from penstock.core.frames.records import check_names, whole_numbers
from penstock.core.tensors import Array

Field = str | None
"""A field; None is one without anything."""

_FIELD: Final = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",\r\n]*+))(,|\r?\n|\Z)')
"""One field, quoted or not, and what ends it; it never goes back over what it has read."""

_PADDED: Final = re.compile(r"^[+-]?0\d", re.MULTILINE)
"""Digits that begin with a zero, as codes do."""

_QUOTED: Final = re.compile(r'[",\r\n]')
_TRUTHS: Final = {"true": True, "false": False}


def from_csv(
    data: str | bytes,
    texts: Collection[str] | None = None,
    names: Sequence[str] | None = None,
    limits: FrameLimits = DEFAULT_LIMITS,
) -> Frame:
    """Return the frame of CSV text.

    The first line has the names, unless ``names`` are given. The columns in ``texts`` stay texts. Others become
    numbers or truth values if all of their values are; where ``texts`` is None, digits with zeros before them are
    texts.

    Raises:
        InvalidInput: it is not UTF-8 or not CSV, a line has too many or too few fields, or there are too many.
    """
    limits.check_text(data)
    text = _decode(data)
    lines = list(_lines(text, limits))
    header = None if names is None else list(names)
    if header is None:
        if not lines:
            raise InvalidInput("the CSV data is empty; expected a line with the names of the columns")
        header = ["" if name is None else name for name in lines.pop(0)]
    header = check_names(header)
    if len(header) > 1:
        lines = [line for line in lines if line != [None]]  # blank lines
    _check_widths(lines, header)
    limits.check(len(lines), len(header))
    columns = zip(*lines, strict=True) if lines else [() for _ in header]
    return Frame({name: _column(fields, texts, name) for name, fields in zip(header, columns, strict=True)}, len(lines))


def to_csv(frame: Frame, header: bool = True) -> str:
    """Return a frame as CSV with lines that end as RFC 4180 has it; numbers are exact."""
    columns = [_fields(column) for column in frame.columns.values()]
    lines = [[_quote(name) for name in frame.columns]] if header and columns else []
    lines += map(list, zip(*columns, strict=True))
    return "".join([",".join(line) + "\r\n" for line in lines])


def _decode(data: str | bytes) -> str:
    try:
        return (data if isinstance(data, str) else data.decode()).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise InvalidInput("the CSV data is not UTF-8") from None


def _lines(text: str, limits: FrameLimits) -> Iterator[list[Field]]:
    """Yield the fields of each line."""
    if '"' in text:
        yield from _quoted_lines(text, limits)
        return
    limits.check(text.count("\n"), 0)
    lines = text.replace("\r\n", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    for row, line in enumerate(lines):
        if "\r" in line:
            raise _fault(row)
        yield [field or None for field in line.split(",")]


def _quoted_lines(text: str, limits: FrameLimits) -> Iterator[list[Field]]:
    line: list[Field] = []
    count, at, end = 0, 0, ""
    while at < len(text) or end == ",":
        match = _FIELD.match(text, at)
        if match is None:
            raise _fault(count)
        quoted, plain, end = match.groups()
        line.append((plain or None) if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if end != ",":
            yield line
            line, count = [], count + 1
            limits.check(count - 1, 0)


def _fault(line: int) -> InvalidInput:
    return InvalidInput(
        f"line {line + 1} of the CSV data has a quote that does not end, or a quote or carriage return in a field "
        "without quotes"
    )


def _check_widths(lines: Sequence[Sequence[Field]], header: Sequence[str]) -> None:
    width = len(header)
    if set(map(len, lines)) <= {width}:
        return
    row = next(row for row, line in enumerate(lines) if len(line) != width)
    raise InvalidInput(f"row {row} of the CSV data has {len(lines[row])} fields; expected {width}")


def _column(fields: Sequence[Field], texts: Collection[str] | None, name: str) -> FrameColumn:
    present = [field for field in fields if field is not None]
    values = text_array(present)[0] if texts is not None and name in texts else _typed(present, texts is None)
    if len(present) == len(fields):
        return FrameColumn(values)
    missing = np.fromiter((field is None for field in fields), np.bool_, len(fields))
    spread = np.full(len(fields), "", object) if values.dtype == object else np.zeros(len(fields), values.dtype)
    spread[~missing] = values
    return FrameColumn(spread, missing)


def _typed(texts: list[str], keeps_codes: bool) -> Array:
    """Return numbers or truth values if all texts are, else the texts."""
    joined = "\n".join(texts)
    if "_" not in joined and joined.isascii() and not (keeps_codes and _PADDED.search(joined)):
        numbers = _numbers(texts, joined)
        if numbers is not None:
            return numbers
        lowered = joined.lower()
        if texts and set(lowered.split("\n")) <= _TRUTHS.keys():
            return np.array([_TRUTHS[item] for item in lowered.split("\n")])
    return text_array(texts)[0]


def _numbers(texts: list[str], joined: str) -> Array | None:
    """Return numbers, None if some text is none."""
    try:
        return whole_numbers(list(map(int, texts))) if texts else np.zeros(0)
    except (ValueError, OverflowError):
        pass
    try:
        numbers = np.frombuffer(array("d", list(map(float, texts))), np.float64)
    except ValueError:
        return None
    return None if np.isinf(numbers).any() and "inf" not in joined.lower() else numbers


def _fields(column: FrameColumn) -> list[str]:
    kind = column.values.dtype.kind
    if kind == "O":
        fields = [_quote(value) for value in column.values.tolist()]
    elif kind == "b":
        fields = ["true" if value else "false" for value in column.values.tolist()]
    elif column.values.dtype == np.float32:
        fields = column.values.astype(str).tolist()
    else:
        fields = list(map(repr, column.values.tolist()))
    if column.missing is not None:
        for row in column.missing.nonzero()[0].tolist():
            fields[row] = ""
    return fields


def _quote(text: str) -> str:
    if text and not _QUOTED.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'
