"""The layout of a worker's counter memory; only here is it known which word of a block means what.

A slot is one worker's memory: a header, then one block for each served version (block 0 counts requests that
reached no version). Every word is an unsigned 64-bit integer with a single writer, the slot's worker; words
only grow, so blocks of several slots add up word by word and a successor in the same slot continues them.
The header's gauges (all its words but the stalls' and the failures of tasks) are the exception: they describe the
present worker.

Runs on one row, the commonest, are not in the table of batch sizes: they are what is left of all runs.
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS, ROWS_EDGES
from penstock.core.labels import OUTCOMES, PROTOCOL_NAMES, ROUTE_NAMES, SHED_REASONS, Route
from penstock.monitor.outputs import OUTPUT_BINS
from penstock.monitor.unit_votes import PLACES

Cells = NDArray[np.uint64]

STAGES: Final = ("decode", "queue", "run", "encode")
SERIES: Final = len(ROUTE_NAMES) * len(PROTOCOL_NAMES)
LATENCY_CELLS: Final = len(LATENCY_EDGES_NS) + 2  # buckets, the one above, the sum
ROWS_CELLS: Final = len(ROWS_EDGES) + 2
BATCH_SIZES: Final = 128  # batch sizes counted one by one for the protocol's batch statistics; 0 stands for all others

SPLIT_SERIES: Final = (Route.CANARY + 1) * len(PROTOCOL_NAMES)
"""Series below this are of requests that the split sent to a version by chance: what a rollout may compare."""

FINE_CELLS: Final = len(FINE_EDGES_NS) + 1
OUTPUTS: Final = 2
"""Outputs of a model that are counted, from the first."""

SHADOW_COUNTERS: Final = (
    "mirrored",
    "pairs",
    "missed",
    "dropped",
    "disagreements",
    "rows",
    "flips",
    "elements",
    "primary_ns",
    "shadow_ns",
    "sum_abs_diff",
    "max_abs_diff",
)
"""What a version is counted by as a shadow; the differences are the bits of non-negative float64."""

CAPTURE_COUNTERS: Final = ("captured", "bytes", "dropped")
"""Requests that were kept as they were, their bytes, and requests that should have been kept and were not."""

OUTCOME_COUNT: Final = len(OUTCOMES)
REQUESTS_AT: Final = 0
DURATION_AT: Final = REQUESTS_AT + SERIES * OUTCOME_COUNT
STAGE_AT: Final = DURATION_AT + SERIES * LATENCY_CELLS
DECODE_AT: Final = STAGE_AT
QUEUE_AT: Final = DECODE_AT + LATENCY_CELLS
RUN_AT: Final = QUEUE_AT + LATENCY_CELLS
ENCODE_AT: Final = RUN_AT + LATENCY_CELLS
ROWS_AT: Final = STAGE_AT + len(STAGES) * LATENCY_CELLS
FAIL_NS_AT: Final = ROWS_AT + ROWS_CELLS
LAST_MS_AT: Final = FAIL_NS_AT + 1
INFLIGHT_AT: Final = FAIL_NS_AT + 2
LIMIT_AT: Final = FAIL_NS_AT + 3
SHED_AT: Final = FAIL_NS_AT + 4
BATCH_AT: Final = SHED_AT + len(SHED_REASONS)
FINE_AT: Final = BATCH_AT + (BATCH_SIZES + 1) * 4
OUTPUTS_AT: Final = FINE_AT + FINE_CELLS
SHADOW_AT: Final = OUTPUTS_AT + OUTPUTS * OUTPUT_BINS
CAPTURE_AT: Final = SHADOW_AT + len(SHADOW_COUNTERS)
ATTRIBUTED_AT: Final = CAPTURE_AT + len(CAPTURE_COUNTERS)
MISMATCHES_AT: Final = ATTRIBUTED_AT + 1
FINE_RUN_AT: Final = MISMATCHES_AT + 1
COUNTED_AT: Final = FINE_RUN_AT + FINE_CELLS
BLOCK_CELLS: Final = COUNTED_AT + 1

HEADER_CELLS: Final = 64
BLOCKS: Final = 1024
REGION_CELLS: Final = 1 << 19
"""Words for the columns of rows, given out version by version; see ``monitor.rows``."""

REGION_START: Final = HEADER_CELLS + BLOCKS * BLOCK_CELLS
UNITS_START: Final = 8 * (REGION_START + REGION_CELLS)
SLOT_BYTES: Final = UNITS_START + 4 * PLACES

DROPPED_AT: Final = SHADOW_AT + SHADOW_COUNTERS.index("dropped")
MAX_ABS_DIFF_AT: Final = SHADOW_AT + SHADOW_COUNTERS.index("max_abs_diff")
SUM_ABS_DIFF_AT: Final = SHADOW_AT + SHADOW_COUNTERS.index("sum_abs_diff")

_WORD, _FLOAT = struct.Struct("=Q"), struct.Struct("=d")


def float_to_cell(value: float) -> int:
    """A non-negative float64 as a word; greater values are greater words."""
    word: int = _WORD.unpack(_FLOAT.pack(value))[0]
    return word


def cell_to_float(word: int) -> float:
    """The float64 that a word stands for."""
    value: float = _FLOAT.unpack(_WORD.pack(word))[0]
    return value
