"""Erasure: the value that identifies a subject, the rows that have it, and what was removed of them."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array

ID: Final = "id"
"""The column of request ids."""

MAX_CHARACTERS: Final = 1024
EXPECTED: Final = "expected COLUMN=VALUE, a column and the value in it that identifies a subject"
_PLACE: Final = re.compile(r"(.+)\[(\d+)\]")
_TRUTH: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A value in a column: the name of a feature, of a tensor, or ``id`` for the id of the request. Outputs are named
    ``output:NAME``; ``NAME[3]`` is one value in each row of a wide tensor."""

    column: str
    value: str

    def find(self, values: Array) -> NDArray[np.bool_]:
        """Return which of these values are the one; a number matches as its datatype stores it."""
        if values.dtype.kind in "OSU":
            return np.array([_make_text(item) == self.value for item in values.ravel().tolist()], bool).reshape(
                values.shape
            )
        wanted = self._number(values.dtype)
        return np.zeros(values.shape, bool) if wanted is None else np.asarray(values == wanted)

    def _number(self, dtype: np.dtype[Any]) -> Any:
        """Return the value as a number of a datatype, None if it is none."""
        if dtype.kind == "b":
            return _TRUTH.get(self.value.lower())
        try:
            number = int(self.value) if dtype.kind in "iu" else float(self.value)
            return dtype.type(number)
        except (ValueError, OverflowError):
            return None


def subject_key(text: str) -> SubjectKey:
    """Parse ``COLUMN=VALUE``.

    Raises:
        InvalidInput: it has another form.
    """
    column, separator, value = text.partition("=")
    if not separator:
        raise InvalidInput(EXPECTED)
    return check_key(SubjectKey(column.strip(), value))


def check_key(key: SubjectKey) -> SubjectKey:
    """Return a key with a column and a value.

    Raises:
        InvalidInput: one is empty or too long.
    """
    if not key.column or not key.value:
        raise InvalidInput(EXPECTED)
    if max(len(key.column), len(key.value)) > MAX_CHARACTERS:
        raise InvalidInput(f"a column or its value has more than {MAX_CHARACTERS} characters")
    return key


@dataclass(frozen=True, slots=True)
class ColumnPlace:
    """Where the values of a column are: in a tensor, at an index of each row (None: all of them)."""

    tensor: str
    index: int | None = None


def places_of(column: str, features: Mapping[str, ColumnPlace]) -> list[ColumnPlace]:
    """Return where a column may be: as a feature, as a tensor, and as a value of a tensor."""
    places = [features[column]] if column in features else []
    places.append(ColumnPlace(column))
    if (matched := _PLACE.fullmatch(column)) is not None:
        places.append(ColumnPlace(matched[1], int(matched[2])))
    return places


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What was removed: captured requests that lost rows, these rows, remembered answers, rows gathered for references,
    rows exported for training, and files that were written anew. ``problems`` are what could not be searched."""

    requests: int = 0
    rows: int = 0
    answers: int = 0
    gathered: int = 0
    exported: int = 0
    files: int = 0
    problems: tuple[str, ...] = ()

    def __add__(self, other: "ErasureReport") -> "ErasureReport":
        return ErasureReport(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "problems": list(self.problems)}


def decode_report(document: Mapping[str, Any]) -> ErasureReport:
    """Read a report from its JSON values."""
    return ErasureReport(**{**document, "problems": tuple(document["problems"])})


def as_stated(values: Array) -> Array:
    """Return numbers in single precision if that is what they were: a file may have widened them."""
    if values.dtype != np.float64:
        return values
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if bool(((single == values) | np.isnan(values)).all()) else values


def _make_text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
