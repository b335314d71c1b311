"""The sandbox for untrusted models: a clean process that forks a short-lived child without rights for each of them.

The process itself only imports the libraries and never reads an untrusted byte; the effects of a child end with it.
Orders are JSON lines on standard input, and answers JSON lines on standard output. When the input ends, the process and
its children end.
"""

import gc
import json
import math
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.core.confinement import ConfinementReport, encode_report
from penstock.core.errors import Fault
from penstock.core.options import SessionOptions
from penstock.engine import model as engine
from penstock.engine.confinement.confine import SandboxedProgram, confine_sandbox
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.confinement.limits import SPARE_PROCESSES, ResourceLimits, count_processes, die_with_parent
from penstock.engine.probe import ProbeFailed, probe
from penstock.registry.admission import acceleration, inspection
from penstock.registry.admission.repairs import repair
from penstock.registry.admission.row_proof import decode_proof
from penstock.registry.config import model_config

Document = dict[str, Any]

REPORT_BYTES = 4 << 20
MOST_WEIGHTS = 10_000
LONGEST_REASON = 400
LONGEST_DETAIL = 4000
OPEN_FILES = 64


@dataclass(slots=True)
class _SandboxProcess:
    """An examination in progress; ``until`` is its deadline on the monotonic clock."""

    number: int
    pid: int
    pipe: int
    until: float
    answer: bytearray


