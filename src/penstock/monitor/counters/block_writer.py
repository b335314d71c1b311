"""Writes the counters of one version; every request calls it once."""

from bisect import bisect_left
from struct import Struct
from time import time_ns
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.bucket_finder import BucketFinder
from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS, ROWS_EDGES, RUN_BASE_NS
from penstock.core.labels import PROTOCOL_NAMES
from penstock.monitor.counters.layout import (
    ATTRIBUTED_AT,
    BATCH_AT,
    BATCH_SIZES,
    CAPTURE_AT,
    DROPPED_AT,
    DURATION_AT,
    ENCODE_AT,
    EXPLANATION_COUNTERS,
    EXPLANATIONS_AT,
    FAIL_NS_AT,
    FINE_AT,
    FINE_CELLS,
    FINE_RUN_AT,
    INFLIGHT_AT,
    LAST_MS_AT,
    LATENCY_CELLS,
    LIMIT_AT,
    LIVE_SERIES,
    LONE_AT,
    LONE_CODEC_AT,
    LONE_FINES,
    LONE_RUN_AT,
    LONE_RUN_EDGES_NS,
    LONE_RUNS,
    LONE_STAGES,
    MARKED_AT,
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
    STAGE_AT,
    SUM_CELLS,
    SUMS_AT,
    Cells,
    cell_to_float,
    float_to_cell,
)
from penstock.monitor.outputs import OUTPUT_BINS

NOT_COUNTED: Final = -1
"""The rows of a run that another request has counted."""

_PROTOCOLS: Final = len(PROTOCOL_NAMES)
_NO_WAIT_NS: Final = LATENCY_EDGES_NS[0]

# Several cells that lie side by side take little longer than one. Native numbers are written whole: readers never see
# half of one.
_SUMS: Final = Struct(f"{SUM_CELLS}q")
_READ_SUMS: Final = _SUMS.unpack_from
_WRITE_SUMS: Final = _SUMS.pack_into
_SERIES_BYTES: Final = 8 * SUM_CELLS
_SIZE: Final = Struct("4q")
_READ_SIZE: Final = _SIZE.unpack_from
_WRITE_SIZE: Final = _SIZE.pack_into


