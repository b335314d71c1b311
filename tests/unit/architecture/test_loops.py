"""Work that goes on again and again is a periodic task; every other endless loop is listed here, with its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import penstock

SOURCE = Path(penstock.__file__).parent
ALLOWED = {
    "app/worker.py:_apply": "waits for news; the worker ends if it does",
    "control/periodic.py:run": "the periodic task itself",
    "control/retraining/dispatcher.py:_write": "ends once the database has the end of a delivery",
    "control/workers/protocol.py:pump": "waits for messages; the connection ends if it does",
}


def endless_loops(file: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.AsyncFunctionDef):
            loops = (node for node in ast.walk(function) if isinstance(node, ast.While))
            if any(isinstance(loop.test, ast.Constant) for loop in loops):
                yield f"{file.relative_to(SOURCE)}:{function.name}"


def test_no_loop_but_a_periodic_task_runs_without_end() -> None:
    files = [file for package in ("app", "control") for file in (SOURCE / package).rglob("*.py")]
    assert {loop for file in files for loop in endless_loops(file)} == set(ALLOWED)
