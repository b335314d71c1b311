"""Takes CSV text apart into the fields of each column, in slices, as RFC 4180 has it."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import FrameLimits
from penstock.core.frames.records import check_names
from penstock.core.slices import TEXT_SLICE, PauseWork

Field = str | None
"""A field; None is one without anything."""

CHARACTERS: Final = 1 << 15
"""Characters that are taken apart at once."""

LONGEST: Final = 2 << 20
"""Characters of a quoted field, and of a line without quotes: it is taken apart at once."""

_FIELD: Final = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",\r\n]*+))(,|\r?\n|\Z)')
"""One field, quoted or not, and what ends it; it never goes back over what it has read."""


class CsvColumns:
    """The ``names`` of the columns, the ``fields`` of each of them [rows], and the number of ``rows``."""

    def __init__(self, names: Sequence[str] | None, limits: FrameLimits) -> None:
        self._limits = limits
        self._has_header = names is None
        self.rows = 0
        self.names: list[str] = []
        self.fields: list[list[Field]] = []
        if names is not None:
            self._begin(names)

    def read(self, text: str, pause: PauseWork) -> None:
        """Add the lines of a text.

        Raises:
            InvalidInput: it is not CSV, a line has too many or too few fields, or there are too many.
        """
        for lines in _quoted_lines(text) if '"' in text else _plain_lines(text):
            self._add(lines)
            pause()
        if self._has_header:
            raise InvalidInput("the CSV data is empty; expected a line with the names of the columns")

    def _begin(self, names: Sequence[Field]) -> None:
        self._limits.check(0, len(names))
        self.names = check_names(["" if name is None else name for name in names])
        self.fields = [[] for _ in self.names]

    def _add(self, lines: list[list[Field]]) -> None:
        if self._has_header and lines:
            self._begin(lines.pop(0))
            self._has_header = False
        width = len(self.names)
        if width > 1:
            lines = [line for line in lines if line != [None]]  # blank lines
        if set(map(len, lines)) - {width}:
            raise self._wrong_width(lines)
        self.rows += len(lines)
        self._limits.check(self.rows, width)
        for column, fields in zip(self.fields, zip(*lines, strict=True), strict=False):
            column.extend(fields)

    def _wrong_width(self, lines: list[list[Field]]) -> InvalidInput:
        width = len(self.names)
        row = next(row for row, line in enumerate(lines) if len(line) != width)
        return InvalidInput(f"row {self.rows + row} of the CSV data has {len(lines[row])} fields; expected {width}")


def _plain_lines(text: str) -> Iterator[list[list[Field]]]:
    """Yield the lines of text without quotes, some at a time."""
    at, number = 0, 1
    while at < len(text):
        stop = text.find("\n", at + CHARACTERS)
        stop = len(text) if stop < 0 else stop
        if stop - max(at, text.rfind("\n", at, stop) + 1) > LONGEST:
            raise _too_long("line", number + text.count("\n", at, stop))
        lines = text[at:stop].replace("\r\n", "\n").removesuffix("\r").split("\n")
        if stop == len(text) and not lines[-1]:
            lines.pop()
        if bad := next((place for place, line in enumerate(lines) if "\r" in line), -1) + 1:
            raise _line_fault(number + bad - 1)
        yield [[field or None for field in line.split(",")] for line in lines]
        at, number = stop + 1, number + len(lines)


def _quoted_lines(text: str) -> Iterator[list[list[Field]]]:
    """Yield the lines of text with quotes, some at a time."""
    lines: list[list[Field]] = []
    line: list[Field] = []
    count, at, end = 1, 0, ""
    while at < len(text) or end == ",":
        match = _FIELD.match(text, at, at + LONGEST)
        is_cut = len(text) - at > LONGEST
        if match is None or (is_cut and match.end() == at + LONGEST):
            raise _too_long("field in line", count) if is_cut else _line_fault(count)
        quoted, plain, end = match.groups()
        line.append((plain or None) if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if end != ",":
            lines.append(line)
            line, count = [], count + 1
            if len(lines) * len(lines[0]) >= TEXT_SLICE:
                yield lines
                lines = []
    yield lines


def _too_long(what: str, line: int) -> InvalidInput:
    return InvalidInput(f"the {what} {line} of the CSV data has more than {LONGEST} characters; use shorter ones")


def _line_fault(line: int) -> InvalidInput:
    return InvalidInput(
        f"line {line} of the CSV data has a quote that does not end, or a quote or carriage return in a field "
        "without quotes"
    )
