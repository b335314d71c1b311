"""Runs a command for an event, once: keeps its last output, and ends its process group with it or at its timeout."""

import logging
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.control.sinks.base import NotStarted, SinkContext, SinkFault, end_group, json_bytes, start_fault
from penstock.control.sinks.credentials import secret_variables
from penstock.control.sinks.environment import clean_environment
from penstock.engine.heap import huge_pages
from penstock.registry.records import Document

log = logging.getLogger("penstock.control")

COMMAND_S = 600.0
OUTPUT_MOST = 1 << 20
"""Maximum bytes of a command's output to keep: the last ones."""

LINES_MOST, LINES_BYTES = 20, 3000
"""Maximum last lines that a failure reports, and their maximum bytes."""

READ_BYTES = 1 << 16

LOOK_S = 0.5
"""Interval of checks whether a command has ended whose output another process holds open."""

LINGER_S = 2.0
"""Time to read output that other processes write after a command's end."""


class OutputTail:
    """The last bytes of an output without a known end; holds at most twice ``most`` bytes."""

    def __init__(self, most: int = OUTPUT_MOST) -> None:
        self._most = most
        self._kept = bytearray()
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Add output."""
        self._kept += data
        if len(self._kept) > 2 * self._most:
            self._drop()

    def _drop(self) -> None:
        over = max(0, len(self._kept) - self._most)
        del self._kept[:over]
        self.dropped += over

    def content(self) -> bytes:
        """Return the kept bytes, after a line with the number of dropped ones."""
        self._drop()
        note = f"[{self.dropped} bytes before this were dropped]\n".encode() if self.dropped else b""
        return note + bytes(self._kept)

    def last_lines(self) -> str:
        """Return the last lines, as text."""
        text = bytes(self._kept[-LINES_BYTES:]).decode(errors="replace").replace("\0", "\ufffd").strip()
        return "\n".join(text.splitlines()[-LINES_MOST:])


@dataclass(frozen=True, slots=True)
class _RunningCommand:
    """A started command, and the reader of its output."""

    process: "subprocess.Popen[bytes]"
    selector: selectors.BaseSelector


def run_command(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Run the command. Blocks, for ``timeout_seconds`` at most.

    Raises:
        NotStarted: memory, space or descriptors were lacking; it may be tried again.
        SinkFault: it failed, which is final: a command is run again only where somebody asks for it.
    """
    timeout_s, output = float(values.get("timeout_seconds", COMMAND_S)), OutputTail()
    folder = context.folder(event)
    variables = _make_environment(values, context)
    with _start_command(list(values["argv"]), folder, event, context, variables) as running:
        code = _exit_code(running, context, output, time.monotonic() + timeout_s)
    _write_output(folder / "output.txt", output)
    if code is None:
        raise _command_fault(f"the command was killed after {timeout_s:g} s", output)
    if code:
        raise _command_fault(f"the command ended with {code}", output)


def _make_environment(values: Mapping[str, Any], context: SinkContext) -> dict[str, str]:
    """Return the variables with secrets; a command is not started without them, and its attempt does not count."""
    try:
        return secret_variables(values, context)
    except SinkFault as fault:
        raise NotStarted(str(fault)) from None


@contextmanager
def _start_command(
    argv: list[str], folder: Path, event: Document, context: SinkContext, variables: Mapping[str, str]
) -> Iterator[_RunningCommand]:
    """Start a command; everything that may be lacking is allocated before."""
    with ExitStack() as stack:
        try:
            environment, stdin = _prepare(folder, event, context, variables)
            source, sink = os.pipe()
            stack.callback(os.close, source)
            with os.fdopen(sink, "wb", buffering=0) as stdout, stdin.open("rb") as input_file:
                selector = stack.enter_context(selectors.DefaultSelector())
                selector.register(source, selectors.EVENT_READ)
                with huge_pages():  # a command begins with what this process may get
                    process = subprocess.Popen(
                        argv,
                        stdin=input_file,
                        stdout=stdout,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        cwd=folder,
                        start_new_session=True,
                    )
        except OSError as error:
            raise start_fault("the command cannot be run", error) from None
        yield _RunningCommand(stack.enter_context(process), selector)


def _exit_code(running: _RunningCommand, context: SinkContext, output: OutputTail, deadline: float) -> int | None:
    """Return the exit code, None if its time was over (of the monotonic clock); the rest of its process group is ended
    in any case.
    """
    process = running.process
    with context.commands.running(process.pid):
        try:
            over = _read(running, output, deadline)
        finally:
            end_group(process.pid)  # before its process is waited for: until then nobody else has its number
        return process.wait() if over else None


def _write_output(path: Path, output: OutputTail) -> None:
    """Store the output; a finished command stays finished if the disk is full."""
    try:
        path.write_bytes(output.content())
    except OSError as error:
        log.warning("the output of a command could not be kept: %s", error.strerror)


def _command_fault(reason: str, output: OutputTail) -> SinkFault:
    lines = output.last_lines()
    text = f"{reason}; its last output:\n{lines}" if lines else f"{reason}, without output"
    return SinkFault(text, final=True, output=lines)


def _prepare(
    folder: Path, event: Document, context: SinkContext, variables: Mapping[str, str]
) -> tuple[dict[str, str], Path]:
    """Return the command's environment, and write the event to a file in its folder, with the coverage of its rows."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, data, rows = folder / "event.json", event["data"], context.rows
    environment = {**clean_environment(os.environ), **variables, "PENSTOCK_EVENT": str(path)}
    environment["PENSTOCK_MODEL"] = str(data.get("model", ""))
    if rows is not None:
        environment["PENSTOCK_ROWS"] = str(rows.path)
        event = {**event, "data": {**data, "rows": rows.coverage}}
    path.write_bytes(json_bytes(event))
    return environment, path


def _read(running: _RunningCommand, output: OutputTail, deadline: float) -> bool:
    """Return whether a command ends before the deadline (of the monotonic clock); its remaining processes may hold its
    output open without end.
    """
    pid, until = running.process.pid, deadline
    lingers = False
    while (left := until - time.monotonic()) > 0:
        if not lingers and _is_over(pid):
            lingers, until = True, min(deadline, time.monotonic() + LINGER_S)
            continue
        ready = running.selector.select(min(left, LOOK_S))
        data = os.read(ready[0][0].fd, READ_BYTES) if ready else None
        if data == b"":
            return _ends_in_time(pid, deadline)
        output.add(data or b"")
    return lingers


def _is_over(pid: int) -> bool:
    """Whether a child has ended, without waiting for it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ends_in_time(pid: int, deadline: float) -> bool:
    """Whether a child that has closed its output ends before the deadline."""
    pause_s = 0.001
    while not _is_over(pid):
        if (left := deadline - time.monotonic()) <= 0:
            return False
        time.sleep(min(left, pause_s))
        pause_s = min(LOOK_S, 2 * pause_s)
    return True
