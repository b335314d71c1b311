"""Workers with their memory, and the tasks of all processes, as one document."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from penstock.control.plane.processes import process_document, worker_states
from penstock.monitor.counters.slot import OVERDUE, STATE_NAMES, TASK_NAMES, WELL


@dataclass(eq=False)
class Task:
    health: int = WELL
    last_success_ms: int = 2000
    failures: int = 1


def slot_of(pid: int = 4711, **changes: Any) -> Any:
    tasks = [Task(**changes), *(Task(last_success_ms=0) for _ in TASK_NAMES[1:])]
    return SimpleNamespace(pid=pid, state=1, memory=(100, 7), tasks=tasks)


def test_the_state_in_a_slot_counts_for_the_process_that_wrote_it() -> None:
    slots = [slot_of(1), slot_of(2), slot_of(3)]
    processes = cast("Any", [SimpleNamespace(pid=1), SimpleNamespace(pid=9), None])
    assert worker_states(processes, slots) == [(1, STATE_NAMES[1]), (9, STATE_NAMES[0]), (0, "absent")]


def test_running_workers_have_memory_and_tasks() -> None:
    living, gone = slot_of(health=OVERDUE), slot_of(0)
    own: Any = SimpleNamespace(name="routes", last_success=5.0, failures=0, problem="")
    document = process_document([(1, "ready"), (0, "absent")], [living, gone], [living], [own])
    assert document["workers"] == [
        {"worker": 0, "pid": 1, "state": "ready", "memory": {"budget_bytes": 100, "used_bytes": 7}},
        {"worker": 1, "pid": 0, "state": "absent", "memory": None},
    ]
    first, second = document["tasks"][:2]
    assert first == {"name": "routes", "last_success": 5.0, "failures": 0, "problem": ""}
    assert second == {
        "name": f"worker-0/{TASK_NAMES[0]}",
        "last_success": 2.0,
        "failures": 1,
        "problem": "it is overdue",
    }
    assert len(document["tasks"]) == 1 + len(TASK_NAMES)
    assert all(task["last_success"] is None for task in document["tasks"][2:])
