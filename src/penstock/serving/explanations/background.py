"""Chooses the rows that the features of a row are compared with: recent live rows, or rows drawn from the reference."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from penstock.core.bins import Floats
from penstock.core.errors import NotReady
from penstock.core.explanations import BACKGROUND_ROWS, FEW_ROWS
from penstock.monitor.reference import decode_reference
from penstock.monitor.reference_rows import draw_rows
from penstock.serving.explanations.row_matrix import RowMatrix
from penstock.serving.loaded_version import LoadedVersion

LIVE: Final = "live"
REFERENCE: Final = "reference"

NO_LIVE: Final = "there are no rows to compare with; send predictions to the model first, or push a reference"
NO_REFERENCE: Final = "the version has no reference that rows can be drawn from; push one with it, or use live rows"
NEVER_KEPT: Final = "there are no rows to compare with, and {}; push a reference with the version"


@dataclass(frozen=True, slots=True)
class Background:
    """The rows [rows, features], and where they are from."""

    rows: Floats
    source: str


def choose_background(
    loaded: LoadedVersion, matrix: RowMatrix, wanted: str, seed: int, other: LoadedVersion | None = None
) -> Background:
    """Return the background of an explanation; reads files, so not on the event loop.

    ``auto`` is the live rows; with few of them, those of the ``other`` version, which has the same inputs; with few of
    these as well, rows drawn from the reference if there is one.

    Raises:
        NotReady: there are no such rows.
    """
    live = [] if wanted == REFERENCE else _live_backgrounds(loaded, other, matrix, seed)
    if many := next((found for found in live if len(found.rows) >= FEW_ROWS), None):
        return many
    drawn = None if wanted == LIVE else _reference_rows(loaded, matrix, seed)
    if drawn is not None:
        return Background(drawn, REFERENCE)
    if not live:
        raise NotReady(why_no_rows(loaded, wanted))
    return live[0]


def _live_backgrounds(
    loaded: LoadedVersion, other: LoadedVersion | None, matrix: RowMatrix, seed: int
) -> list[Background]:
    """Return the live rows of a version, and those of the other one, as far as there are some."""
    sources = {LIVE: loaded} if other is None else {LIVE: loaded, f"{LIVE} of version {other.identity.version}": other}
    found = ((source, _live_rows(version, matrix, seed)) for source, version in sources.items())
    return [Background(rows, source) for source, rows in found if rows is not None]


def why_no_rows(loaded: LoadedVersion, wanted: str) -> str:
    """Return why a version has no background of the ``wanted`` source, and what to do."""
    if wanted == REFERENCE:
        return NO_REFERENCE
    reason = _why_never_kept(loaded)
    return NEVER_KEPT.format(reason) if reason else NO_LIVE


def _why_never_kept(loaded: LoadedVersion) -> str:
    """Return why predictions leave no rows of a version to compare with, "" if they do."""
    if not loaded.signature.batching:
        return "none are kept of a model without an axis of rows"
    if loaded.live_rows is None:
        return "none are kept where the policy masks inputs"
    return "rows as large as those of this model are not kept" if loaded.live_rows.has_large else ""


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
        reference = decode_reference(json.loads(Path(loaded.reference_path).read_text()))
    except (OSError, ValueError, KeyError):
        return None
    drawn = draw_rows(reference, loaded.input_columns, BACKGROUND_ROWS, seed)
    return None if drawn is None else matrix.encode(drawn)
