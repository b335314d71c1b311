"""Calls that block run on bounded pools with deadlines; what else starts a thread is listed here, with its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock

SOURCE = Path(penstock.__file__).parent
BLOCKING = SOURCE / "control" / "calls" / "blocking.py"
STARTERS = {"ThreadPoolExecutor", "ProcessPoolExecutor", "to_thread", "run_in_executor", "Thread", "Timer"}
PACKAGES = ("api", "app", "control", "monitor", "registry")
ALLOWED = {
    "api/grpc/reflection.py:_answer": "imports a library, when reflection is first asked",
    "api/grpc/reflection_answers.py:answer": "the same, and describes all services, once",
    "app/gateway_process.py:_finish_start": "changes permissions of files and returns memory, once, beside requests",
    "app/gateway_process.py:_run": "imports the admin API",
    "app/models.py:scan": "imports libraries; the database is opened by whoever asks it first",
    "control/calls/http_deadline.py:send_request": "closes the sockets of an exchange out of time; does not block",
    "control/calls/http_deadline.py:_resolve": "resolves names, a few at once, with a deadline",
    "control/calls/kept_connection.py:_exchange": "closes the socket of an exchange out of time; does not block",
    "control/reconcile/reconciler.py:load": "reads a configuration that is in memory",
    "registry/admission/examiner.py:_run_order": "adds up the sizes of files that this machine has just written",
    "registry/registry.py:admit": "changes a graph that this machine has just written",
}


def starts(text: str, name: str) -> Iterator[str]:
    """Every function of a source text that may start a thread by itself."""
    if not any(starter in text for starter in STARTERS):
        return
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
            used = {_called(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
            if used & STARTERS:
                yield f"{name}:{function.name}"


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def test_only_pools_with_deadlines_start_threads() -> None:
    files = {file for package in PACKAGES for file in (SOURCE / package).rglob("*.py")} - {BLOCKING}
    found = {start for file in files for start in starts(file.read_text(), str(file.relative_to(SOURCE)))}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "call",
    ["asyncio.to_thread(f)", "loop.run_in_executor(None, f)", "ThreadPoolExecutor(1)", "threading.Thread(target=f)"],
)
def test_what_starts_a_thread_is_found(call: str) -> None:
    assert list(starts(f"def g():\n    {call}\n", "x.py")) == ["x.py:g"]
    assert list(starts("def g():\n    pool.call(f)\n", "x.py")) == []
