"""Reads JSON whose numbers may be NaN and Infinity, but not beyond the range of 64-bit floating point.

Python reads 1e400 as infinity. A value that nobody sent must not reach a model, so such a number becomes a value of a
type that no column takes: the error for it names row and column.
"""

import json
from dataclasses import dataclass
from math import isinf
from typing import Any


@dataclass(frozen=True, slots=True)
class NumberBeyondRange:
    """A number that 64-bit floating point does not have; ``text`` is as it was sent."""

    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def load_json(text: str) -> Any:
    """Return the value of a JSON text; raises ``ValueError``, and ``RecursionError``."""
    return json.loads(text, parse_float=_read_float)


def _read_float(text: str) -> float | NumberBeyondRange:
    value = float(text)
    return NumberBeyondRange(text) if isinf(value) else value
