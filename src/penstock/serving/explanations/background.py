"""Chooses the rows that the features of a row are compared with: recent live rows, or rows drawn from the reference."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from penstock.core.bins import Floats
from penstock.core.errors import NotReady
from penstock.core.explanations import BACKGROUND_ROWS, FEW_ROWS
from penstock.monitor.reference import reference_in
from penstock.monitor.reference_rows import draw_rows
from penstock.serving.explanations.row_matrix import RowMatrix
from penstock.serving.loaded_version import LoadedVersion

LIVE: Final = "live"
REFERENCE: Final = "reference"

NONE: Final = (
    "there are no rows to compare with; send predictions to the model first, or push a reference with the version"
)


@dataclass(frozen=True, slots=True)
class Background:
    """The rows [rows, features], and where they are from."""

    rows: Floats
    source: str


def choose_background(loaded: LoadedVersion, matrix: RowMatrix, wanted: str, seed: int) -> Background:
    """Return the background of an explanation; reads files, so not on the event loop.

    ``auto`` is the live rows; with few of them, rows drawn from the reference if there is one.

    Raises:
        NotReady: there are no such rows.
    """
    live = None if wanted == REFERENCE else _live_rows(loaded, matrix, seed)
    if live is not None and (wanted == LIVE or len(live) >= FEW_ROWS):
        return Background(live, LIVE)
    drawn = None if wanted == LIVE else _reference_rows(loaded, matrix, seed)
    if drawn is not None:
        return Background(drawn, REFERENCE)
    if live is None:
        raise NotReady(NONE)
    return Background(live, LIVE)


def _live_rows(loaded: LoadedVersion, matrix: RowMatrix, seed: int) -> Floats | None:
    rows = matrix.encode(loaded.live_tensors())
    if rows is None or not len(rows):
        return None
    rows = prefer_complete(rows)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:BACKGROUND_ROWS]
    some: Floats = rows[np.sort(chosen)]
    return some


def prefer_complete(rows: Floats) -> Floats:
    """Return the rows [rows, features] without missing values, if there are enough of them, else all: a model that
    takes none answers NaN to a row with one, and the mean of its answers would be NaN for every explanation."""
    complete: Floats = rows[np.isfinite(rows).all(axis=1)]
    return complete if len(complete) >= FEW_ROWS else rows


def _reference_rows(loaded: LoadedVersion, matrix: RowMatrix, seed: int) -> Floats | None:
    if not loaded.reference_path:
        return None
    try:
        reference = reference_in(json.loads(Path(loaded.reference_path).read_text()))
    except (OSError, ValueError, KeyError):
        return None
    drawn = draw_rows(reference, loaded.input_columns, BACKGROUND_ROWS, seed)
    return None if drawn is None else matrix.encode(drawn)
