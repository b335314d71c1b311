"""Tests hold on a busy machine: they wait with one patience, and assert no speed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S

TESTS = Path(__file__).parents[2]
CLOCKS = {"time", "monotonic", "perf_counter", "monotonic_ns", "perf_counter_ns", "time_ns"}
WAITS = {"wait_until": 1, "join": 0, "wait_for": 1, "communicate": 1, "asyncio.timeout": 0}
"""Calls that give up in time, with the position of their bound."""

READS_CLOCK = re.compile(rf"\b({'|'.join(CLOCKS)})\(\)")
SUSPICIOUS = re.compile(
    rf"{READS_CLOCK.pattern}|\b(wait_until|wait_for|communicate)\(|\bjoin\(\s*[\d.]|timeout(\(|\s*=\s*[\d.])"
)
"""What a text has that any of these stands in, so that others need not be parsed."""
TIMEOUTS = {"run", "check_output", "HTTPConnection", "create_connection", "urlopen", "communicate"}
"""Calls that give up after their ``timeout``, of which no test asserts that they do."""


def wrong(text: str) -> list[str]:
    """What a busy machine may fail in the text of a test, by line."""
    if not SUSPICIOUS.search(text):
        return []
    nodes = list(ast.walk(ast.parse(text)))
    faults = {*_short_waits(nodes), *(_asserted_speeds(nodes) if READS_CLOCK.search(text) else ())}
    return [f"line {line}: {what}" for line, what in sorted(faults)]


def _short_waits(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = _dotted(call.func)
        last = name.rpartition(".")[2]
        place = WAITS.get(name, WAITS.get(last))
        bounds = [] if place is None else call.args[place : place + 1]
        bounds += [keyword.value for keyword in call.keywords if keyword.arg == "timeout" and last in TIMEOUTS]
        if any(isinstance(bound, ast.Constant) and _is_short(bound.value) for bound in bounds):
            yield call.lineno, f"{last} gives up before PATIENCE_S"
        if name == "pytest.mark.timeout" and isinstance(call.args[0], ast.Constant) and _is_limit(call.args[0].value):
            yield call.lineno, "a limit for a whole test below PATIENCE_S"


def _is_limit(bound: object) -> bool:
    return _is_short(bound) and bound != 0  # which is none


def _is_short(bound: object) -> bool:
    return isinstance(bound, int | float) and bound < PATIENCE_S


def _asserted_speeds(tree: list[ast.AST]) -> Iterator[tuple[int, str]]:
    for function in (node for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        nodes = list(ast.walk(function))
        spans = {name for node in nodes if isinstance(node, ast.Assign) for name in _span_names(node)}
        for check in (node for node in nodes if isinstance(node, ast.Assert)):
            for compared in (node for node in ast.walk(check.test) if isinstance(node, ast.Compare)):
                if any(_is_span(side, spans) for side in _lesser_sides(compared)):
                    yield check.lineno, "asserts how long something took"


def _span_names(node: ast.Assign) -> list[str]:
    if isinstance(node.value, ast.BinOp) and _reads_clock(node.value):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _lesser_sides(compared: ast.Compare) -> Iterator[ast.expr]:
    sides = [compared.left, *compared.comparators]
    for left, operator, right in zip(sides, compared.ops, sides[1:], strict=False):
        if isinstance(operator, ast.Lt | ast.LtE):
            yield left
        elif isinstance(operator, ast.Gt | ast.GtE):
            yield right


def _is_span(side: ast.expr, spans: set[str]) -> bool:
    return _reads_clock(side) or (isinstance(side, ast.Name) and side.id in spans)


def _reads_clock(node: ast.AST) -> bool:
    called = (node.func for node in ast.walk(node) if isinstance(node, ast.Call) and not node.args)
    return any(_dotted(function).removeprefix("time.") in CLOCKS for function in called)


def _dotted(function: ast.expr) -> str:
    """A name, or the last parts of one."""
    if isinstance(function, ast.Attribute):
        return f"{_dotted(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def test_a_busy_machine_fails_nothing() -> None:
    found = {str(path.relative_to(TESTS)): wrong(path.read_text()) for path in TESTS.rglob("*.py")}
    assert {path: faults for path, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    "line",
    [
        "wait_until(done, 20, 'the end')",
        "harness.wait_until(done, 0.5, 'the end')",
        "thread.join(5)",
        "subprocess.run(command, timeout=30)",
        "async with asyncio.timeout(5): pass",
        "pytest.mark.timeout(60)(test)",
        "assert time.monotonic() - began < 2",
        "assert 2 >= perf_counter() - began",
        "took = time.monotonic() - began; assert took <= 1",
        "assert time.monotonic() < end, 'late'",
    ],
)
def test_what_a_busy_machine_fails_is_found(line: str) -> None:
    assert wrong(f"async def test() -> None:\n    {line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "wait_until(done, PATIENCE_S, 'the end')",
        "assert time.monotonic() - began >= 2",
        "assert time.process_time() - began < 2",
        "', '.join(words)",
        "call(timeout=0.4)",
    ],
)
def test_what_holds_is_left_alone(line: str) -> None:
    assert not wrong(f"async def test() -> None:\n    {line}\n")
