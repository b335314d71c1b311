"""The layout of a worker's counter memory: only this file knows the meaning of each cell.

A slot is the memory of one worker: a header, then one block for each served version (block 0 counts requests that
reached no version). A cell is an unsigned 64-bit integer with a single writer, the worker of the slot. Cells only grow,
so the blocks of several slots add up cell by cell, and the next worker in a slot continues them. The exceptions are the
gauges of the header (all its cells except the stalls, the failures of tasks and the refusals) and of callers: they
describe the present worker.

Behind the counters of each block lie the cells of short lone requests and the sums of each series. Such a request is
counted in three cells, each of which stands for several counters (see ``stored_cells``), so readers never see them.

Runs of one row, the most common ones, are not in the table of batch sizes: they are all runs minus those in the table.
"""

import hashlib
import struct
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS, ROWS_EDGES, RUN_BASE_NS
from penstock.core.labels import MARKED, OUTCOMES, PROTOCOL_NAMES, ROUTE_NAMES, SHED_REASONS, Route
from penstock.monitor.outputs import OUTPUT_BINS
from penstock.monitor.unit_votes import PLACES

Cells: TypeAlias = NDArray[np.uint64]

STAGES: Final = ("decode", "queue", "run", "encode")
SERIES: Final = len(ROUTE_NAMES) * len(PROTOCOL_NAMES)
LATENCY_CELLS: Final = len(LATENCY_EDGES_NS) + 2  # the buckets, the one above the last edge, and the sum
ROWS_CELLS: Final = len(ROWS_EDGES) + 2
BATCH_SIZES: Final = 128  # batch sizes with counters of their own, for the protocol's statistics; index 0: all others

SPLIT_SERIES: Final = (Route.CANARY + 1) * len(PROTOCOL_NAMES)
"""Series below this belong to requests that the split assigned at random: only these may be compared in a rollout."""

LIVE_SERIES: Final = Route.BATCH * len(PROTOCOL_NAMES)
"""Series below this belong to live traffic, the others to requests that are marked as batch or replay."""

FINE_CELLS: Final = len(FINE_EDGES_NS) + 1
OUTPUTS: Final = 2
"""Outputs of a model that are counted: the first ones."""

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
"""Counters of a version as a shadow; the two differences hold the bits of a non-negative float64."""

CAPTURE_COUNTERS: Final = ("captured", "bytes", "dropped")
"""Captured requests, their bytes, and requests that were chosen for capture and could not be written."""

EXPLANATION_COUNTERS: Final = ("exact", "sampled", "failed", "ns")
"""Explanations by how they ended, and the nanoseconds that they took."""

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
MARKED_AT: Final = COUNTED_AT + 1
EXPLANATIONS_AT: Final = MARKED_AT + len(MARKED)
BLOCK_CELLS: Final = EXPLANATIONS_AT + len(EXPLANATION_COUNTERS)

_MEANING: Final = (
    (ROUTE_NAMES, PROTOCOL_NAMES, OUTCOMES, SHED_REASONS),
    (LATENCY_EDGES_NS, ROWS_EDGES, FINE_EDGES_NS, RUN_BASE_NS),
    (STAGES, BATCH_SIZES, OUTPUTS, OUTPUT_BINS, SHADOW_COUNTERS, CAPTURE_COUNTERS, EXPLANATION_COUNTERS, BLOCK_CELLS),
)
LAYOUT_ID: Final = int.from_bytes(hashlib.blake2b(repr(_MEANING).encode(), digest_size=8).digest(), "big")
"""What the cells of a block mean, as a number: counts that are stored with another one must not be added to these, also
if they have as many cells."""

LONE_FINES: Final = 81
"""Fine buckets of the durations that a short lone request may have: up to 25.6 ms."""

LONE_RUN_EDGES_NS: Final = tuple(
    sorted(
        edge
        for edge in {*LATENCY_EDGES_NS, *[edge - RUN_BASE_NS for edge in FINE_EDGES_NS]}
        if 0 < edge <= FINE_EDGES_NS[LONE_FINES - 1]
    )
)
"""Upper edges (inclusive) in nanoseconds of its run. Both kinds of buckets of runs are unions of buckets of these."""

LONE_RUNS: Final = len(LONE_RUN_EDGES_NS)
LONE_STAGES: Final = 8
"""Buckets of its decoding and of its encoding: up to 283 µs."""

LONE_AT: Final = BLOCK_CELLS
LONE_RUN_AT: Final = LONE_AT + SPLIT_SERIES * LONE_FINES
LONE_CODEC_AT: Final = LONE_RUN_AT + LONE_RUNS
SUMS_AT: Final = LONE_CODEC_AT + LONE_STAGES**2
"""The sums of successful requests, ``SUM_CELLS`` for each series side by side: one call reads or writes them."""

TOTAL_NS, DECODE_NS, QUEUE_NS, RUN_NS, ENCODE_NS, FURTHER_RUN_NS, FURTHER_ENCODE_NS, *_COUNTS = range(10)
ANSWERED, ANSWERED_COUNTED, RUN_ROWS = _COUNTS
"""The sums of a series: durations and their stages in nanoseconds, and those of runs and encoding again without the
first request of each run; then the requests that shared a run or were unusual, those of them that are evidence for a
rollout, and the rows of their runs."""

SUM_CELLS: Final = RUN_ROWS + 1
STORED_CELLS: Final = SUMS_AT + SERIES * SUM_CELLS
"""Cells of a block in memory: its counters, those of short lone requests, and the sums."""

HEADER_CELLS: Final = 64
BLOCKS: Final = 1024
REGION_CELLS: Final = 1 << 19
"""Cells for the columns of rows; each version gets a region of them (see ``monitor.rows``)."""

REGION_START: Final = HEADER_CELLS + BLOCKS * STORED_CELLS
CALLERS: Final = 1024
"""Places for the usage of callers with quotas (see ``core.access.quotas``)."""

CALLER_CELLS: Final = 8
CALLER_REQUESTS, CALLER_ROWS, CALLER_MODEL_US, CALLER_REFUSED, CALLER_IN_FLIGHT, CALLER_BYTES = range(6)
"""Cells of a caller: requests, rows and microseconds in models so far, refused requests; and now, the requests that are
open and the bytes of their bodies. In the order of the fields of ``core.access.quota_shares.CallerTotals``."""

CALLER_TOTALS: Final = range(CALLER_REQUESTS, CALLER_BYTES + 1)
"""The cells that a caller's totals add up."""

CALLERS_START: Final = REGION_START + REGION_CELLS
UNITS_START: Final = 8 * (CALLERS_START + CALLERS * CALLER_CELLS)
SLOT_BYTES: Final = UNITS_START + 4 * PLACES

DROPPED_AT: Final = SHADOW_AT + SHADOW_COUNTERS.index("dropped")
MAX_ABS_DIFF_AT: Final = SHADOW_AT + SHADOW_COUNTERS.index("max_abs_diff")
SUM_ABS_DIFF_AT: Final = SHADOW_AT + SHADOW_COUNTERS.index("sum_abs_diff")

_CELL, _FLOAT = struct.Struct("=Q"), struct.Struct("=d")


def float_to_cell(value: float) -> int:
    """Return the bits of a non-negative float64 as a cell; a greater value gives a greater cell."""
    cell: int = _CELL.unpack(_FLOAT.pack(value))[0]
    return cell


def cell_to_float(cell: int) -> float:
    """Return the float64 whose bits a cell holds."""
    value: float = _FLOAT.unpack(_CELL.pack(cell))[0]
    return value
