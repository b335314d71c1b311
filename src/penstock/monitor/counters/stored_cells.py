"""Reads the stored cells of a block as its counters: some cells stand for several counters each.

A short lone request is evidence for a rollout, had a run of one row to itself, did not wait, and took milliseconds at
most. ``BlockWriter`` counts it in three cells: one for its series and duration, one for its run, and one for decoding
and encoding. The sums of each series lie side by side, because one call writes all of them. All the counters are sums
of these cells, so they are exact and never run backwards.
"""

from bisect import bisect_left
from typing import Final

import numpy as np

from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS, RUN_BASE_NS
from penstock.core.labels import OK
from penstock.monitor.counters.layout import (
    ANSWERED,
    ANSWERED_COUNTED,
    BATCH_AT,
    BLOCK_CELLS,
    COUNTED_AT,
    DECODE_AT,
    DECODE_NS,
    DURATION_AT,
    ENCODE_AT,
    FINE_AT,
    FINE_RUN_AT,
    FURTHER_ENCODE_NS,
    FURTHER_RUN_NS,
    LATENCY_CELLS,
    LONE_AT,
    LONE_CODEC_AT,
    LONE_FINES,
    LONE_RUN_AT,
    LONE_RUN_EDGES_NS,
    LONE_STAGES,
    OUTCOME_COUNT,
    QUEUE_AT,
    REQUESTS_AT,
    ROWS_AT,
    ROWS_CELLS,
    RUN_AT,
    RUN_ROWS,
    SERIES,
    SPLIT_SERIES,
    STAGE_AT,
    STAGES,
    STORED_CELLS,
    SUM_CELLS,
    SUMS_AT,
    TOTAL_NS,
    Cells,
)

_DURATION: Final = np.array([(fine + 3) // 4 for fine in range(LONE_FINES)])  # see ``FINE_EDGES_NS``
_RUN: Final = np.array([RUN_AT + bisect_left(LATENCY_EDGES_NS, edge) for edge in LONE_RUN_EDGES_NS])
_FINE_RUN: Final = np.array(
    [FINE_RUN_AT + bisect_left(FINE_EDGES_NS, edge + RUN_BASE_NS) for edge in LONE_RUN_EDGES_NS]
)


def read_counters(stored: Cells) -> Cells:
    """Return the counters [BLOCK_CELLS] of the stored cells [STORED_CELLS] of a block, or of a sum of blocks."""
    cells = stored[:BLOCK_CELLS].copy()
    _add_sums(cells, stored[SUMS_AT:STORED_CELLS].reshape(SERIES, SUM_CELLS))
    fine = stored[LONE_AT:LONE_RUN_AT].reshape(SPLIT_SERIES, LONE_FINES)
    if fine.any():
        _add_durations(cells, fine)
        runs = stored[LONE_RUN_AT:LONE_CODEC_AT]
        np.add.at(cells, _RUN, runs)
        np.add.at(cells, _FINE_RUN, runs)
        codecs = stored[LONE_CODEC_AT:SUMS_AT].reshape(LONE_STAGES, LONE_STAGES)
        cells[DECODE_AT : DECODE_AT + LONE_STAGES] += codecs.sum(axis=1)
        cells[ENCODE_AT : ENCODE_AT + LONE_STAGES] += codecs.sum(axis=0)
    return cells


def _add_sums(cells: Cells, sums: Cells) -> None:
    """Add the sums of each series [SERIES, SUM_CELLS]."""
    whole = sums.sum(axis=0)
    cells[REQUESTS_AT + OK : REQUESTS_AT + SERIES * OUTCOME_COUNT : OUTCOME_COUNT] += sums[:, ANSWERED]
    cells[DURATION_AT + LATENCY_CELLS - 1 : STAGE_AT : LATENCY_CELLS] += sums[:, TOTAL_NS]
    cells[STAGE_AT + LATENCY_CELLS - 1 : ROWS_AT : LATENCY_CELLS] += whole[DECODE_NS : DECODE_NS + len(STAGES)]
    cells[COUNTED_AT] += whole[ANSWERED_COUNTED]
    cells[ROWS_AT + ROWS_CELLS - 1] += whole[RUN_ROWS]
    cells[BATCH_AT + 2 : BATCH_AT + 4] += whole[FURTHER_RUN_NS : FURTHER_ENCODE_NS + 1]  # of requests, not of runs


def _add_durations(cells: Cells, fine: Cells) -> None:
    """Add what counts by series and duration [SPLIT_SERIES, LONE_FINES] stand for."""
    by_series = fine.sum(axis=1)
    number = by_series.sum()
    cells[REQUESTS_AT + OK : REQUESTS_AT + SPLIT_SERIES * OUTCOME_COUNT : OUTCOME_COUNT] += by_series
    for series in range(SPLIT_SERIES):
        np.add.at(cells, DURATION_AT + series * LATENCY_CELLS + _DURATION, fine[series])
    cells[FINE_AT : FINE_AT + LONE_FINES] += fine.sum(axis=0)
    cells[COUNTED_AT] += number
    cells[QUEUE_AT] += number  # none waited for longer than the first bucket
    cells[ROWS_AT] += number  # one row each
    cells[ROWS_AT + ROWS_CELLS - 1] += number
