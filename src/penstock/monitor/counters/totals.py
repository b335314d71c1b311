"""Reads counters: the blocks of one version, added up over any number of slots."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from penstock.core.buckets import LATENCY_EDGES_NS
from penstock.core.labels import MARKED_ROUTES, OK, OUTCOME_INDEX, OUTCOMES, PROTOCOL_NAMES, ROUTE_NAMES, SHED_REASONS
from penstock.monitor.counters.histogram import Histogram, quantile_ns
from penstock.monitor.counters.layout import (
    ATTRIBUTED_AT,
    BATCH_AT,
    BATCH_SIZES,
    BLOCK_CELLS,
    CAPTURE_AT,
    CAPTURE_COUNTERS,
    COUNTED_AT,
    DURATION_AT,
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
    MARKED_AT,
    MAX_ABS_DIFF_AT,
    MISMATCHES_AT,
    OUTCOME_COUNT,
    OUTPUTS_AT,
    REQUESTS_AT,
    ROWS_AT,
    ROWS_CELLS,
    SHADOW_AT,
    SHADOW_COUNTERS,
    SHED_AT,
    SPLIT_SERIES,
    STAGE_AT,
    STAGES,
    STORED_CELLS,
    SUM_ABS_DIFF_AT,
    Cells,
    cell_to_float,
    float_to_cell,
)
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.stored_cells import read_counters
from penstock.monitor.outputs import OUTPUT_BINS


class Totals:
    """The counters of one version, added up over any number of slots."""

    def __init__(self, cells: Cells) -> None:
        self._cells: list[int] = cells.tolist()

    @classmethod
    def of(cls, slots: Iterable[Slot], block: int) -> "Totals":
        """Add up a block over slots."""
        return cls(read_counters(add_blocks([slot.read(block) for slot in slots], STORED_CELLS)))

    @property
    def cells(self) -> Cells:
        """The totals as the cells of one block [BLOCK_CELLS]."""
        return np.array(self._cells, np.uint64)

    def requests(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield non-zero counts as (route, protocol, outcome, count)."""
        for series, (route, protocol) in enumerate(_iterate_series()):
            for index, outcome in enumerate(OUTCOMES):
                count = self._cells[REQUESTS_AT + series * OUTCOME_COUNT + index]
                if count:
                    yield route, protocol, outcome, count

    def live_outcomes(self) -> Counter[str]:
        """Return how many requests of live traffic ended in which way; those marked as batch or replay are left out."""
        outcomes: Counter[str] = Counter()
        for route, _, outcome, count in self.requests():
            if route not in MARKED_ROUTES:
                outcomes[outcome] += count
        return outcomes

    def live_buckets(self) -> list[int]:
        """Return the counts of durations by latency bucket of live traffic; empty without any."""
        live = [item.buckets for route, _, item in self.durations() if route not in MARKED_ROUTES]
        return [sum(column) for column in zip(*live, strict=True)]

    def durations(self) -> Iterator[tuple[str, str, Histogram]]:
        """Yield non-empty histograms of request durations as (route, protocol, histogram in nanoseconds)."""
        for series, (route, protocol) in enumerate(_iterate_series()):
            histogram = self._histogram(DURATION_AT + series * LATENCY_CELLS, LATENCY_CELLS)
            if histogram.count:
                yield route, protocol, histogram

    def quantiles_ms(self) -> dict[str, float | int]:
        """Return the number of requests of live traffic and quantiles of their durations in milliseconds (see
        ``quantile_ns``)."""
        return _quantiles_ms(self.live_buckets())

    def stage_quantiles_ms(self) -> dict[str, dict[str, float | int]]:
        """Return for each of ``STAGES`` the number of successful requests and quantiles of its durations in
        milliseconds."""
        return {name: _quantiles_ms(list(self.stage(name).buckets)) for name in STAGES}

    def slower_than(self, limit_ms: float) -> int:
        """Return the number of requests of live traffic that took longer; the bucket of the limit is interpolated as a
        quantile is."""
        buckets = self.live_buckets()
        index = bisect_left(LATENCY_EDGES_NS, limit_ms * 1e6)
        if not buckets or index >= len(LATENCY_EDGES_NS):
            return 0
        high = LATENCY_EDGES_NS[index]
        low = LATENCY_EDGES_NS[index - 1] if index else high / 2
        share = math.log(high / max(low, limit_ms * 1e6)) / math.log(high / low)
        rest: int = sum(buckets[index + 1 :])
        return rest + int(buckets[index] * share)

    def stage(self, name: str) -> Histogram:
        """Return the durations (nanoseconds) of one of ``STAGES`` for all successful requests."""
        return self._histogram(STAGE_AT + STAGES.index(name) * LATENCY_CELLS, LATENCY_CELLS)

    def split_latency(self) -> list[int]:
        """Return the counts of durations by fine bucket, of successful requests that the split sent here."""
        return self._cells[FINE_AT : FINE_AT + FINE_CELLS]

    def split_runs(self) -> list[int]:
        """Return the counts of runs by fine bucket, of requests that the split sent here and that shared their run with
        no other; a bucket is that of the run's duration plus ``RUN_BASE_NS``."""
        return self._cells[FINE_RUN_AT : FINE_RUN_AT + FINE_CELLS]

    def split_outcomes(self) -> tuple[int, int]:
        """Return how many requests that the split sent here failed through the version's fault, and how many succeeded.

        Of each unit of a sticky split only its votes count. Errors of callers, requests refused for lack of capacity
        and requests that expired in the queue are in neither number.
        """
        return self._cells[ATTRIBUTED_AT], self._cells[COUNTED_AT]

    def split_requests(self) -> int:
        """Return the number of requests that the split sent here and that succeeded or failed through the version's
        fault; of a unit all of its requests count."""
        counts = self._cells[REQUESTS_AT : REQUESTS_AT + SPLIT_SERIES * len(OUTCOMES)]
        return self._cells[ATTRIBUTED_AT] + sum(counts[OK :: len(OUTCOMES)])

    def output_bins(self, index: int) -> list[int]:
        """Return the counted rows of one output by bin (see ``monitor.outputs``)."""
        at = OUTPUTS_AT + index * OUTPUT_BINS
        return self._cells[at : at + OUTPUT_BINS]

    def shadow(self) -> dict[str, float]:
        """Return the counters of this version as a shadow, by ``SHADOW_COUNTERS``."""
        cells = dict(zip(SHADOW_COUNTERS, self._cells[SHADOW_AT:CAPTURE_AT], strict=True))
        differences = {name: cell_to_float(cells[name]) for name in ("sum_abs_diff", "max_abs_diff")}
        return {**cells, **differences}

    def capture(self) -> dict[str, int]:
        """Return the counters of captured requests, by ``CAPTURE_COUNTERS``."""
        return dict(zip(CAPTURE_COUNTERS, self._cells[CAPTURE_AT:ATTRIBUTED_AT], strict=True))

    def marked_rows(self) -> dict[str, int]:
        """Return the rows of requests that are not live traffic, by ``MARKED_ROUTES``; no monitor counts them."""
        return dict(zip(MARKED_ROUTES, self._cells[MARKED_AT:EXPLANATIONS_AT], strict=True))

    @property
    def joint_run_mismatches(self) -> int:
        """Number of runs of several requests whose answers differed from those of the requests alone."""
        return self._cells[MISMATCHES_AT]

    def explanations(self) -> dict[str, int]:
        """Return the counters of explanations, by ``EXPLANATION_COUNTERS``."""
        return dict(zip(EXPLANATION_COUNTERS, self._cells[EXPLANATIONS_AT:BLOCK_CELLS], strict=True))

    def batch_rows(self) -> Histogram:
        """Return the histogram of rows by run."""
        return self._histogram(ROWS_AT, ROWS_CELLS)

    def batches(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield runs by exact batch size up to ``BATCH_SIZES``: (size, count, decode ns, run ns, encode ns)."""
        table = [self._cells[BATCH_AT + size * 4 :][:4] for size in range(BATCH_SIZES + 1)]
        stages = [self.stage(name).total for name in ("decode", "run", "encode")]
        others = [sum(column) for column in zip(*table, strict=True)]
        table[1] = [all_ - other for all_, other in zip([self.executions, *stages], others, strict=True)]
        for size, (count, decode, run, encode) in enumerate(table):
            if size and count:
                yield size, count, decode, run, encode

    def outcome_count(self, succeeded: bool) -> int:
        """Return the number of requests that succeeded, or of those that did not."""
        return sum(count for _, _, outcome, count in self.requests() if (outcome == OUTCOMES[OK]) == succeeded)

    @property
    def success_ns(self) -> int:
        """Time spent on successful requests, nanoseconds."""
        return sum(histogram.total for _, _, histogram in self.durations()) - self.fail_ns

    @property
    def fail_ns(self) -> int:
        """Time spent on failed requests, nanoseconds."""
        return self._cells[FAIL_NS_AT]

    @property
    def inferences(self) -> int:
        """Number of rows that were inferred."""
        return self.batch_rows().total

    @property
    def executions(self) -> int:
        """Number of runs of the model."""
        return self.batch_rows().count

    @property
    def last_inference_ms(self) -> int:
        """Time of the last run in milliseconds since the epoch, 0 before the first."""
        return self._cells[LAST_MS_AT]

    @property
    def inflight(self) -> int:
        """Number of requests that wait or run now."""
        return self._cells[INFLIGHT_AT]

    @property
    def shed(self) -> dict[str, int]:
        """Number of requests that were refused for lack of capacity, by ``SHED_REASONS``."""
        return dict(zip(SHED_REASONS, self._cells[SHED_AT : SHED_AT + len(SHED_REASONS)], strict=True))

    def _histogram(self, base: int, cells: int) -> Histogram:
        return Histogram(tuple(self._cells[base : base + cells - 1]), self._cells[base + cells - 1])


def _quantiles_ms(buckets: list[int]) -> dict[str, float | int]:
    """Return the count of a histogram, and quantiles in milliseconds."""
    total = sum(buckets)
    quantiles: dict[str, float | int] = {"count": total}
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        quantiles[name] = round(quantile_ns(buckets, share * total) / 1e6, 4) if total else 0.0
    return quantiles


def add_blocks(blocks: Iterable[Cells], size: int = BLOCK_CELLS) -> Cells:
    """Return the sum [size] of blocks [size] of one version; for the time of the last run and the largest difference
    the maximum, for floats the sum of the floats."""
    total = np.zeros(size, np.uint64)
    last, largest, difference = np.uint64(0), np.uint64(0), 0.0
    for cells in blocks:
        total += cells
        last = max(last, cells[LAST_MS_AT])
        largest = max(largest, cells[MAX_ABS_DIFF_AT])
        difference += cell_to_float(int(cells[SUM_ABS_DIFF_AT]))
    total[LAST_MS_AT], total[MAX_ABS_DIFF_AT] = last, largest
    total[SUM_ABS_DIFF_AT] = float_to_cell(difference)
    return total


def subtract_block(block: Cells, before: Cells) -> Cells:
    """Return the block that ``add_blocks`` adds to ``before`` to give ``block``."""
    increase = block - before
    difference = cell_to_float(int(block[SUM_ABS_DIFF_AT])) - cell_to_float(int(before[SUM_ABS_DIFF_AT]))
    increase[LAST_MS_AT], increase[MAX_ABS_DIFF_AT] = block[LAST_MS_AT], block[MAX_ABS_DIFF_AT]
    increase[SUM_ABS_DIFF_AT] = float_to_cell(difference)
    return increase


def count_load(slots: Iterable[Slot], block: int) -> tuple[int, int]:
    """Return how many requests of a version wait or run now, and how many may, over all slots."""
    pairs = [(int(cells[INFLIGHT_AT]), int(cells[LIMIT_AT])) for cells in (slot.read(block) for slot in slots)]
    return sum([inflight for inflight, _ in pairs]), sum([limit for _, limit in pairs])


_DEADLINE: Final = OUTCOME_INDEX["deadline"]


def count_refused(slots: Iterable[Slot], block: int) -> tuple[list[int], int]:
    """Return how many requests a version refused for lack of capacity, by ``SHED_REASONS``, and how many of its
    requests missed their deadline, over all slots."""
    by_reason, expired = np.zeros(len(SHED_REASONS), np.uint64), 0
    for slot in slots:
        cells = slot.read(block)
        by_reason += cells[SHED_AT : SHED_AT + len(SHED_REASONS)]
        expired += int(cells[REQUESTS_AT + _DEADLINE : DURATION_AT : len(OUTCOMES)].sum())
    shed: list[int] = by_reason.tolist()
    return shed, expired


def _iterate_series() -> Iterator[tuple[str, str]]:
    for route in ROUTE_NAMES:
        for protocol in PROTOCOL_NAMES:
            yield route, protocol


ReadTotals = Callable[[int], Totals]
"""Returns the totals of a block over all workers."""
