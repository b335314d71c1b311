"""Turns the texts of a column into numbers or truth values, if all of them are, in slices."""

import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from penstock.core.frames.cells import text_array
from penstock.core.frames.frame import FrameColumn
from penstock.core.frames.records import whole_numbers
from penstock.core.slices import NUMBER_SLICE, PauseWork
from penstock.core.tensors import Array

_PADDED: Final = re.compile(r"^[+-]?0\d", re.MULTILINE)
"""Digits that begin with a zero, as codes do."""

_TRUTHS: Final = {"true": True, "false": False}


def column_of_texts(fields: Sequence[str | None], is_text: bool, keeps_codes: bool, pause: PauseWork) -> FrameColumn:
    """Return the column of fields of a text; None is missing. If it is not to stay text, it becomes numbers or truth
    values if all are; ``keeps_codes``: digits with zeros before them are texts."""
    present = [field for field in fields if field is not None]
    pause()
    values = None if is_text else _parse_texts(present, keeps_codes, pause)
    if values is None:
        values = np.concatenate([text_array(part)[0] for part in _slice_texts(present, pause)])
    if len(present) == len(fields):
        return FrameColumn(values)
    missing = np.fromiter((field is None for field in fields), np.bool_, len(fields))
    spread = np.full(len(fields), "", object) if values.dtype == object else np.zeros(len(fields), values.dtype)
    spread[~missing] = values
    return FrameColumn(spread, missing)


def _slice_texts(texts: list[str], pause: PauseWork) -> list[list[str]]:
    """Return the texts in slices, one at least."""
    pause()
    return [texts[first : first + NUMBER_SLICE] for first in range(0, len(texts), NUMBER_SLICE)] or [[]]


def _parse_texts(texts: list[str], keeps_codes: bool, pause: PauseWork) -> Array | None:
    """Return numbers or truth values if all texts are, else None."""
    if not texts:
        return np.zeros(0)
    for convert in (_parse_whole_numbers, _parse_numbers, _parse_truth_values):
        found = _convert(texts, convert, keeps_codes, pause)
        if found is not None:
            return _join_slices(found, texts) if convert is _parse_whole_numbers else np.concatenate(found)
    return None


def _convert(
    texts: list[str], convert: Callable[[list[str], str], Any], keeps_codes: bool, pause: PauseWork
) -> list[Any] | None:
    """Return all slices of texts as ``convert`` has them, None if it raises ``ValueError`` for one of them."""
    found = []
    for part in _slice_texts(texts, pause):
        joined = "\n".join(part)
        if "_" in joined or not joined.isascii() or (keeps_codes and _PADDED.search(joined)):
            return None
        try:
            found.append(convert(part, joined))
        except ValueError:
            return None
        pause()
    return found


def _parse_whole_numbers(texts: list[str], _joined: str) -> Array:
    try:
        return whole_numbers(list(map(int, texts)))
    except OverflowError:
        raise ValueError("a number of more than 64 bits") from None


def _join_slices(found: list[Array], texts: list[str]) -> Array:
    """Return slices of whole numbers as one array; some may be beyond signed numbers of 64 bits."""
    if len({part.dtype for part in found}) == 1:
        return np.concatenate(found)
    if all(part.dtype == np.uint64 or part.min() >= 0 for part in found):
        return np.concatenate([part.astype(np.uint64) for part in found])
    return np.array(list(map(float, texts)))


def _parse_numbers(texts: list[str], joined: str) -> Array:
    numbers = np.frombuffer(array("d", list(map(float, texts))), np.float64)
    if np.isinf(numbers).any() and "inf" not in joined.lower():
        raise ValueError("a number that is too large")
    return numbers


def _parse_truth_values(texts: list[str], joined: str) -> Array:
    lowered = joined.lower().split("\n")
    if set(lowered) - _TRUTHS.keys():
        raise ValueError("no truth value")
    return np.array([_TRUTHS[item] for item in lowered])
