"""Frames from CSV and back, as RFC 4180 has it: fields may be quoted, and quotes in them are doubled.

A field without anything is missing, a quoted one without anything is the empty text. Lines may end without a carriage
return, and a byte order mark is skipped.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.csv_lines import CsvColumns
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame, FrameColumn, FrameLimits
from penstock.core.frames.text_values import column_of_texts
from penstock.core.slices import NUMBER_SLICE, PauseWork, no_pause

_QUOTED: Final = re.compile(r'[",\r\n]')


def from_csv(
    data: str | bytes,
    texts: Collection[str] | None = None,
    names: Sequence[str] | None = None,
    limits: FrameLimits = DEFAULT_LIMITS,
    pause: PauseWork = no_pause,
) -> Frame:
    """Return the frame of CSV text.

    The first line has the names, unless ``names`` are given. The columns in ``texts`` stay texts. Others become
    numbers or truth values if all of their values are; where ``texts`` is None, digits with zeros before them are
    texts. There is a pause after each slice.

    Raises:
        InvalidInput: it is not UTF-8 or not CSV, a line has too many or too few fields, or there are too many.
    """
    limits.check_text(data)
    columns = CsvColumns(names, limits)
    columns.read(_decode(data), pause)
    return Frame(
        {
            name: column_of_texts(fields, texts is not None and name in texts, texts is None, pause)
            for name, fields in zip(columns.names, columns.fields, strict=True)
        },
        columns.rows,
    )


def to_csv(frame: Frame, header: bool = True, pause: PauseWork = no_pause, end: str = "\r\n") -> str:
    """Return a frame as CSV with lines that end as RFC 4180 has it, or with ``end``; numbers are exact. There is a
    pause after each slice."""
    columns = list(frame.columns.values())
    parts = [",".join(map(_quote, frame.columns)) + end] if header and columns else []
    step = max(1, NUMBER_SLICE // max(1, len(columns)))
    for first in range(0, frame.rows if columns else 0, step):
        fields = [_format_fields(column.part(first, first + step)) for column in columns]
        parts.append("".join([",".join(line) + end for line in zip(*fields, strict=True)]))
        pause()
    return "".join(parts)


def _decode(data: str | bytes) -> str:
    try:
        return (data if isinstance(data, str) else data.decode()).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise InvalidInput("the CSV data is not UTF-8") from None


def _format_fields(column: FrameColumn) -> list[str]:
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
