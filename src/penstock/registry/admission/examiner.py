"""Runs admission: a content may serve only after a short-lived process has parsed, checked, loaded and run it.

A crash, a hang or an exhausted memory there is a verdict with a reason, and does not affect this process.
"""

import asyncio
import hashlib
import json
import logging
import platform
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from itertools import count, islice
from pathlib import Path
from typing import Any

from penstock import __version__
from penstock.core.confinement import Program, encode_report
from penstock.core.errors import NotReady, Overloaded
from penstock.engine.confinement.child import clean_environment, kill_group
from penstock.engine.confinement.confine import expect_layers
from penstock.registry.admission import locales
from penstock.registry.records import AdmissionReport, ExaminedContent, PreparationPlan

log = logging.getLogger("penstock.registry")

FORM = 7
"""Version of the examination; it changes when the verdicts of a new release may differ."""

MODULE = "penstock.registry.admission.sandbox_program"
TOGETHER = 2
"""Number of contents that are examined at the same time."""

WAITING = 256
LINE_BYTES = 8 << 20
"""Longest answer of a sandbox; it limits its reports to half of that."""

MOST_FILES = 10_000
START_S = 30.0
MARGIN_S = 5.0
PATIENCE = 4
"""Wall-clock seconds for each second of processor time, because a busy machine is not the model's fault."""

IDLE_S = 30.0
BYTES_A_SECOND = 50_000_000
"""A content gets one more second for this many of its bytes."""

MEMORY_A_BYTE = 6
"""Bytes of memory for each byte of a content."""

CONFINEMENT = "confinement"
"""The name of the layers of confinement among the facts of a report."""

_NOT_MERGED = ("weights", "runtime", CONFINEMENT)
_TRIES = 2


@dataclass(frozen=True, slots=True)
class AdmissionOptions:
    """Limits of an examination, in addition to those by the size of the content; whether every layer of confinement is
    required."""

    seconds: float = 4.0
    memory_bytes: int = 4 << 30
    is_confinement_required: bool = False


class _SandboxEnded(Exception):
    """The sandbox has ended before it answered."""


class Examiner:
    """Examines contents; starts its sandbox when it is needed, and ends it after ``idle_s`` without work. Of one event
    loop."""

    def __init__(self, options: AdmissionOptions | None = None, idle_s: float = IDLE_S) -> None:
        self._options = options or AdmissionOptions()
        self._idle_s = idle_s
        self._slots = asyncio.Semaphore(TOGETHER)
        self._starting = asyncio.Lock()
        self._sandbox: _Sandbox | None = None
        self._waiting = 0
        self._closed = False
        self._idle: asyncio.TimerHandle | None = None

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        """See ``Admission``."""
        report = await self._report_on(subject, "plan")
        if not report.admitted:
            return PreparationPlan(report)
        facts = {name: fact for name, fact in report.facts.items() if name not in _NOT_MERGED}
        return PreparationPlan(None, tuple(report.facts["weights"]), facts)

    async def examine(self, subject: ExaminedContent) -> AdmissionReport:
        """See ``Admission``."""
        return await self._report_on(subject, "examine")

    async def _report_on(self, subject: ExaminedContent, work: str) -> AdmissionReport:
        if self._waiting >= WAITING:
            raise Overloaded(f"{WAITING} models wait for their admission already; try again later")
        self._waiting += 1
        try:
            async with self._slots:
                return await self._run_order(subject, work)
        finally:
            self._waiting -= 1
            self._schedule_end()

    def release(self) -> None:
        """End the sandbox now if it has nothing to do, with its memory; the next content starts another one."""
        if self._idle is not None:
            self._idle.cancel()
            self._end_idle()

    async def close(self) -> None:
        """End the sandbox and its work in progress."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        if self._sandbox is not None:
            await self._sandbox.close()

    async def _run_order(self, subject: ExaminedContent, work: str) -> AdmissionReport:
        size = await asyncio.to_thread(_measure_size, subject)
        seconds = self._options.seconds + size / BYTES_A_SECOND
        order = {
            "work": work,
            "graph": str(subject.graph),
            "config": subject.config,
            "weights": str(subject.weights or ""),
            "base": str(subject.base or ""),
            "seconds": seconds,
            "patience": PATIENCE * seconds,
            "memory_bytes": self._options.memory_bytes + MEMORY_A_BYTE * size,
            "required": self._options.is_confinement_required,
        }
        for _ in range(_TRIES):
            sandbox = await self._start()
            try:
                answer = await sandbox.ask(order, PATIENCE * seconds + MARGIN_S)
            except _SandboxEnded:
                if self._closed:
                    break
                log.warning("the process that examines models has ended; it is started again")
                continue
            return _report(answer, seconds)
        raise NotReady("the model cannot be examined now; try again later")

    async def _start(self) -> "_Sandbox":
        async with self._starting:
            if self._idle is not None:
                self._idle.cancel()
            if self._sandbox is None or self._sandbox.ended:
                self._sandbox = await _Sandbox.start()
            return self._sandbox

    def _schedule_end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if not self._waiting:
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._end_idle)

    def _end_idle(self) -> None:
        if self._sandbox is not None and not self._waiting:
            self._sandbox.hang_up()


def _measure_size(subject: ExaminedContent) -> int:
    """Return the bytes of the graph and of the files beside it."""
    sizes = 0
    with suppress(OSError):
        sizes = subject.graph.stat().st_size
        if subject.weights is not None:
            files = (path.lstat() for path in islice(subject.weights.rglob("*"), MOST_FILES))
            sizes += sum(status.st_size for status in files if stat.S_ISREG(status.st_mode))
    return sizes


def _report(answer: dict[str, Any], seconds: float) -> AdmissionReport:
    """Return the report for the answer of a sandbox.

    Raises:
        NotReady: a required layer of confinement is missing, and nothing was examined.
    """
    reason, report = _describe_end(answer, seconds), answer.get("report")
    if not reason and isinstance(report, dict):
        if report.get("unsafe"):
            raise NotReady(f"the model cannot be examined safely: {report['unsafe']}")
        facts = {**report["facts"], "runtime": f"onnxruntime {_find_runtime()}"}
        return AdmissionReport(report["reason"], facts, report["detail"])
    reason = reason or "it needs more memory than admission allows, or broke the process that examined it"
    return AdmissionReport(reason, {CONFINEMENT: encode_report(expect_layers(Program.SANDBOX))})


def _describe_end(answer: dict[str, Any], seconds: float) -> str:
    """Return why a sandbox ended early, "" if it did not."""
    if answer["timed_out"] or answer["code"] == -signal.SIGXCPU:
        return (
            f"it did not finish within {seconds:.3g} s of processor time, as if it ran for ever; "
            "if it is only slow, allow more with the setting admission.seconds"
        )
    if answer["code"] < 0:
        name = signal.Signals(-answer["code"]).name
        return f"loading or running it crashed the process that examined it ({name})"
    return ""


def describe_basis(options: AdmissionOptions) -> dict[str, Any]:
    """Return the basis of a verdict beside the content: if any part changes, the content must be examined again."""
    return {
        "form": FORM,
        "penstock": __version__,
        "onnxruntime": _find_runtime(),
        "onnx": metadata.version("onnx"),
        "extensions": _find_package_version("onnxruntime-extensions"),
        "openvino": _find_package_version("onnxruntime-ep-openvino"),
        "seconds": options.seconds,
        "memory_bytes": options.memory_bytes,
        "confinement": dict(expect_layers(Program.SANDBOX).in_force),
        "locales": locales.describe_locales(),
        "machine": _find_machine(),
    }


def _find_runtime() -> str:
    return metadata.version("onnxruntime")


def _find_package_version(package: str) -> str:
    """Return the version of an optional package, "" if it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""


