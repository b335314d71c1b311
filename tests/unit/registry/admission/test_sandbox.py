"""The sandbox's process: one answer to each order, whatever the children do, and an end with the end of its input."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.registry.admission.sandbox import Sandbox
from tests import zoo
from tests.harness import PATIENCE_S, is_alive, wait_until

RUN = f"from {Sandbox.__module__} import {Sandbox.__name__}; {Sandbox.__name__}().run()"


class Process:
    """A sandbox in a process of its own, as the gateway has it."""

    def __init__(self) -> None:
        self.child = subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def order(self, number: int, graph: Path, **rest: Any) -> None:
        assert self.child.stdin is not None
        order = {
            "number": number,
            "work": "plan",
            "graph": str(graph),
            "weights": "",
            "base": "",
            "config": "",
            "seconds": 20.0,
            "memory_bytes": 4 << 30,
            "patience": PATIENCE_S,
            "required": False,
            **rest,
        }
        self.child.stdin.write(json.dumps(order).encode() + b"\n")
        self.child.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        found: dict[str, Any] = json.loads(self.child.stdout.readline())
        return found

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(pid) for pid in tasks.read_text().split()]

    def close(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Process]:
    process = Process()
    yield process
    process.close()
    assert process.child.returncode == 0


def test_orders_are_answered_by_their_number_each_in_a_child_of_its_own(sandbox: Process, tmp_path: Path) -> None:
    zoo.save(zoo.identity("FP32"), tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    sandbox.order(1, tmp_path / "good.onnx")
    sandbox.order(2, tmp_path / "bad.onnx")
    answers = {item["number"]: item for item in (sandbox.answer(), sandbox.answer())}
    assert {number: (answer["timed_out"], answer["code"]) for number, answer in answers.items()} == {
        1: (False, 0),
        2: (False, 0),
    }
    assert answers[1]["report"]["reason"] == ""
    assert answers[2]["report"]["reason"]
    assert sandbox.children() == []


def test_a_child_that_fails_has_no_report_and_the_next_one_is_answered(sandbox: Process, tmp_path: Path) -> None:
    zoo.save(zoo.identity("FP32"), tmp_path / "good.onnx")
    sandbox.order(3, tmp_path / "good.onnx", work="nobody knows")
    failed = sandbox.answer()
    assert (failed["number"], failed["code"], "report" in failed) == (3, 1, False)
    sandbox.order(4, tmp_path / "good.onnx")
    assert sandbox.answer()["report"]["reason"] == ""


def test_a_child_that_takes_too_long_is_ended(sandbox: Process, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.onnx")  # whoever reads it waits for ever
    sandbox.order(5, tmp_path / "never.onnx", patience=0.2)
    overdue = sandbox.answer()
    assert (overdue["number"], overdue["timed_out"], "report" in overdue) == (5, True, False)
    assert sandbox.children() == []


@pytest.mark.processes
def test_the_end_of_the_input_is_the_end_of_the_children(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.onnx")
    process = Process()
    process.order(6, tmp_path / "never.onnx")
    wait_until(lambda: bool(process.children()), PATIENCE_S, "a child")
    [pid] = process.children()
    process.close()
    wait_until(lambda: not is_alive(pid), PATIENCE_S, "the end of the child")
    assert process.child.returncode == 0
