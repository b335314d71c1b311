"""The counter memory of one worker: a header that describes the worker, blocks, regions and the table of units."""

from bisect import bisect_left
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from time import monotonic_ns
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.access.refusals import RefusalReason
from penstock.core.buckets import STALL_EDGES_NS
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.monitor.counters.histogram import Histogram
from penstock.monitor.counters.layout import (
    BLOCKS,
    CALLER_BYTES,
    CALLER_CELLS,
    CALLER_IN_FLIGHT,
    CALLER_REFUSED,
    CALLERS,
    CALLERS_START,
    HEADER_CELLS,
    INFLIGHT_AT,
    LIMIT_AT,
    REGION_START,
    SHADOW_AT,
    SHADOW_COUNTERS,
    SLOT_BYTES,
    STORED_CELLS,
    UNITS_START,
    Cells,
)

_PID, _HEARTBEAT, _STATE, _BUSY_UNTIL, _MEMORY_LIMIT, _MEMORY_USED, _STALLS = range(7)
STALL_CELLS: Final = len(STALL_EDGES_NS) + 2  # the buckets, the one above the last edge, and the sum

HEARTBEAT, HOUSE = range(2)
TASK_NAMES: Final = ("heartbeat", "house")
"""The periodic tasks of a worker."""

_TASKS: Final = _STALLS + STALL_CELLS
_TASK_CELLS: Final = 3
WELL, DEAD, OVERDUE = range(3)
"""States of a periodic task."""

_REFUSALS: Final = _TASKS + len(TASK_NAMES) * _TASK_CELLS
_REASON_INDEX: Final = {reason: index for index, reason in enumerate(RefusalReason)}

STARTING, READY, DRAINING = range(3)
STATE_NAMES: Final = ("starting", "ready", "draining")


@dataclass(frozen=True, slots=True)
class TaskState:
    """A periodic task of a worker: the failures of all workers that the slot has had, the time of the last step that
    succeeded (milliseconds since the epoch, 0: never), and its health: WELL, DEAD or OVERDUE."""

    failures: int
    last_success_ms: int
    health: int