def _find_machine() -> str:
    """Return the kind of processor, because its features decide which kernels run and how numbers are rounded."""
    try:
        first = Path("/proc/cpuinfo").read_text("ascii", "replace").partition("\n\n")[0]
    except OSError:
        first = ""
    facts = dict(line.partition(":")[::2] for line in first.splitlines())
    values = {name.strip(): " ".join(value.split()) for name, value in facts.items()}
    name = values.get("model name") or values.get("CPU part") or ""
    features = hashlib.sha256((values.get("flags") or values.get("Features") or "").encode()).hexdigest()[:12]
    return f"{platform.machine()} {name} {features}"


def _spawn() -> "subprocess.Popen[bytes]":
    """Start an interpreter with a small environment, and one thread for each library; raises ``NotReady``."""
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise NotReady("no process can be started to examine models") from error


class _Sandbox:
    """One sandbox process with its pending replies."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", orders: asyncio.WriteTransport, answers: asyncio.StreamReader
    ) -> None:
        self._process = process
        self._orders = orders
        self._answers = answers
        self._numbers = count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls) -> "_Sandbox":
        """Start the process.

        Raises:
            NotReady: it cannot be started.
        """
        process = _spawn()
        loop = asyncio.get_running_loop()
        answers = asyncio.StreamReader(limit=LINE_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(answers), process.stdout)
        orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        return cls(process, orders, answers)

    @property
    def ended(self) -> bool:
        """Whether it accepts no more orders."""
        return self._reader.done() or self._orders.is_closing()

    async def ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send an order, and return the answer; ``seconds`` limits the work without the start.

        Raises:
            _Ended: the process has ended, or does not answer.
        """
        if self.ended:
            raise _SandboxEnded
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._orders.write(json.dumps({**order, "number": number}).encode() + b"\n")
        try:
            async with asyncio.timeout(START_S + seconds):
                answer: dict[str, Any] = await reply
                return answer
        except TimeoutError:
            kill_group(self._process)
            raise _SandboxEnded from None
        finally:
            del self._replies[number]

    def hang_up(self) -> None:
        """Close its input, so that it ends."""
        self._orders.close()

    async def close(self) -> None:
        """Kill it."""
        kill_group(self._process)
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while line := await self._answers.readline():
                answer: dict[str, Any] = json.loads(line)
                reply = self._replies.get(answer["number"])
                if reply is not None and not reply.done():
                    reply.set_result(answer)
        except ValueError:
            log.error("the answer of the process that examines models cannot be read")
        finally:
            self._orders.close()
            kill_group(self._process)  # it has ended, or its answers are no longer read
            self._process.wait()
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(_SandboxEnded())
