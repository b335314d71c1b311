"""Erases the rows of a subject from rows that were gathered for a reference, as they are stored."""

from dataclasses import replace

import numpy as np

from penstock.control.monitoring.references.gathered_rows import GatheredRows, pack, unpack
from penstock.core.erasure import ColumnPlace, SubjectKey, as_stated, places_of
from penstock.core.tensors import Array
from penstock.monitor.columns import RowValues
from penstock.monitor.erased_rows import OUTPUT, Features, Rows


def packed_without_subject(packed: bytes, key: SubjectKey, features: Features) -> tuple[int, int, bytes] | None:
    """Return how many packed rows are gone, how many are left, and these packed; None if none is gone.

    Raises:
        ValueError: the format is unknown.
    """
    rows = unpack(packed)
    kept = rows_without_subject(rows, key, features)
    if len(kept) == len(rows):
        return None
    left, content = pack(kept) if len(kept) else (0, b"")
    return len(rows) - len(kept), left, content


def rows_without_subject(rows: GatheredRows, key: SubjectKey, features: Features) -> GatheredRows:
    """Return the rows that do not have the value."""
    places = np.flatnonzero(~_rows_of_subject(rows, key, features))
    return replace(rows, inputs=rows.inputs.at(places), outputs=rows.outputs.at(places))


def _rows_of_subject(rows: GatheredRows, key: SubjectKey, features: Features) -> Rows:
    column = key.column.removeprefix(OUTPUT)
    is_output = column != key.column
    names, values = (rows.names[1], rows.outputs) if is_output else (rows.names[0], rows.inputs)
    wanted = _find_names(column, {} if is_output else features)
    found = np.zeros(len(rows), bool)
    for index, name in enumerate(names):
        if name in wanted:
            found |= key.find(_pick_column(values, index))
    return found


def _find_names(column: str, features: Features) -> set[str]:
    """Return the names that a column may have: its own, and that of the feature at its place."""
    places = places_of(column, features)
    indexed = {f"{place.tensor}[{place.index}]" for place in places if place.index is not None}
    first = {place.tensor for place in places if place.index == 0}
    alone = {ColumnPlace(place.tensor, 0) for place in places if place.index is None}
    return {column, *indexed, *first, *(name for name, place in features.items() if place in {*places, *alone})}


def _pick_column(values: RowValues, index: int) -> Array:
    """Return a column by its index; numbers come first."""
    numbers = values.numbers.shape[1]
    if index >= numbers:
        return np.asarray(values.labels[index - numbers], object)
    return as_stated(values.numbers[:, index])