class Slot:
    """The memory of one worker over a writable buffer of ``SLOT_BYTES``: its header, its blocks, the cells of its
    columns and its table of units (see ``unit_votes``). Only the slot's worker writes; any process may read."""

    def __init__(self, buffer: memoryview) -> None:
        octets = buffer.cast("B")
        self._cells = octets.cast("Q")
        self._callers = octets[8 * CALLERS_START : UNITS_START].cast("l")
        self._array: Cells = np.frombuffer(buffer, np.uint64)
        self.units = octets[UNITS_START:].cast("I")

    @classmethod
    def in_process(cls) -> "Slot":
        """Return a slot in ordinary memory, for tests and embedding."""
        return cls(memoryview(mmap(-1, SLOT_BYTES, MAP_PRIVATE | MAP_ANONYMOUS)))

    def block(self, index: int) -> BlockWriter:
        """Return the writer of a block; only the slot's worker may use it."""
        start = HEADER_CELLS + index * STORED_CELLS
        return BlockWriter(self._cells[start : start + STORED_CELLS])

    def read(self, index: int) -> Cells:
        """Return the stored cells of a block [STORED_CELLS] as a view (see ``stored_cells``)."""
        start = HEADER_CELLS + index * STORED_CELLS
        return self._array[start : start + STORED_CELLS]

    def read_columns(self, indices: NDArray[np.intp], start: int, size: int) -> Cells:
        """Return a copy of a part of several blocks [len(indices), size]: the stored cells from ``start``."""
        blocks = self._array[HEADER_CELLS:REGION_START].reshape(BLOCKS, STORED_CELLS)
        part: Cells = blocks[indices, start : start + size]
        return part

    def region(self, offset: int, size: int) -> Cells:
        """Return the cells of a region [size] as a view; only the slot's worker may write to it."""
        return self._array[REGION_START + offset : REGION_START + offset + size]

    def caller(self, place: int) -> memoryview:
        """Return the cells of a caller [CALLER_CELLS], which are signed; only the slot's worker may write to them."""
        return caller_cells(self._callers, place)

    def caller_refusals(self) -> int:
        """Return the requests that quotas refused, of all callers."""
        cells = np.frombuffer(self._callers, np.int64).reshape(CALLERS, CALLER_CELLS)
        return int(cells[:, CALLER_REFUSED].sum())

    def copy_callers(self) -> memoryview:
        """Return a copy of the cells of all callers, as they are now."""
        return memoryview(bytes(self._callers)).cast("l")

    def take_over(self, pid: int) -> None:
        """Give the slot to a new worker: the gauges start at zero, the counters continue."""
        if self.pid:  # else no worker has had it; to look at 8 MiB of zeros would put them into this process's memory
            self._reset_gauges()
        self._cells[_STATE] = STARTING
        self._cells[_BUSY_UNTIL] = 0
        self.set_memory(0, 0)
        for task, before in enumerate(self.tasks):
            self.set_task(task, TaskState(before.failures, 0, WELL))
        self._cells[_PID] = pid
        self.beat(monotonic_ns())

    def _reset_gauges(self) -> None:
        """Set what the previous worker had open to zero."""
        for index in range(BLOCKS):
            at = HEADER_CELLS + index * STORED_CELLS
            if self._cells[at + INFLIGHT_AT]:
                self._cells[at + INFLIGHT_AT] = 0
            if self._cells[at + LIMIT_AT]:
                self._cells[at + LIMIT_AT] = 0
            if self._cells[at + SHADOW_AT]:
                self._settle_shadow(at + SHADOW_AT)
        for place in range(CALLERS):
            cells = self.caller(place)
            if cells[CALLER_IN_FLIGHT] or cells[CALLER_BYTES]:
                cells[CALLER_IN_FLIGHT] = cells[CALLER_BYTES] = 0

    def _settle_shadow(self, at: int) -> None:
        """Count what the previous worker mirrored and did not finish as dropped."""
        mirrored, pairs, missed, dropped = self._cells[at : at + 4]
        self._cells[at + SHADOW_COUNTERS.index("dropped")] = dropped + mirrored - pairs - missed - dropped

    def clear(self, index: int) -> None:
        """Set a block to zero before another version gets it; no worker may use it meanwhile."""
        self.read(index)[:] = 0

    def beat(self, now_ns: int) -> None:
        """Record a heartbeat of the event loop, in nanoseconds of ``time.monotonic_ns``."""
        self._cells[_HEARTBEAT] = now_ns

    def announce_busy_until(self, deadline_ns: int) -> None:
        """Announce work that may block the loop until ``deadline_ns`` (``time.monotonic_ns``), such as loading a model;
        0 ends it."""
        self._cells[_BUSY_UNTIL] = deadline_ns

    def set_state(self, state: int) -> None:
        """Publish the state: STARTING, READY or DRAINING."""
        self._cells[_STATE] = state

    def set_memory(self, limit: int, used: int) -> None:
        """Publish the worker's memory budget and how much of it is in use, in bytes."""
        self._cells[_MEMORY_LIMIT] = limit
        self._cells[_MEMORY_USED] = used

    def count_stall(self, duration_ns: int) -> None:
        """Count a stall: a time in which the event loop ran no other callback."""
        self._cells[_STALLS + bisect_left(STALL_EDGES_NS, duration_ns)] += 1
        self._cells[_STALLS + STALL_CELLS - 1] += duration_ns

    def set_task(self, task: int, state: TaskState) -> None:
        """Publish the state of one of the worker's tasks (HEARTBEAT or HOUSE)."""
        at = _TASKS + task * _TASK_CELLS
        self._cells[at] = state.failures
        self._cells[at + 1] = state.last_success_ms
        self._cells[at + 2] = state.health

    @property
    def tasks(self) -> list[TaskState]:
        """The worker's tasks, in the order of ``TASK_NAMES``."""
        starts = range(_TASKS, _TASKS + len(TASK_NAMES) * _TASK_CELLS, _TASK_CELLS)
        return [TaskState(self._cells[at], self._cells[at + 1], self._cells[at + 2]) for at in starts]

    def count_auth_refusal(self, reason: RefusalReason, dry_run: bool) -> None:
        """Count a request that access control refused, or with ``dry_run`` would refuse."""
        self._cells[_REFUSALS + 2 * _REASON_INDEX[reason] + dry_run] += 1

    @property
    def auth_refusals(self) -> dict[tuple[RefusalReason, bool], int]:
        """The counts of ``count_auth_refusal`` by its arguments, of all workers that the slot has had."""
        at = _REFUSALS
        return {
            (reason, dry_run): self._cells[at + 2 * index + dry_run]
            for reason, index in _REASON_INDEX.items()
            for dry_run in (False, True)
        }

    @property
    def pid(self) -> int:
        """Process id of the worker that owns the slot, 0 before the first."""
        return self._cells[_PID]

    @property
    def heartbeat_ns(self) -> int:
        """Time of the last heartbeat, or the later end of announced work (``time.monotonic_ns``)."""
        return max(self._cells[_HEARTBEAT], self._cells[_BUSY_UNTIL])

    @property
    def state(self) -> int:
        """One of STARTING, READY, DRAINING."""
        return self._cells[_STATE]

    @property
    def memory(self) -> tuple[int, int]:
        """The worker's memory budget and how much of it is in use, in bytes."""
        return self._cells[_MEMORY_LIMIT], self._cells[_MEMORY_USED]

    @property
    def stalls(self) -> Histogram:
        """Stalls of the event loop in nanoseconds, of all workers that the slot has had."""
        cells = self._cells[_STALLS : _STALLS + STALL_CELLS].tolist()
        return Histogram(tuple(cells[:-1]), cells[-1])


def caller_cells(callers: memoryview, place: int) -> memoryview:
    """Return the cells of one caller of all callers' cells [CALLERS * CALLER_CELLS]."""
    return callers[place * CALLER_CELLS : (place + 1) * CALLER_CELLS]
