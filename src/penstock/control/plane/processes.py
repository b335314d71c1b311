"""The worker processes and the periodic tasks of one gateway, as the admin API shows them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from penstock.control.periodic import PeriodicTask
from penstock.control.plane.metrics import HEALTH, worker_tasks
from penstock.control.workers.supervisor import Process
from penstock.monitor.counters.slot import STATE_NAMES, Slot

Document = dict[str, Any]


def worker_states(processes: Iterable[Process | None], slots: Iterable[Slot]) -> list[tuple[int, str]]:
    """Return the process id (0 = none) and the state of each slot's worker."""
    return [
        (process.pid, STATE_NAMES[slot.state] if slot.pid == process.pid else STATE_NAMES[0])
        if process
        else (0, "absent")
        for process, slot in zip(processes, slots, strict=True)
    ]


def process_document(
    states: Sequence[tuple[int, str]], slots: Sequence[Slot], living: Collection[Slot], tasks: Iterable[PeriodicTask]
) -> Document:
    """Return ``workers``, each with its process, state and memory for requests, and ``tasks`` of all processes with
    their last success (seconds since the epoch, None before the first), failures and problem ("" = none)."""
    workers = [
        {"worker": index, "pid": pid, "state": state, "memory": _describe_memory(slot) if slot in living else None}
        for index, ((pid, state), slot) in enumerate(zip(states, slots, strict=True))
    ]
    own = [_describe_task(task.name, task.last_success, task.failures, task.problem) for task in tasks]
    return {"workers": workers, "tasks": [*own, *_worker_tasks(slots, living)]}


def _describe_memory(slot: Slot) -> Document:
    budget, used = slot.memory
    return {"budget_bytes": budget, "used_bytes": used}


def _worker_tasks(slots: Sequence[Slot], living: Collection[Slot]) -> Iterator[Document]:
    for index, slot in enumerate(slots):
        for name, task in worker_tasks(index, slot) if slot in living else ():
            yield _describe_task(name, task.last_success_ms / 1000, task.failures, HEALTH.get(task.health, ""))


def _describe_task(name: str, last_success: float, failures: int, problem: str) -> Document:
    return {"name": name, "last_success": last_success or None, "failures": failures, "problem": problem}
