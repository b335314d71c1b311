"""Admission: a content may serve only after a throw-away process has parsed, checked, loaded and run it.

Whatever happens there (a crash, a hang, all memory taken) is a verdict with a reason; nothing of it reaches us.
"""

import asyncio
import hashlib
import json
import logging
import os
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
from penstock.core.errors import NotReady, Overloaded
from penstock.registry.admission import locales
from penstock.registry.records import Plan, Report, Subject

log = logging.getLogger("penstock.registry")

FORM = 6
"""Changes when verdicts would, between two releases."""

MODULE = "penstock.registry.admission.sandbox"
TOGETHER = 2
"""Contents that are examined at a time."""

WAITING = 256
LINE_BYTES = 8 << 20
"""The longest answer of a sandbox; it bounds its reports to half of that."""

MOST_FILES = 10_000
START_S = 30.0
MARGIN_S = 5.0
PATIENCE = 4
"""Seconds that may pass for each second of processor time: a busy machine is not the model's fault."""

IDLE_S = 30.0
BYTES_A_SECOND = 50_000_000
"""A content gets a second more for that many bytes of it."""

MEMORY_A_BYTE = 6
"""Bytes of memory a content gets for each of its own."""

_KEPT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")
_TRIES = 2


@dataclass(frozen=True, slots=True)
class AdmissionOptions:
    """What an examination may take, on top of what a content's size asks for."""

    seconds: float = 4.0
    memory_bytes: int = 4 << 30


class _Ended(Exception):
    """The sandbox has ended before it answered."""


class Examiner:
    """Examines contents; starts its sandbox when it is needed, and ends it when it has been idle for a while."""

    def __init__(self, options: AdmissionOptions | None = None, idle_s: float = IDLE_S) -> None:
        self._options = options or AdmissionOptions()
        self._idle_s = idle_s
        self._room = asyncio.Semaphore(TOGETHER)
        self._starting = asyncio.Lock()
        self._sandbox: _Sandbox | None = None
        self._waiting = 0
        self._closed = False
        self._idle: asyncio.TimerHandle | None = None

    async def plan(self, subject: Subject) -> Plan:
        """See ``Admission``."""
        report = await self._report_on(subject, "plan")
        if not report.admitted:
            return Plan(report)
        facts = {name: fact for name, fact in report.facts.items() if name not in ("weights", "runtime")}
        return Plan(None, tuple(report.facts["weights"]), facts)

    async def examine(self, subject: Subject) -> Report:
        """See ``Admission``."""
        return await self._report_on(subject, "examine")

    async def _report_on(self, subject: Subject, work: str) -> Report:
        if self._waiting >= WAITING:
            raise Overloaded(f"{WAITING} models wait for their admission already; try again later")
        self._waiting += 1
        try:
            async with self._room:
                return await self._ordered(subject, work)
        finally:
            self._waiting -= 1
            self._rest()

    async def close(self) -> None:
        """End the sandbox and whatever it is doing."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        if self._sandbox is not None:
            await self._sandbox.close()

    async def _ordered(self, subject: Subject, work: str) -> Report:
        size = await asyncio.to_thread(_size, subject)
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
        }
        for _ in range(_TRIES):
            sandbox = await self._started()
            try:
                answer = await sandbox.ask(order, PATIENCE * seconds + MARGIN_S)
            except _Ended:
                if self._closed:
                    break
                log.warning("the process that examines models has ended; it is started again")
                continue
            return _report(answer, seconds)
        raise NotReady("the model cannot be examined now; try again later")

    async def _started(self) -> "_Sandbox":
        async with self._starting:
            if self._idle is not None:
                self._idle.cancel()
            if self._sandbox is None or self._sandbox.ended:
                self._sandbox = await _Sandbox.start()
            return self._sandbox

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if not self._waiting:
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._retire)

    def _retire(self) -> None:
        if self._sandbox is not None and not self._waiting:
            self._sandbox.hang_up()


def _size(subject: Subject) -> int:
    """Bytes of the graph and whatever lies beside it."""
    sizes = 0
    with suppress(OSError):
        sizes = subject.graph.stat().st_size
        if subject.weights is not None:
            files = (path.lstat() for path in islice(subject.weights.rglob("*"), MOST_FILES))
            sizes += sum(found.st_size for found in files if stat.S_ISREG(found.st_mode))
    return sizes


def _report(answer: dict[str, Any], seconds: float) -> Report:
    """The verdict that a sandbox's answer means."""
    if answer["late"] or answer["code"] == -signal.SIGXCPU:
        return Report(
            f"it did not finish within {seconds:.3g} s of processor time, as if it ran for ever; "
            "if it is only slow, allow more with the setting admission.seconds"
        )
    if answer["code"] < 0:
        name = signal.Signals(-answer["code"]).name
        return Report(f"loading or running it crashed the process that examined it ({name})")
    report = answer.get("report")
    if not isinstance(report, dict):
        return Report("it needs more memory than admission allows, or broke the process that examined it")
    facts = {**report["facts"], "runtime": f"onnxruntime {_runtime()}"}
    return Report(report["reason"], facts, report["detail"])


