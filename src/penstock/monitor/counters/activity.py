"""Reads the recent activity of many versions at once: their requests, failures, mirrored requests, and durations."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.buckets import LATENCY_EDGES_NS
from penstock.core.labels import OK, OUTCOME_INDEX
from penstock.core.objectives import SERVER_FAILURES
from penstock.monitor.counters.layout import (
    ANSWERED,
    DURATION_AT,
    LATENCY_CELLS,
    LONE_AT,
    LONE_FINES,
    OUTCOME_COUNT,
    REQUESTS_AT,
    SERIES,
    SHADOW_AT,
    SHADOW_COUNTERS,
    SPLIT_SERIES,
    SUM_CELLS,
    SUMS_AT,
    Cells,
)
from penstock.monitor.counters.slot import Slot

REQUESTS, ERRORS, MIRRORED, BUCKETS = range(4)
"""Columns of an activity: requests that were answered or failed, of these the failures that the server is responsible
for, and requests mirrored to the version; then the counts of durations by latency bucket."""

ACTIVITY_CELLS: Final = BUCKETS + len(LATENCY_EDGES_NS) + 1

_FAILED: Final = [OUTCOME_INDEX[outcome] for outcome in sorted(SERVER_FAILURES)]
_ANSWERED: Final = [OK, *_FAILED]
_MIRRORED_AT: Final = SHADOW_AT + SHADOW_COUNTERS.index("mirrored")
_FINE_STARTS: Final = [0, *range(1, LONE_FINES, 4)]
"""The first fine bucket of each latency bucket, see ``core.buckets.FINE_EDGES_NS``."""


def read_activity(slots: Iterable[Slot], blocks: Sequence[int]) -> Cells:
    """Return the activity of blocks [len(blocks), ACTIVITY_CELLS], added up over slots; all counts only grow."""
    indices = np.array(blocks, np.intp)
    total = np.zeros((len(blocks), ACTIVITY_CELLS), np.uint64)
    for slot in slots:
        _add_requests(total, slot, indices)
        _add_durations(total, slot, indices)
        _add_lone_requests(total, slot, indices)
        total[:, MIRRORED] += slot.read_columns(indices, _MIRRORED_AT, 1)[:, 0]
    return total


def _add_requests(total: Cells, slot: Slot, indices: NDArray[np.intp]) -> None:
    cells = slot.read_columns(indices, REQUESTS_AT, SERIES * OUTCOME_COUNT)
    outcomes = cells.reshape(len(indices), SERIES, OUTCOME_COUNT).sum(axis=1)
    sums = slot.read_columns(indices, SUMS_AT, SERIES * SUM_CELLS).reshape(len(indices), SERIES, SUM_CELLS)
    total[:, REQUESTS] += outcomes[:, _ANSWERED].sum(axis=1) + sums[:, :, ANSWERED].sum(axis=1)
    total[:, ERRORS] += outcomes[:, _FAILED].sum(axis=1)


def _add_durations(total: Cells, slot: Slot, indices: NDArray[np.intp]) -> None:
    cells = slot.read_columns(indices, DURATION_AT, SERIES * LATENCY_CELLS)
    histograms = cells.reshape(len(indices), SERIES, LATENCY_CELLS)
    total[:, BUCKETS:] += histograms[:, :, :-1].sum(axis=1)  # the last cell of each is the sum


def _add_lone_requests(total: Cells, slot: Slot, indices: NDArray[np.intp]) -> None:
    """Add short lone requests, which are counted by series and fine bucket only (see ``stored_cells``)."""
    cells = slot.read_columns(indices, LONE_AT, SPLIT_SERIES * LONE_FINES)
    fine = cells.reshape(len(indices), SPLIT_SERIES, LONE_FINES).sum(axis=1)
    total[:, REQUESTS] += fine.sum(axis=1)
    total[:, BUCKETS : BUCKETS + len(_FINE_STARTS)] += np.add.reduceat(fine, _FINE_STARTS, axis=1)
