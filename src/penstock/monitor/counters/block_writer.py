"""Writes the counters of one version: one call of it lies on the road of every request."""

from bisect import bisect_left
from time import time_ns
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.bucket_finder import BucketFinder
from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS, ROWS_EDGES, RUN_BASE_NS
from penstock.monitor.counters.layout import (
    ATTRIBUTED_AT,
    BATCH_AT,
    BATCH_SIZES,
    CAPTURE_AT,
    COUNTED_AT,
    DECODE_AT,
    DROPPED_AT,
    DURATION_AT,
    ENCODE_AT,
    FAIL_NS_AT,
    FINE_AT,
    FINE_RUN_AT,
    INFLIGHT_AT,
    LAST_MS_AT,
    LATENCY_CELLS,
    LIMIT_AT,
    MISMATCHES_AT,
    OUTCOME_COUNT,
    OUTPUTS_AT,
    QUEUE_AT,
    REQUESTS_AT,
    ROWS_AT,
    ROWS_CELLS,
    RUN_AT,
    SHADOW_AT,
    SHADOW_COUNTERS,
    SHED_AT,
    SPLIT_SERIES,
    Cells,
    cell_to_float,
    float_to_cell,
)
from penstock.monitor.outputs import OUTPUT_BINS

NOT_COUNTED: Final = -1
"""Rows of a run that another request stands for."""