def examine(order: Document, memory: Callable[[], int]) -> Document:
    """Return the report on one model; ``reason`` is "" if it may serve. Called in a child without rights.

    ``memory`` returns the number of bytes of this process's own memory.
    """
    graph, weights = Path(order["graph"]), Path(order["weights"]) if order["weights"] else None
    facts: Document = {}
    try:
        options = model_config.read(order["config"], Path(order["base"] or graph.parent))
        facts |= inspection.inspect(graph, weights, {entry.name for entry in options.inputs})
        if options.session.accelerator:
            acceleration.check_graph(graph, decode_proof(facts), options.session.accelerator)
        before = memory()
        began = time.perf_counter()
        model = engine.load(graph, replace(options, session=_single_threaded(options.session)), 1, decode_proof(facts))
        facts["load_ms"] = round((time.perf_counter() - began) * 1000, 1)
        facts["p50_us"] = None if model.run_ns is None else round(model.run_ns / 1000, 1)
        facts["probes"] = probe(model, options.warmup)
        facts["memory_bytes"] = max(0, memory() - before)
        if options.session.accelerator:
            facts[acceleration.FACT] = acceleration.compare(graph, model, options)
    except ProbeFailed as error:
        return _make_rejection(
            f"it ran on none of the made-up inputs ({error}); push it as a tar with a config.pbtxt whose "
            "model_warmup gives a sample that it runs on",
            facts,
        )
    except Fault as fault:
        return _make_rejection(str(fault), facts, fault.detail)
    except MemoryError:
        return _make_rejection("it needs more memory than admission allows", facts)
    signature = {"inputs": model.signature.inputs, "outputs": model.signature.outputs}
    facts["signature"] = {
        side: [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
        for side, specs in signature.items()
    }
    return {"reason": "", "detail": "", "facts": facts}


def plan(order: Document, _memory: Callable[[], int]) -> Document:
    """Return the preparation that a graph needs, in the form of a report."""
    graph = Path(order["graph"])
    try:
        model = inspection.read_model(graph)
        facts: Document = {"weights": inspection.weights_of(model)[:MOST_WEIGHTS], **repair(graph, model)}
    except Fault as fault:
        return _make_rejection(str(fault), {}, fault.detail)
    except MemoryError:
        return _make_rejection("it needs more memory than admission allows", {})
    return {"reason": "", "detail": "", "facts": facts}


WORK = {"examine": examine, "plan": plan}
"""The kinds of orders."""


def _single_threaded(session: SessionOptions) -> SessionOptions:
    """Return options for one thread, because a child must not start more."""
    return replace(session, intra_op_threads=None, inter_op_threads=None, parallel_execution=False)


def _make_rejection(reason: str, facts: Document, detail: str = "") -> Document:
    return {
        "reason": " ".join(reason.split())[:LONGEST_REASON],
        "detail": " ".join(detail.split())[:LONGEST_DETAIL],
        "facts": facts,
    }


def own_memory() -> Callable[[], int]:
    """Return a function that returns the bytes of this process's own memory, also without the right to open files."""
    handle = os.open("/proc/self/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC)

    def read() -> int:
        lines = os.pread(handle, 1 << 14, 0).decode("ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) * 1024

    return read


def _become_child(order: Document, pipe: int, others: list[int], processes: int) -> None:
    """Remove the child's rights, do its work, and write the answer; does not return."""
    code = 1
    try:
        die_with_parent()
        os.setsid()
        for handle in (0, 1, *others):
            with suppress(OSError):
                os.close(handle)
        memory = own_memory()
        confined = confine_sandbox(_make_program(order, processes))
        answer = json.dumps(_answer(order, memory, confined)).encode()
        os.set_blocking(pipe, True)
        while answer:
            answer = answer[os.write(pipe, answer) :]
        code = 0
    except MemoryError:
        code = 3
    finally:
        os._exit(code)


def _make_program(order: Document, processes: int) -> SandboxedProgram:
    """Return the rights of the child that works on an order."""
    own = [Path(order[name]) for name in ("weights", "base") if order[name]]
    readable = (*own, Path(order["graph"]))
    seconds = math.ceil(order["seconds"]) + 1
    limits = ResourceLimits(order["memory_bytes"], seconds, processes=processes, open_files=OPEN_FILES)
    return SandboxedProgram(AllowedPaths(readable), limits)


def _answer(order: Document, memory: Callable[[], int], confined: ConfinementReport) -> Document:
    """Return the report on an order, with the layers of confinement; without one that is required nothing is read."""
    if order["required"] and not confined.is_complete:
        return {"unsafe": confined.problem}
    report = WORK[order["work"]](order, memory)
    return {**report, "facts": {**report["facts"], "confinement": encode_report(confined)}}


class Sandbox:
    """Takes orders and keeps track of the children."""

    def __init__(self) -> None:
        self._children: dict[int, _SandboxProcess] = {}
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray()
        self._processes = count_processes() + SPARE_PROCESSES

    def run(self) -> None:
        """Handle orders until the input ends."""
        gc.freeze()  # so that no child looks for garbage in what it has from this process
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(self._seconds_left()):
                if key.fd == 0:
                    if not self._take_orders():
                        return self._end()
                elif (child := self._children.get(key.fd)) is not None:
                    self._listen(child)
            self._end_overdue()

    def _seconds_left(self) -> float | None:
        if not self._children:
            return None
        return max(0.0, min(child.until for child in self._children.values()) - time.monotonic())

    def _take_orders(self) -> bool:
        data = os.read(0, 1 << 16)
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._begin(json.loads(line))
        return bool(data)

    def _begin(self, order: Document) -> None:
        reading, writing = os.pipe()
        os.set_inheritable(writing, False)
        pid = os.fork()
        if not pid:
            _become_child(order, writing, [reading, *self._children], self._processes)
        os.close(writing)
        os.set_blocking(reading, False)
        until = time.monotonic() + order["patience"]
        self._children[reading] = _SandboxProcess(order["number"], pid, reading, until, bytearray())
        self._selector.register(reading, selectors.EVENT_READ)

    def _listen(self, child: _SandboxProcess) -> None:
        data = os.read(child.pipe, 1 << 16)
        child.answer += data
        if len(child.answer) > REPORT_BYTES:
            _kill(child)
            child.answer.clear()
        elif not data:
            self._finish(child, timed_out=False)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for child in [child for child in self._children.values() if child.until <= now]:
            self._finish(child, timed_out=True)

    def _finish(self, child: _SandboxProcess, timed_out: bool) -> None:
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        del self._children[child.pipe]
        _kill(child)
        status = os.waitpid(child.pid, 0)[1]
        answer: Document = {"number": child.number, "timed_out": timed_out, "code": os.waitstatus_to_exitcode(status)}
        if not timed_out and answer["code"] == 0:
            with suppress(ValueError):
                answer["report"] = json.loads(child.answer)
        self._reply(answer)

    def _reply(self, answer: Document) -> None:
        line = json.dumps(answer).encode() + b"\n"
        while line:
            line = line[os.write(1, line) :]

    def _end(self) -> None:
        for child in self._children.values():
            _kill(child)
            os.waitpid(child.pid, 0)


def _kill(child: _SandboxProcess) -> None:
    """End a child that has not been waited for, and whatever it has started."""
    with suppress(ProcessLookupError):  # it has no group of its own yet
        os.killpg(child.pid, signal.SIGKILL)
    os.kill(child.pid, signal.SIGKILL)
