"""One worker's counter memory: the header that describes the worker, and its blocks, region and table of units."""

from bisect import bisect_left
from dataclasses import dataclass
from time import monotonic_ns
from typing import Final

import numpy as np

from penstock.core.buckets import STALL_EDGES_NS
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.monitor.counters.histogram import Histogram
from penstock.monitor.counters.layout import (
    BLOCK_CELLS,
    BLOCKS,
    HEADER_CELLS,
    INFLIGHT_AT,
    LIMIT_AT,
    REGION_START,
    SHADOW_AT,
    SHADOW_COUNTERS,
    SLOT_BYTES,
    UNITS_START,
    Cells,
)

_PID, _HEARTBEAT, _STATE, _BUSY_UNTIL, _MEMORY_LIMIT, _MEMORY_USED, _STALLS = range(7)
STALL_CELLS: Final = len(STALL_EDGES_NS) + 2  # buckets, the one above, the sum

HEARTBEAT, HOUSE = range(2)
TASK_NAMES: Final = ("heartbeat", "house")
"""The periodic tasks of a worker."""

_TASKS: Final = _STALLS + STALL_CELLS
_TASK_CELLS: Final = 3
WELL, DEAD, OVERDUE = range(3)
"""How a task is."""

STARTING, READY, DRAINING = range(3)
STATE_NAMES: Final = ("starting", "ready", "draining")


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
        self._cells = octets.cast("Q")
        self._array: Cells = np.frombuffer(buffer, np.uint64)
        self.units = octets[UNITS_START:].cast("I")

    @classmethod
    def in_process(cls) -> "Slot":
        """A slot in ordinary memory, for tests and embedding."""
        return cls(memoryview(bytearray(SLOT_BYTES)))

    def block(self, index: int) -> BlockWriter:
        """The writer of a block; only the slot's worker may use it."""
        start = HEADER_CELLS + index * BLOCK_CELLS
        return BlockWriter(self._cells[start : start + BLOCK_CELLS])

    def read(self, index: int) -> Cells:
        """The words of a block, as they stand now (a view)."""
        start = HEADER_CELLS + index * BLOCK_CELLS
        return self._array[start : start + BLOCK_CELLS]

    def region(self, offset: int, size: int) -> Cells:
        """A part of the words for columns (a view); only the slot's worker may write to it."""
        return self._array[REGION_START + offset : REGION_START + offset + size]

    def take_over(self, pid: int) -> None:
        """Begin a new worker's life in this slot: its gauges start at zero, the counters go on."""
        for index in range(BLOCKS):
            at = HEADER_CELLS + index * BLOCK_CELLS
            if self._cells[at + INFLIGHT_AT]:
                self._cells[at + INFLIGHT_AT] = 0
            if self._cells[at + LIMIT_AT]:
                self._cells[at + LIMIT_AT] = 0
            if self._cells[at + SHADOW_AT]:
                self._settle_shadow(at + SHADOW_AT)
        self._cells[_STATE] = STARTING
        self._cells[_BUSY_UNTIL] = 0
        self.set_memory(0, 0)
        for task, before in enumerate(self.tasks):
            self.set_task(task, TaskState(before.failures, 0, WELL))
        self._cells[_PID] = pid
        self.beat(monotonic_ns())

    def _settle_shadow(self, at: int) -> None:
        """What a predecessor mirrored and did not come to is dropped."""
        mirrored, pairs, missed, dropped = self._cells[at : at + 4]
        self._cells[at + SHADOW_COUNTERS.index("dropped")] = dropped + mirrored - pairs - missed - dropped

    def clear(self, index: int) -> None:
        """Zero a block, before it is given to another version; no worker may be using it."""
        self.read(index)[:] = 0

    def beat(self, now_ns: int) -> None:
        """Note that the event loop is alive, in nanoseconds of ``time.monotonic_ns``."""
        self._cells[_HEARTBEAT] = now_ns

    def busy_until(self, deadline_ns: int) -> None:
        """Announce work that may hold the loop up until then, such as a model being loaded."""
        self._cells[_BUSY_UNTIL] = deadline_ns

    def set_state(self, state: int) -> None:
        """One of STARTING, READY, DRAINING."""
        self._cells[_STATE] = state

    def set_memory(self, limit: int, used: int) -> None:
        """State the worker's memory budget and what is taken of it, in bytes."""
        self._cells[_MEMORY_LIMIT] = limit
        self._cells[_MEMORY_USED] = used

    def stalled(self, duration_ns: int) -> None:
        """Count a time in which the event loop answered nobody."""
        self._cells[_STALLS + bisect_left(STALL_EDGES_NS, duration_ns)] += 1
        self._cells[_STALLS + STALL_CELLS - 1] += duration_ns

    def set_task(self, task: int, state: TaskState) -> None:
        """State how one of the worker's tasks stands (HEARTBEAT or HOUSE)."""
        at = _TASKS + task * _TASK_CELLS
        self._cells[at] = state.failures
        self._cells[at + 1] = state.last_success_ms
        self._cells[at + 2] = state.health

    @property
    def tasks(self) -> list[TaskState]:
        """The worker's tasks, in the order of ``TASK_NAMES``."""
        starts = range(_TASKS, _TASKS + len(TASK_NAMES) * _TASK_CELLS, _TASK_CELLS)
        return [TaskState(self._cells[at], self._cells[at + 1], self._cells[at + 2]) for at in starts]

    @property
    def pid(self) -> int:
        """Process id of the worker that owns the slot, 0 before the first."""
        return self._cells[_PID]

    @property
    def heartbeat_ns(self) -> int:
        """When the worker last said that its loop is alive, or until when it announced to be busy."""
        return max(self._cells[_HEARTBEAT], self._cells[_BUSY_UNTIL])

    @property
    def state(self) -> int:
        """One of STARTING, READY, DRAINING."""
        return self._cells[_STATE]

    @property
    def memory(self) -> tuple[int, int]:
        """The worker's memory budget, and what is taken of it, in bytes."""
        return self._cells[_MEMORY_LIMIT], self._cells[_MEMORY_USED]

    @property
    def stalls(self) -> Histogram:
        """Times in which the event loop answered nobody, nanoseconds; of all workers the slot has had."""
        cells = self._cells[_STALLS : _STALLS + STALL_CELLS].tolist()
        return Histogram(tuple(cells[:-1]), cells[-1])
