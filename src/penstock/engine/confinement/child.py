"""Runs a module of Penstock in a confined process of its own, with a small environment, and ends all that it started.

The process confines itself (``program``) before it imports the module, so that nothing of a foreign model or foreign
data is read with the rights of the gateway.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from penstock.core.errors import NotReady
from penstock.engine.confinement.confine import SandboxedProgram
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.confinement.limits import SPARE_PROCESSES, ResourceLimits, count_processes
from penstock.engine.memory import read_memory

PROGRAM: Final = "penstock.engine.confinement.program"
UNSAFE: Final = 70
"""The exit code of a program that was not run, because a layer of confinement is missing."""

_KEPT: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "LC_CTYPE", "LOCPATH")
_SINGLE: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FILE_BYTES: Final = 8 << 30
"""Maximum size of a file that a module writes."""

_LEAST_BYTES: Final = 2 << 30
"""Addresses that a module may use beyond the present ones on a small machine: libraries reserve more than they use."""

_OPEN_FILES: Final = 256


@dataclass(frozen=True, slots=True)
class ConfinedRun:
    """How a module ended: its exit code, and its output."""

    code: int
    output: bytes
    errors: bytes


def clean_environment() -> dict[str, str]:
    """Return the environment of a confined process: no secrets, the locale, and one thread for each library."""
    variables = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**variables, **dict.fromkeys(_SINGLE, "1"), "ORT_DISABLE_TELEMETRY": "1"}


class _Requirement:
    """Whether programs of this process run only with every layer of confinement."""

    is_complete = False


def require_confinement(is_complete: bool) -> None:
    """State whether ``run_confined`` refuses to run anything without every layer of confinement; in this process."""
    _Requirement.is_complete = is_complete


@contextmanager
def start_confined(command: Sequence[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a confined command, with pipes for its output and its errors; the process and all that it started end with
    the block.

    Raises:
        OSError: no process can be started.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            kill_group(process)


def run_confined(module: str, arguments: Sequence[str], paths: AllowedPaths, seconds: float) -> ConfinedRun:
    """Run a module that may use ``paths`` and no network, for at most ``seconds`` and in half of the memory of this
    machine. Blocks.

    Raises:
        NotReady: a layer of confinement is missing that ``require_confinement`` asks for.
        subprocess.TimeoutExpired: it took longer; it is ended.
        OSError: no process can be started.
    """
    with start_confined(confined_command(module, arguments, paths, _FILE_BYTES)) as process:
        output, errors = process.communicate(timeout=seconds)
    if process.returncode == UNSAFE:
        raise NotReady(errors.decode(errors="replace").strip().removeprefix("penstock: "))
    return ConfinedRun(process.returncode, output, errors)


def confined_command(module: str, arguments: Sequence[str], paths: AllowedPaths, file_bytes: int) -> list[str]:
    """Return the command of a process that runs a module with ``paths`` and no network, in half of the memory of this
    machine; it writes files of at most ``file_bytes``. It ends with ``UNSAFE`` where a layer is missing that
    ``require_confinement`` asks for; start it with ``clean_environment`` and in a session of its own."""
    limits = ResourceLimits(
        max(read_memory() // 2, _LEAST_BYTES),
        None,
        file_bytes,
        count_processes() + SPARE_PROCESSES,
        open_files=_OPEN_FILES,
    )
    plan = json.dumps({**encode_program(SandboxedProgram(paths, limits)), "required": _Requirement.is_complete})
    return [*_program_command(), plan, module, *arguments]


def _program_command() -> list[str]:
    """Return the command that runs ``program``."""
    return [sys.executable, "-P", "-m", PROGRAM]


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads a session, with every process of it; without effect on one that has been waited for."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def encode_program(program: SandboxedProgram) -> dict[str, Any]:
    """Return a program's rights as JSON values."""
    paths = program.paths
    return {
        "readable": [str(path) for path in paths.readable],
        "writable": [str(path) for path in paths.writable],
        "limits": asdict(program.limits),
    }


def decode_program(values: dict[str, Any]) -> SandboxedProgram:
    """Return the rights in JSON values."""
    paths = AllowedPaths(tuple(map(Path, values["readable"])), tuple(map(Path, values["writable"])))
    return SandboxedProgram(paths, ResourceLimits(**values["limits"]))
