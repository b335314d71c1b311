"""The layout of a worker's counter memory; only here is it known which word means what.

A slot is one worker's memory: a header, then one block for each served version (block 0 counts requests that
reached no version). Every word is an unsigned 64-bit integer with a single writer, the slot's worker; words
only grow, so blocks of several slots add up word by word and a successor in the same slot continues them.
The header's gauges (all its words but the stalls' and the failures of tasks) are the exception: they describe the
present worker.

Runs on one row, the commonest, are not in the table of batch sizes: they are what is left of all runs.
"""

import math
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic_ns, time_ns
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.bucket_finder import BucketFinder
from penstock.core.buckets import (
    FINE_EDGES_NS,
    LATENCY_EDGES_NS,
    ROWS_EDGES,
    RUN_BASE_NS,
    STALL_EDGES_NS,
)
from penstock.core.labels import OK, OUTCOME_INDEX, OUTCOMES, PROTOCOL_NAMES, ROUTE_NAMES, SHED_REASONS, Route
from penstock.monitor.outputs import OUTPUT_BINS
from penstock.monitor.unit_votes import PLACES

Words = NDArray[np.uint64]

STAGES: Final = ("decode", "queue", "run", "encode")
SERIES: Final = len(ROUTE_NAMES) * len(PROTOCOL_NAMES)
LATENCY_WORDS: Final = len(LATENCY_EDGES_NS) + 2  # buckets, the one above, the sum
ROWS_WORDS: Final = len(ROWS_EDGES) + 2
BATCH_SIZES: Final = 128  # batch sizes counted one by one for the protocol's batch statistics; 0 stands for all others

NOT_COUNTED: Final = -1
"""Rows of a run that another request stands for."""

SPLIT_SERIES: Final = (Route.CANARY + 1) * len(PROTOCOL_NAMES)
"""Series below this are of requests that the split sent to a version by chance: what a rollout may compare."""

FINE_WORDS: Final = len(FINE_EDGES_NS) + 1
OUTPUTS: Final = 2
"""Outputs of a model that are counted, from the first."""