class BlockWriter:
    """The counters of one version in one worker. Only the worker's event loop may use it."""

    __slots__ = (
        "_array",
        "_bytes",
        "_cells",
        "_decode",
        "_decode_ns",
        "_durations",
        "_encode",
        "_fine",
        "_fine_run",
        "_fines",
        "_last_ms",
        "_lone",
        "_lone_codecs",
        "_lone_run",
        "_lone_runs",
        "_number",
        "_queue",
        "_queue_ns",
        "_row_buckets",
        "_rows",
        "_run",
        "_stages",
        "_sums",
        "_total_ns",
    )

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._array: Cells = np.frombuffer(cells, np.uint64)
        # What each request counts is signed, as Python reads and writes unsigned numbers in twice the time, and no
        # count comes near the sign. It is in areas, as an index up to 256 needs no new object.
        self._bytes = cells.cast("B")
        signed = self._bytes.cast("l")
        self._durations, self._stages = signed[DURATION_AT:STAGE_AT], signed[STAGE_AT:ROWS_AT]
        self._fines = signed[FINE_AT : FINE_AT + FINE_CELLS]
        self._lone, self._lone_runs = signed[LONE_AT:LONE_RUN_AT], signed[LONE_RUN_AT:LONE_CODEC_AT]
        self._lone_codecs, self._sums = signed[LONE_CODEC_AT:SUMS_AT], self._bytes[8 * SUMS_AT :]
        self._row_buckets = signed[ROWS_AT : ROWS_AT + ROWS_CELLS]
        self._fine, self._fine_run = BucketFinder(FINE_EDGES_NS), BucketFinder(FINE_EDGES_NS)
        self._decode, self._queue = BucketFinder(LATENCY_EDGES_NS), BucketFinder(LATENCY_EDGES_NS)
        self._run, self._encode = BucketFinder(LATENCY_EDGES_NS), BucketFinder(LATENCY_EDGES_NS)
        self._lone_run, self._rows = BucketFinder(LONE_RUN_EDGES_NS), BucketFinder(ROWS_EDGES)
        self._number = self._total_ns = self._decode_ns = self._queue_ns = 0  # of the run that is being counted
        self._last_ms = 0

    def add_alone(
        self, series: int, rows: int, total: int, decode: int, queue: int, run: int, encode: int, counted: bool
    ) -> None:
        """Count one successful request that had a run of ``rows`` rows to itself; the rest is as in ``add_request``.

        Rollouts compare only such runs, because the number of requests that share a run depends on the traffic of a
        version. Beside the sums, a request with usual times is counted in three cells (see ``stored_cells``).
        """
        fine, lone_run = self._fine.find(total), self._lone_run.find(run)
        decode_bucket, encode_bucket = self._decode.find(decode), self._encode.find(encode)
        if (
            counted
            and rows == 1
            and series < SPLIT_SERIES
            and queue <= _NO_WAIT_NS
            and fine < LONE_FINES
            and lone_run < LONE_RUNS
            and decode_bucket < LONE_STAGES
            and encode_bucket < LONE_STAGES
        ):
            self._lone[series * LONE_FINES + fine] += 1
            self._lone_runs[lone_run] += 1
            self._lone_codecs[decode_bucket * LONE_STAGES + encode_bucket] += 1
            self._add_sums(series, total, decode, queue, run, encode, 0, 0, 0, False, 0)
        else:
            self._add_buckets(series, rows, fine, queue, run, counted)
            self._stages[decode_bucket] += 1
            self._stages[ENCODE_AT - STAGE_AT + encode_bucket] += 1
            self._add_sums(series, total, decode, queue, run, encode, 0, 0, 1, counted, rows)
        self._note_answer_time(time_ns() // 1_000_000)
        if rows != 1:
            self._batch(rows, decode, run, encode)

    def _add_sums(
        self,
        series: int,
        total: int,
        decode: int,
        queue: int,
        run: int,
        encode: int,
        further_run: int,
        further_encode: int,
        number: int,
        counted: bool,
        rows: int,
    ) -> None:
        """Add to the sums of a series (see ``layout``)."""
        at, counted_number = series * _SERIES_BYTES, number if counted and series < SPLIT_SERIES else 0
        sums: tuple[int, int, int, int, int, int, int, int, int, int] = _READ_SUMS(self._sums, at)
        _WRITE_SUMS(
            self._sums,
            at,
            sums[0] + total,
            sums[1] + decode,
            sums[2] + queue,
            sums[3] + run,
            sums[4] + encode,
            sums[5] + further_run,
            sums[6] + further_encode,
            sums[7] + number,
            sums[8] + counted_number,
            sums[9] + rows,
        )

    def _add_buckets(self, series: int, rows: int, fine: int, queue: int, run: int, counted: bool) -> None:
        """Count a request that had a run to itself in all of its buckets but those of decoding and encoding."""
        self._durations[series * LATENCY_CELLS + (fine + 3) // 4] += 1  # see ``FINE_EDGES_NS``
        if counted and series < SPLIT_SERIES:
            self._fines[fine] += 1
            self._cells[FINE_RUN_AT + self._fine_run.find(run + RUN_BASE_NS)] += 1
        self._stages[QUEUE_AT - STAGE_AT + self._queue.find(queue)] += 1
        self._stages[RUN_AT - STAGE_AT + self._run.find(run)] += 1
        self._row_buckets[self._rows.find(rows)] += 1

    def add_request(self, series: int, total: int, decode: int, queue: int, counted: bool) -> None:
        """Count one successful request of the run that the next ``add_run`` counts.

        ``series`` is ``route * len(PROTOCOL_NAMES) + protocol``. Durations are in nanoseconds; ``total`` runs from the
        first byte read to the write of the answer.
        ``counted`` says whether the request is evidence for a rollout. It is not if its unit has no vote left (see
        ``unit_votes``). All requests of one ``add_run`` have the same ``counted`` and ``series``.
        """
        stages, fine = self._stages, self._fine.find(total)
        self._durations[series * LATENCY_CELLS + (fine + 3) // 4] += 1  # see ``FINE_EDGES_NS``
        if counted and series < SPLIT_SERIES:
            self._fines[fine] += 1
        stages[self._decode.find(decode)] += 1
        stages[QUEUE_AT - STAGE_AT + self._queue.find(queue)] += 1
        self._number += 1
        self._total_ns += total
        self._decode_ns += decode
        self._queue_ns += queue

    def add_run(self, series: int, run_rows: int, run: int, encode: int, counted: bool) -> None:
        """Count the run of the requests that were added since the last call; they were encoded together.

        ``run_rows`` is the number of rows of the run, or ``NOT_COUNTED`` if requests of another series count it.
        """
        stages, number, decode = self._stages, self._number, self._decode_ns
        stages[RUN_AT - STAGE_AT + self._run.find(run)] += number
        stages[ENCODE_AT - STAGE_AT + self._encode.find(encode)] += number
        further = number - 1 if number > 1 and run_rows != 1 else 0
        self._add_sums(
            series,
            self._total_ns,
            decode,
            self._queue_ns,
            run * number,
            encode * number,
            run * further,
            encode * further,
            number,
            counted,
            0 if run_rows == NOT_COUNTED else run_rows,
        )
        self._number = self._total_ns = self._decode_ns = self._queue_ns = 0
        if run_rows != NOT_COUNTED:
            self._row_buckets[self._rows.find(run_rows)] += 1
        self._note_answer_time(time_ns() // 1_000_000)
        if run_rows != 1:
            self._batch(run_rows, decode, run, encode)

    def _note_answer_time(self, now_ms: int) -> None:
        if now_ms != self._last_ms:
            self._last_ms = self._cells[LAST_MS_AT] = now_ms

    def _batch(self, rows: int, decode: int, run: int, encode: int) -> None:
        at = 8 * (BATCH_AT + (rows if 1 < rows <= BATCH_SIZES else 0) * 4)
        size: tuple[int, int, int, int] = _READ_SIZE(self._bytes, at)
        runs = size[0] + (rows != NOT_COUNTED)
        _WRITE_SIZE(self._bytes, at, runs, size[1] + decode, size[2] + run, size[3] + encode)

    def count_failure(self, series: int, outcome: int, total: int, attributed: bool) -> None:
        """Count one request that did not succeed.

        ``outcome`` is its index in ``OUTCOMES`` and ``total`` its duration in nanoseconds. ``attributed`` says that the
        version is responsible for the failure (see ``core.labels``) and that it is evidence for a rollout.
        """
        cells = self._cells
        if attributed and series < SPLIT_SERIES:
            cells[ATTRIBUTED_AT] += 1
        cells[REQUESTS_AT + series * OUTCOME_COUNT + outcome] += 1
        base = DURATION_AT + series * LATENCY_CELLS
        cells[base + bisect_left(LATENCY_EDGES_NS, total)] += 1
        cells[base + LATENCY_CELLS - 1] += total
        cells[FAIL_NS_AT] += total

    def count_outputs(self, index: int, bins: NDArray[np.intp]) -> None:
        """Count rows of the output with this index by their ``bins`` [rows], each below ``OUTPUT_BINS``."""
        at = OUTPUTS_AT + index * OUTPUT_BINS
        self._array[at : at + OUTPUT_BINS] += np.bincount(bins, minlength=OUTPUT_BINS).astype(np.uint64)

    def count_mirrored(self) -> None:
        """Count a request that this version is to run again as a shadow; ``add_shadow`` counts its result later."""
        self._cells[SHADOW_AT] += 1

    def count_mirror_dropped(self) -> None:
        """Count a request that was mirrored to this version and dropped because the queue was full."""
        cells = self._cells
        cells[SHADOW_AT] += 1
        cells[DROPPED_AT] += 1

    def add_shadow(self, counter: str, count: int = 1) -> None:
        """Add to one of ``SHADOW_COUNTERS``."""
        self._cells[SHADOW_AT + SHADOW_COUNTERS.index(counter)] += count

    def add_shadow_difference(self, total: float, largest: float) -> None:
        """Add a sum of absolute differences, and keep the largest difference so far."""
        cells, at = self._cells, SHADOW_AT + SHADOW_COUNTERS.index("sum_abs_diff")
        cells[at] = float_to_cell(cell_to_float(cells[at]) + total)
        cells[at + 1] = max(cells[at + 1], float_to_cell(largest))

    def count_captured(self, size: int) -> None:
        """Count one captured request of ``size`` bytes."""
        self._cells[CAPTURE_AT] += 1
        self._cells[CAPTURE_AT + 1] += size

    def count_capture_dropped(self) -> None:
        """Count one request that was chosen for capture and could not be written."""
        self._cells[CAPTURE_AT + 2] += 1

    def count_marked(self, series: int, rows: int) -> None:
        """Count the rows of an answered request of a series that is not live (see ``LIVE_SERIES``)."""
        self._cells[MARKED_AT + (series - LIVE_SERIES) // _PROTOCOLS] += rows

    def count_joint_run_mismatch(self) -> None:
        """Count a run of several requests whose answers differ from those of the requests alone."""
        self._cells[MISMATCHES_AT] += 1

    def count_explanation(self, outcome: str, took_ns: int) -> None:
        """Count one explanation by its outcome, one of ``EXPLANATION_COUNTERS``, and the time that it took."""
        self._cells[EXPLANATIONS_AT + EXPLANATION_COUNTERS.index(outcome)] += 1
        self._cells[EXPLANATIONS_AT + EXPLANATION_COUNTERS.index("ns")] += took_ns

    def set_in_flight(self, calls: int) -> None:
        """Publish how many requests wait or run now."""
        self._cells[INFLIGHT_AT] = calls

    def set_limit(self, limit: int) -> None:
        """Publish the concurrency limit: how many requests may wait or run."""
        self._cells[LIMIT_AT] = limit

    def count_shed(self, reason: int) -> None:
        """Count one request that was refused for lack of capacity; ``reason`` is an index in ``SHED_REASONS``."""
        self._cells[SHED_AT + reason] += 1