class BlockWriter:
    """The counters of one version in one worker; belongs to the worker's event loop."""

    __slots__ = (
        "_array",
        "_cells",
        "_decode",
        "_decode_ns",
        "_encode",
        "_fine",
        "_fine_run",
        "_last_ms",
        "_number",
        "_queue",
        "_queue_ns",
        "_run",
        "_total_ns",
    )

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._array: Cells = np.frombuffer(cells, np.uint64)
        self._fine, self._fine_run = BucketFinder(FINE_EDGES_NS), BucketFinder(FINE_EDGES_NS)
        self._decode, self._queue = BucketFinder(LATENCY_EDGES_NS), BucketFinder(LATENCY_EDGES_NS)
        self._run, self._encode = BucketFinder(LATENCY_EDGES_NS), BucketFinder(LATENCY_EDGES_NS)
        self._number = self._total_ns = self._decode_ns = self._queue_ns = 0  # of the run that is being counted
        self._last_ms = 0

    def answered(self, series: int, run_rows: int, total: int, decode: int, queue: int, run: int, encode: int) -> None:
        """Count one successful request, its durations in nanoseconds, and the ``run_rows`` rows of the run that it
        stands for (``NOT_COUNTED``: another request stands for it).

        ``series`` is ``route * len(PROTOCOL_NAMES) + protocol``; ``total`` runs from the first byte read to the
        answer's write.
        """
        self.add_request(series, total, decode, queue, True)
        self.add_run(series, run_rows, run, encode, run_rows != NOT_COUNTED, True)

    def add_request(self, series: int, total: int, decode: int, queue: int, counted: bool) -> None:
        """Count one successful request of the run that the next ``add_run`` is for; times as in ``answered``.

        ``counted`` says that the request is evidence: it is not, where it is one unit's that has given enough (see
        ``unit_votes``). It is the same for all requests of one ``add_run``, and so is ``series``.
        """
        cells, fine = self._cells, self._fine.find(total)
        cells[DURATION_AT + series * LATENCY_CELLS + (fine + 3) // 4] += 1  # see ``FINE_EDGES_NS``
        if counted and series < SPLIT_SERIES:
            cells[FINE_AT + fine] += 1
        cells[DECODE_AT + self._decode.find(decode)] += 1
        cells[QUEUE_AT + self._queue.find(queue)] += 1
        self._number += 1
        self._total_ns += total
        self._decode_ns += decode
        self._queue_ns += queue

    def add_run(self, series: int, run_rows: int, run: int, encode: int, alone: bool, counted: bool) -> None:
        """Count the run of the requests that were added since the last one, and that they were encoded together.

        ``run_rows`` are the rows of the run, ``NOT_COUNTED`` where requests of another series stand for it. ``alone``
        says that it is one request, which shared its run with none. Rollouts compare only these runs: how many requests
        share one depends on the traffic of a version.
        """
        cells, number, decode = self._cells, self._number, self._decode_ns
        cells[REQUESTS_AT + series * OUTCOME_COUNT] += number
        if counted and series < SPLIT_SERIES:
            cells[COUNTED_AT] += number
            if alone:
                cells[FINE_RUN_AT + self._fine_run.find(run + RUN_BASE_NS)] += 1
        cells[DURATION_AT + series * LATENCY_CELLS + LATENCY_CELLS - 1] += self._total_ns
        cells[DECODE_AT + LATENCY_CELLS - 1] += decode
        cells[QUEUE_AT + LATENCY_CELLS - 1] += self._queue_ns
        self._number = self._total_ns = self._decode_ns = self._queue_ns = 0
        cells[RUN_AT + self._run.find(run)] += number
        cells[RUN_AT + LATENCY_CELLS - 1] += run * number
        cells[ENCODE_AT + self._encode.find(encode)] += number
        cells[ENCODE_AT + LATENCY_CELLS - 1] += encode * number
        if run_rows != NOT_COUNTED:
            cells[ROWS_AT + bisect_left(ROWS_EDGES, run_rows)] += 1
            cells[ROWS_AT + ROWS_CELLS - 1] += run_rows
        self._answered_at(time_ns() // 1_000_000)
        if run_rows != 1:
            self._batch(run_rows, decode, run, encode)
            cells[BATCH_AT + 2] += run * (number - 1)  # times of requests, not of runs
            cells[BATCH_AT + 3] += encode * (number - 1)

    def _answered_at(self, now_ms: int) -> None:
        if now_ms != self._last_ms:
            self._last_ms = self._cells[LAST_MS_AT] = now_ms

    def _batch(self, rows: int, decode: int, run: int, encode: int) -> None:
        cells = self._cells
        base = BATCH_AT + (rows if 1 < rows <= BATCH_SIZES else 0) * 4
        cells[base] += rows != NOT_COUNTED
        cells[base + 1] += decode
        cells[base + 2] += run
        cells[base + 3] += encode

    def failed(self, series: int, outcome: int, total: int, attributed: bool) -> None:
        """Count one request that did not succeed; ``outcome`` is its place in ``OUTCOMES``, ``total`` its time in
        nanoseconds, and ``attributed`` says that the version is responsible for it (see ``core.labels.is_blamed``) and
        that it counts."""
        cells = self._cells
        if attributed and series < SPLIT_SERIES:
            cells[ATTRIBUTED_AT] += 1
        cells[REQUESTS_AT + series * OUTCOME_COUNT + outcome] += 1
        base = DURATION_AT + series * LATENCY_CELLS
        cells[base + bisect_left(LATENCY_EDGES_NS, total)] += 1
        cells[base + LATENCY_CELLS - 1] += total
        cells[FAIL_NS_AT] += total

    def outputs(self, index: int, bins: NDArray[np.intp]) -> None:
        """Count the bins that rows of one output fell in."""
        at = OUTPUTS_AT + index * OUTPUT_BINS
        self._array[at : at + OUTPUT_BINS] += np.bincount(bins, minlength=OUTPUT_BINS).astype(np.uint64)

    def mirrored(self) -> None:
        """A request is to be run once more by this version as a shadow; ``shadow`` says in time what became of it."""
        self._cells[SHADOW_AT] += 1

    def mirrored_in_vain(self) -> None:
        """The same, where there is no room for it."""
        cells = self._cells
        cells[SHADOW_AT] += 1
        cells[DROPPED_AT] += 1

    def shadow(self, word: str, count: int = 1) -> None:
        """Add to one of ``SHADOW_COUNTERS``."""
        self._cells[SHADOW_AT + SHADOW_COUNTERS.index(word)] += count

    def shadow_difference(self, total: float, largest: float) -> None:
        """Add up absolute differences, and keep the largest."""
        cells, at = self._cells, SHADOW_AT + SHADOW_COUNTERS.index("sum_abs_diff")
        cells[at] = float_to_cell(cell_to_float(cells[at]) + total)
        cells[at + 1] = max(cells[at + 1], float_to_cell(largest))

    def captured(self, size: int) -> None:
        """One request was kept as it was, in so many bytes."""
        self._cells[CAPTURE_AT] += 1
        self._cells[CAPTURE_AT + 1] += size

    def not_captured(self) -> None:
        """One request that should have been kept was not."""
        self._cells[CAPTURE_AT + 2] += 1

    def joint_run_mismatched(self) -> None:
        """A run of several requests was answered otherwise than the requests alone."""
        self._cells[MISMATCHES_AT] += 1

    def in_flight(self, calls: int) -> None:
        """So many requests wait or run now."""
        self._cells[INFLIGHT_AT] = calls

    def limited(self, limit: int) -> None:
        """So many requests may wait and run from now on."""
        self._cells[LIMIT_AT] = limit

    def shed(self, reason: int) -> None:
        """One request was refused for want of capacity; ``reason`` is its place in ``SHED_REASONS``."""
        self._cells[SHED_AT + reason] += 1