SHADOW_WORDS: Final = (
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

CAPTURE_WORDS: Final = ("captured", "bytes", "dropped")
"""Requests that were kept as they were, their bytes, and requests that should have been kept and were not."""

_OUTCOMES: Final = len(OUTCOMES)
_REQUESTS: Final = 0
_DURATION: Final = _REQUESTS + SERIES * _OUTCOMES
_STAGE: Final = _DURATION + SERIES * LATENCY_WORDS
_DECODE: Final = _STAGE
_QUEUE: Final = _DECODE + LATENCY_WORDS
_RUN: Final = _QUEUE + LATENCY_WORDS
_ENCODE: Final = _RUN + LATENCY_WORDS
_ROWS: Final = _STAGE + len(STAGES) * LATENCY_WORDS
_FAIL_NS: Final = _ROWS + ROWS_WORDS
_LAST_MS: Final = _FAIL_NS + 1
_INFLIGHT: Final = _FAIL_NS + 2
_LIMIT: Final = _FAIL_NS + 3
_SHED: Final = _FAIL_NS + 4
_BATCH: Final = _SHED + len(SHED_REASONS)
_FINE: Final = _BATCH + (BATCH_SIZES + 1) * 4
_OUTPUTS: Final = _FINE + FINE_WORDS
_SHADOW: Final = _OUTPUTS + OUTPUTS * OUTPUT_BINS
_CAPTURE: Final = _SHADOW + len(SHADOW_WORDS)
_BLAMED: Final = _CAPTURE + len(CAPTURE_WORDS)
_MISMATCHES: Final = _BLAMED + 1
_FINE_RUN: Final = _MISMATCHES + 1
_COUNTED: Final = _FINE_RUN + FINE_WORDS
BLOCK_WORDS: Final = _COUNTED + 1

HEADER_WORDS: Final = 64
BLOCKS: Final = 1024
REGION_WORDS: Final = 1 << 19
"""Words for the columns of rows, given out version by version; see ``monitor.rows``."""

REGION_START: Final = HEADER_WORDS + BLOCKS * BLOCK_WORDS
_UNITS_START: Final = 8 * (REGION_START + REGION_WORDS)
SLOT_BYTES: Final = _UNITS_START + 4 * PLACES

_DROPPED: Final = _SHADOW + SHADOW_WORDS.index("dropped")
_MAX_ABS_DIFF: Final = _SHADOW + SHADOW_WORDS.index("max_abs_diff")
_SUM_ABS_DIFF: Final = _SHADOW + SHADOW_WORDS.index("sum_abs_diff")
_WORD, _FLOAT = struct.Struct("=Q"), struct.Struct("=d")

_PID, _HEARTBEAT, _STATE, _BUSY_UNTIL, _MEMORY_LIMIT, _MEMORY_USED, _STALLS = range(7)
STALL_WORDS: Final = len(STALL_EDGES_NS) + 2  # buckets, the one above, the sum

HEARTBEAT, HOUSE = range(2)
TASK_NAMES: Final = ("heartbeat", "house")
"""The periodic tasks of a worker."""

_TASKS: Final = _STALLS + STALL_WORDS
_TASK_WORDS: Final = 3
WELL, DEAD, OVERDUE = range(3)
"""How a task is."""

STARTING, READY, DRAINING = range(3)
STATE_NAMES: Final = ("starting", "ready", "draining")


class BlockWriter:
    """The counters of one version in one worker; one call of it lies on the road of every request."""

    __slots__ = (
        "_array",
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
        "_words",
    )

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._array: Words = np.frombuffer(words, np.uint64)
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
        words, fine = self._words, self._fine.find(total)
        words[_DURATION + series * LATENCY_WORDS + (fine + 3) // 4] += 1  # see ``FINE_EDGES_NS``
        if counted and series < SPLIT_SERIES:
            words[_FINE + fine] += 1
        words[_DECODE + self._decode.find(decode)] += 1
        words[_QUEUE + self._queue.find(queue)] += 1
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
        words, number, decode = self._words, self._number, self._decode_ns
        words[_REQUESTS + series * _OUTCOMES] += number
        if counted and series < SPLIT_SERIES:
            words[_COUNTED] += number
            if alone:
                words[_FINE_RUN + self._fine_run.find(run + RUN_BASE_NS)] += 1
        words[_DURATION + series * LATENCY_WORDS + LATENCY_WORDS - 1] += self._total_ns
        words[_DECODE + LATENCY_WORDS - 1] += decode
        words[_QUEUE + LATENCY_WORDS - 1] += self._queue_ns
        self._number = self._total_ns = self._decode_ns = self._queue_ns = 0
        words[_RUN + self._run.find(run)] += number
        words[_RUN + LATENCY_WORDS - 1] += run * number
        words[_ENCODE + self._encode.find(encode)] += number
        words[_ENCODE + LATENCY_WORDS - 1] += encode * number
        if run_rows != NOT_COUNTED:
            words[_ROWS + bisect_left(ROWS_EDGES, run_rows)] += 1
            words[_ROWS + ROWS_WORDS - 1] += run_rows
        self._answered_at(time_ns() // 1_000_000)
        if run_rows != 1:
            self._batch(run_rows, decode, run, encode)
            words[_BATCH + 2] += run * (number - 1)  # times of requests, not of runs
            words[_BATCH + 3] += encode * (number - 1)

    def _answered_at(self, now_ms: int) -> None:
        if now_ms != self._last_ms:
            self._last_ms = self._words[_LAST_MS] = now_ms

    def _batch(self, rows: int, decode: int, run: int, encode: int) -> None:
        words = self._words
        base = _BATCH + (rows if 1 < rows <= BATCH_SIZES else 0) * 4
        words[base] += rows != NOT_COUNTED
        words[base + 1] += decode
        words[base + 2] += run
        words[base + 3] += encode

    def failed(self, series: int, outcome: int, total: int, blamed: bool) -> None:
        """Count one request that did not succeed; ``outcome`` is its place in ``OUTCOMES``, ``total`` its time in
        nanoseconds, and ``blamed`` says that the version is responsible for it (see ``core.labels.is_blamed``) and
        that it counts."""
        words = self._words
        if blamed and series < SPLIT_SERIES:
            words[_BLAMED] += 1
        words[_REQUESTS + series * _OUTCOMES + outcome] += 1
        base = _DURATION + series * LATENCY_WORDS
        words[base + bisect_left(LATENCY_EDGES_NS, total)] += 1
        words[base + LATENCY_WORDS - 1] += total
        words[_FAIL_NS] += total

    def outputs(self, index: int, bins: NDArray[np.intp]) -> None:
        """Count the bins that rows of one output fell in."""
        at = _OUTPUTS + index * OUTPUT_BINS
        self._array[at : at + OUTPUT_BINS] += np.bincount(bins, minlength=OUTPUT_BINS).astype(np.uint64)

    def mirrored(self) -> None:
        """A request is to be run once more by this version as a shadow; ``shadow`` says in time what became of it."""
        self._words[_SHADOW] += 1

    def mirrored_in_vain(self) -> None:
        """The same, where there is no room for it."""
        words = self._words
        words[_SHADOW] += 1
        words[_DROPPED] += 1

    def shadow(self, word: str, count: int = 1) -> None:
        """Add to one of ``SHADOW_WORDS``."""
        self._words[_SHADOW + SHADOW_WORDS.index(word)] += count

    def shadow_difference(self, total: float, largest: float) -> None:
        """Add up absolute differences, and keep the largest."""
        words, at = self._words, _SHADOW + SHADOW_WORDS.index("sum_abs_diff")
        words[at] = _bits(_float(words[at]) + total)
        words[at + 1] = max(words[at + 1], _bits(largest))

    def captured(self, size: int) -> None:
        """One request was kept as it was, in so many bytes."""
        self._words[_CAPTURE] += 1
        self._words[_CAPTURE + 1] += size

    def not_captured(self) -> None:
        """One request that should have been kept was not."""
        self._words[_CAPTURE + 2] += 1

    def joint_run_mismatched(self) -> None:
        """A run of several requests was answered otherwise than the requests alone."""
        self._words[_MISMATCHES] += 1

    def in_flight(self, calls: int) -> None:
        """So many requests wait or run now."""
        self._words[_INFLIGHT] = calls

    def limited(self, limit: int) -> None:
        """So many requests may wait and run from now on."""
        self._words[_LIMIT] = limit

    def shed(self, reason: int) -> None:
        """One request was refused for want of capacity; ``reason`` is its place in ``SHED_REASONS``."""
        self._words[_SHED + reason] += 1


def _bits(value: float) -> int:
    """A non-negative float64 as a word; greater values are greater words."""
    word: int = _WORD.unpack(_FLOAT.pack(value))[0]
    return word


def _float(word: int) -> float:
    value: float = _FLOAT.unpack(_WORD.pack(word))[0]
    return value


@dataclass(frozen=True, slots=True)
class TaskState:
    """A periodic task of a worker: failures of all workers the slot has had, when its last step ended well
    (milliseconds since the epoch, 0 = never), and how it is: WELL, DEAD or OVERDUE."""

    failures: int
    last_success_ms: int
    health: int


class Slot:
    """One worker's memory: its header, its blocks and its table of units (see ``unit_votes``), over any writable buffer
    of ``SLOT_BYTES``."""

    def __init__(self, buffer: memoryview) -> None:
        octets = buffer.cast("B")
        self._words = octets.cast("Q")
        self._array: Words = np.frombuffer(buffer, np.uint64)
        self.units = octets[_UNITS_START:].cast("I")

    @classmethod
    def in_process(cls) -> "Slot":
        """A slot in ordinary memory, for tests and embedding."""
        return cls(memoryview(bytearray(SLOT_BYTES)))

    def block(self, index: int) -> BlockWriter:
        """The writer of a block; only the slot's worker may use it."""
        start = HEADER_WORDS + index * BLOCK_WORDS
        return BlockWriter(self._words[start : start + BLOCK_WORDS])

    def read(self, index: int) -> Words:
        """The words of a block, as they stand now (a view)."""
        start = HEADER_WORDS + index * BLOCK_WORDS
        return self._array[start : start + BLOCK_WORDS]

    def region(self, offset: int, size: int) -> Words:
        """A part of the words for columns (a view); only the slot's worker may write to it."""
        return self._array[REGION_START + offset : REGION_START + offset + size]

    def take_over(self, pid: int) -> None:
        """Begin a new worker's life in this slot: its gauges start at zero, the counters go on."""
        for index in range(BLOCKS):
            at = HEADER_WORDS + index * BLOCK_WORDS
            if self._words[at + _INFLIGHT]:
                self._words[at + _INFLIGHT] = 0
            if self._words[at + _LIMIT]:
                self._words[at + _LIMIT] = 0
            if self._words[at + _SHADOW]:
                self._settle_shadow(at + _SHADOW)
        self._words[_STATE] = STARTING
        self._words[_BUSY_UNTIL] = 0
        self.set_memory(0, 0)
        for task, before in enumerate(self.tasks):
            self.set_task(task, TaskState(before.failures, 0, WELL))
        self._words[_PID] = pid
        self.beat(monotonic_ns())

    def _settle_shadow(self, at: int) -> None:
        """What a predecessor mirrored and did not come to is dropped."""
        mirrored, pairs, missed, dropped = self._words[at : at + 4]
        self._words[at + SHADOW_WORDS.index("dropped")] = dropped + mirrored - pairs - missed - dropped

    def clear(self, index: int) -> None:
        """Zero a block, before it is given to another version; no worker may be using it."""
        self.read(index)[:] = 0

    def beat(self, now_ns: int) -> None:
        """Note that the event loop is alive, in nanoseconds of ``time.monotonic_ns``."""
        self._words[_HEARTBEAT] = now_ns

    def busy_until(self, deadline_ns: int) -> None:
        """Announce work that may hold the loop up until then, such as a model being loaded."""
        self._words[_BUSY_UNTIL] = deadline_ns

    def set_state(self, state: int) -> None:
        """One of STARTING, READY, DRAINING."""
        self._words[_STATE] = state

    def set_memory(self, limit: int, used: int) -> None:
        """State the worker's memory budget and what is taken of it, in bytes."""
        self._words[_MEMORY_LIMIT] = limit
        self._words[_MEMORY_USED] = used

    def stalled(self, duration_ns: int) -> None:
        """Count a time in which the event loop answered nobody."""
        self._words[_STALLS + bisect_left(STALL_EDGES_NS, duration_ns)] += 1
        self._words[_STALLS + STALL_WORDS - 1] += duration_ns

    def set_task(self, task: int, state: TaskState) -> None:
        """State how one of the worker's tasks stands (HEARTBEAT or HOUSE)."""
        at = _TASKS + task * _TASK_WORDS
        self._words[at] = state.failures
        self._words[at + 1] = state.last_success_ms
        self._words[at + 2] = state.health

    @property
    def tasks(self) -> list[TaskState]:
        """The worker's tasks, in the order of ``TASK_NAMES``."""
        starts = range(_TASKS, _TASKS + len(TASK_NAMES) * _TASK_WORDS, _TASK_WORDS)
        return [TaskState(self._words[at], self._words[at + 1], self._words[at + 2]) for at in starts]

    @property
    def pid(self) -> int:
        """Process id of the worker that owns the slot, 0 before the first."""
        return self._words[_PID]

    @property
    def heartbeat_ns(self) -> int:
        """When the worker last said that its loop is alive, or until when it announced to be busy."""
        return max(self._words[_HEARTBEAT], self._words[_BUSY_UNTIL])

    @property
    def state(self) -> int:
        """One of STARTING, READY, DRAINING."""
        return self._words[_STATE]

    @property
    def memory(self) -> tuple[int, int]:
        """The worker's memory budget, and what is taken of it, in bytes."""
        return self._words[_MEMORY_LIMIT], self._words[_MEMORY_USED]

    @property
    def stalls(self) -> "Histogram":
        """Times in which the event loop answered nobody, nanoseconds; of all workers the slot has had."""
        words = self._words[_STALLS : _STALLS + STALL_WORDS].tolist()
        return Histogram(tuple(words[:-1]), words[-1])


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative-free bucket counts and the sum of the values (nanoseconds or rows)."""

    buckets: tuple[int, ...]
    total: int

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.buckets)


class Totals:
    """One version's counters added up over any number of slots."""

    def __init__(self, words: Words) -> None:
        self._words: list[int] = words.tolist()

    @classmethod
    def of(cls, slots: Iterable[Slot], block: int) -> "Totals":
        """Add a block up over slots."""
        return cls(added([slot.read(block) for slot in slots]))

    @property
    def words(self) -> Words:
        """Those of one block that would say the same."""
        return np.array(self._words, np.uint64)

    def requests(self) -> Iterator[tuple[str, str, str, int]]:
        """Non-zero counts as (route, protocol, outcome, count)."""
        for series, (route, protocol) in enumerate(_series()):
            for index, outcome in enumerate(OUTCOMES):
                count = self._words[_REQUESTS + series * _OUTCOMES + index]
                if count:
                    yield route, protocol, outcome, count

    def durations(self) -> Iterator[tuple[str, str, Histogram]]:
        """Non-empty request duration histograms as (route, protocol, histogram in nanoseconds)."""
        for series, (route, protocol) in enumerate(_series()):
            histogram = self._histogram(_DURATION + series * LATENCY_WORDS, LATENCY_WORDS)
            if histogram.count:
                yield route, protocol, histogram

    def quantiles_ms(self) -> dict[str, float | int]:
        """Durations of all requests, milliseconds: quantiles between bucket edges, evenly on a logarithmic scale."""
        buckets = [sum(column) for column in zip(*(one.buckets for _, _, one in self.durations()), strict=True)]
        total = sum(buckets)
        found: dict[str, float | int] = {"count": total}
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
            found[name] = round(_quantile_ns(buckets, share * total) / 1e6, 4) if total else 0.0
        return found

    def slower_than(self, limit_ms: float) -> int:
        """Requests that took longer; of the bucket that the limit lies in a part, as ``quantiles_ms`` reads it."""
        buckets = [sum(column) for column in zip(*(one.buckets for _, _, one in self.durations()), strict=True)]
        index = bisect_left(LATENCY_EDGES_NS, limit_ms * 1e6)
        if not buckets or index >= len(LATENCY_EDGES_NS):
            return 0
        high = LATENCY_EDGES_NS[index]
        low = LATENCY_EDGES_NS[index - 1] if index else high / 2
        share = math.log(high / max(low, limit_ms * 1e6)) / math.log(high / low)
        rest: int = sum(buckets[index + 1 :])
        return rest + int(buckets[index] * share)

    def stage(self, name: str) -> Histogram:
        """Durations of one stage of all successful requests, nanoseconds."""
        return self._histogram(_STAGE + STAGES.index(name) * LATENCY_WORDS, LATENCY_WORDS)

    def split_latency(self) -> list[int]:
        """Durations of the successful requests that the split sent here, by fine bucket."""
        return self._words[_FINE : _FINE + FINE_WORDS]

    def split_runs(self) -> list[int]:
        """Runs that a request which the split sent here had alone, by the fine bucket of their time and
        ``RUN_BASE_NS``."""
        return self._words[_FINE_RUN : _FINE_RUN + FINE_WORDS]

    def split_outcomes(self) -> tuple[int, int]:
        """Requests that the split sent here: how many failed by the version's doing, and how many succeeded; of each
        unit of a sticky split so many as count.

        What callers did wrong, what was refused for want of capacity and what expired in the queue is in neither.
        """
        return self._words[_BLAMED], self._words[_COUNTED]

    def split_requests(self) -> int:
        """Requests that the split sent here and that succeeded, or failed and count as failures; of units all."""
        counts = self._words[_REQUESTS : _REQUESTS + SPLIT_SERIES * len(OUTCOMES)]
        return self._words[_BLAMED] + sum(counts[OK :: len(OUTCOMES)])

    def output_bins(self, index: int) -> list[int]:
        """Rows of one output by bin, as far as they were counted."""
        at = _OUTPUTS + index * OUTPUT_BINS
        return self._words[at : at + OUTPUT_BINS]

    def shadow(self) -> dict[str, float]:
        """What this version did as a shadow, by ``SHADOW_WORDS``."""
        words = dict(zip(SHADOW_WORDS, self._words[_SHADOW:_CAPTURE], strict=True))
        differences = {name: _float(words[name]) for name in ("sum_abs_diff", "max_abs_diff")}
        return {**words, **differences}

    def capture(self) -> dict[str, int]:
        """What was kept of requests, by ``CAPTURE_WORDS``."""
        return dict(zip(CAPTURE_WORDS, self._words[_CAPTURE:_BLAMED], strict=True))

    @property
    def joint_run_mismatches(self) -> int:
        """Repeated runs of several requests that had been answered otherwise than the requests alone."""
        return self._words[_MISMATCHES]

    def batch_rows(self) -> Histogram:
        """Rows of each run."""
        return self._histogram(_ROWS, ROWS_WORDS)

    def batches(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Runs by exact batch size up to ``BATCH_SIZES``: (size, count, decode ns, run ns, encode ns)."""
        table = [self._words[_BATCH + size * 4 :][:4] for size in range(BATCH_SIZES + 1)]
        stages = [self.stage(name).total for name in ("decode", "run", "encode")]
        others = [sum(column) for column in zip(*table, strict=True)]
        table[1] = [all_ - other for all_, other in zip([self.executions, *stages], others, strict=True)]
        for size, (count, decode, run, encode) in enumerate(table):
            if size and count:
                yield size, count, decode, run, encode

    def outcome_count(self, succeeded: bool) -> int:
        """Requests that ended well, or the ones that did not."""
        return sum(count for _, _, outcome, count in self.requests() if (outcome == OUTCOMES[OK]) == succeeded)

    @property
    def success_ns(self) -> int:
        """Time spent on successful requests, nanoseconds."""
        return sum(histogram.total for _, _, histogram in self.durations()) - self.fail_ns

    @property
    def fail_ns(self) -> int:
        """Time spent on failed requests, nanoseconds."""
        return self._words[_FAIL_NS]

    @property
    def inferences(self) -> int:
        """Rows inferred."""
        return self.batch_rows().total

    @property
    def executions(self) -> int:
        """Runs of the model."""
        return self.batch_rows().count

    @property
    def last_inference_ms(self) -> int:
        """Time of the last run, milliseconds since the epoch, 0 before the first."""
        return self._words[_LAST_MS]

    @property
    def inflight(self) -> int:
        """Requests that wait or run now."""
        return self._words[_INFLIGHT]

    @property
    def concurrency_limit(self) -> int:
        """Requests that may wait and run at a time."""
        return self._words[_LIMIT]

    @property
    def shed(self) -> dict[str, int]:
        """Requests refused for want of capacity, by ``SHED_REASONS``."""
        return dict(zip(SHED_REASONS, self._words[_SHED : _SHED + len(SHED_REASONS)], strict=True))

    def _histogram(self, base: int, words: int) -> Histogram:
        return Histogram(tuple(self._words[base : base + words - 1]), self._words[base + words - 1])


def added(blocks: Iterable[Words]) -> Words:
    """The words of blocks of one version added up: of the time of the last run and the largest difference the greatest,
    of floats their sum."""
    total = np.zeros(BLOCK_WORDS, np.uint64)
    last, largest, apart = np.uint64(0), np.uint64(0), 0.0
    for words in blocks:
        total += words
        last = max(last, words[_LAST_MS])
        largest = max(largest, words[_MAX_ABS_DIFF])
        apart += _float(int(words[_SUM_ABS_DIFF]))
    total[_LAST_MS], total[_MAX_ABS_DIFF] = last, largest
    total[_SUM_ABS_DIFF] = _bits(apart)
    return total


def without(block: Words, before: Words) -> Words:
    """The words of a block that, added to what it said before, say what it says now."""
    found = block - before
    apart = _float(int(block[_SUM_ABS_DIFF])) - _float(int(before[_SUM_ABS_DIFF]))
    found[_LAST_MS], found[_MAX_ABS_DIFF], found[_SUM_ABS_DIFF] = block[_LAST_MS], block[_MAX_ABS_DIFF], _bits(apart)
    return found


def load(slots: Iterable[Slot], block: int) -> tuple[int, int]:
    """Requests of a version that wait or run now, and how many may, in all slots together."""
    pairs = [(int(words[_INFLIGHT]), int(words[_LIMIT])) for words in (slot.read(block) for slot in slots)]
    return sum([inflight for inflight, _ in pairs]), sum([limit for _, limit in pairs])


_DEADLINE: Final = OUTCOME_INDEX["deadline"]


def refused(slots: Iterable[Slot], block: int) -> tuple[list[int], int]:
    """What a version refused for want of capacity, by ``SHED_REASONS``, and how many of its requests came too late; of
    all slots together."""
    found, late = np.zeros(len(SHED_REASONS), np.uint64), 0
    for slot in slots:
        words = slot.read(block)
        found += words[_SHED : _SHED + len(SHED_REASONS)]
        late += int(words[_REQUESTS + _DEADLINE : _DURATION : len(OUTCOMES)].sum())
    shed: list[int] = found.tolist()
    return shed, late


def _quantile_ns(buckets: list[int], rank: float) -> float:
    seen = 0
    for index, count in enumerate(buckets):
        if count and seen + count >= rank:
            high = LATENCY_EDGES_NS[min(index, len(LATENCY_EDGES_NS) - 1)]
            low = LATENCY_EDGES_NS[index - 1] if 0 < index < len(LATENCY_EDGES_NS) else high / 2
            return float(low * (high / low) ** ((rank - seen) / count))
        seen += count
    return float(LATENCY_EDGES_NS[-1])


def _series() -> Iterator[tuple[str, str]]:
    for route in ROUTE_NAMES:
        for protocol in PROTOCOL_NAMES:
            yield route, protocol


ReadTotals = Callable[[int], Totals]
"""Gives a block's totals over all workers."""