def basis(options: AdmissionOptions) -> dict[str, Any]:
    """What a verdict rests on beside the content: if any of it changes, the verdict has to be found anew."""
    return {
        "form": FORM,
        "penstock": __version__,
        "onnxruntime": _runtime(),
        "onnx": metadata.version("onnx"),
        "extensions": _extensions(),
        "seconds": options.seconds,
        "memory_bytes": options.memory_bytes,
        "locales": locales.installed(),
        "machine": _machine(),
    }


def _runtime() -> str:
    return metadata.version("onnxruntime")


def _extensions() -> str:
    """The version of the library of more operators, "" where it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("onnxruntime-extensions")
    return ""


def _machine() -> str:
    """The kind of processor: kernels are chosen, and numbers rounded, by what it can do."""
    try:
        first = Path("/proc/cpuinfo").read_text("ascii", "replace").partition("\n\n")[0]
    except OSError:
        first = ""
    facts = dict(line.partition(":")[::2] for line in first.splitlines())
    told = {name.strip(): " ".join(value.split()) for name, value in facts.items()}
    name = told.get("model name") or told.get("CPU part") or ""
    able = hashlib.sha256((told.get("flags") or told.get("Features") or "").encode()).hexdigest()[:12]
    return f"{platform.machine()} {name} {able}"


def _spawned() -> "subprocess.Popen[bytes]":
    """A fresh interpreter with little of our environment, and one thread for each library."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    kept = {name: os.environ[name] for name in (*_KEPT, *locales.VARIABLES) if name in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **single, "ORT_DISABLE_TELEMETRY": "1"},
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise NotReady("no process can be started to examine models") from error


class _Sandbox:
    """One sandbox process and the answers that are awaited of it."""

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
        process = _spawned()
        loop = asyncio.get_running_loop()
        answers = asyncio.StreamReader(limit=LINE_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(answers), process.stdout)
        orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        return cls(process, orders, answers)

    @property
    def ended(self) -> bool:
        """Whether it takes no orders any more."""
        return self._reader.done() or self._orders.is_closing()

    async def ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Its answer to an order.

        Raises:
            _Ended: it has ended, or says nothing.
        """
        if self.ended:
            raise _Ended
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._orders.write(json.dumps({**order, "number": number}).encode() + b"\n")
        try:
            async with asyncio.timeout(START_S + seconds):
                answer: dict[str, Any] = await reply
                return answer
        except TimeoutError:
            self._process.kill()
            raise _Ended from None
        finally:
            del self._replies[number]

    def hang_up(self) -> None:
        """Let it end."""
        self._orders.close()

    async def close(self) -> None:
        """End it now."""
        self._process.kill()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while line := await self._answers.readline():
                answer: dict[str, Any] = json.loads(line)
                reply = self._replies.get(answer["number"])
                if reply is not None and not reply.done():
                    reply.set_result(answer)
        except ValueError:
            log.error("the process that examines models said what cannot be understood")
        finally:
            self._orders.close()
            self._process.kill()  # it has ended by itself, or nobody listens to it any more
            self._process.wait()
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(_Ended())
