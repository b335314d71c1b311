"""The secrets of the configuration, read when they are used, so that they can be changed without a restart."""

import os
import selectors
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from penstock.control.sinks.environment import clean_environment
from penstock.core.secrets import MissingSecret, Secret, SecretFault

MOST_BYTES: Final = 1 << 16
COMMAND_S: Final = 10.0
"""Deadline of a command that prints a secret."""

KEPT_S: Final = 60.0
"""Time for which the output of a command is used."""

READABLE_BY_OTHERS: Final = stat.S_IRWXO
READABLE_BY_GROUP: Final = stat.S_IRWXG


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret comes from: a file, the ``value`` of an environment variable, or what a command prints."""

    file: Path | None = None
    value: Secret | None = None
    command: tuple[str, ...] = ()


class SecretStore:
    """Secrets by name; ``clock`` gives monotonic seconds. Any thread may use it; reading blocks."""

    def __init__(
        self, sources: Mapping[str, SecretSource] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sources = dict(sources or {})
        self._clock = clock
        self._printed: dict[str, tuple[float, Secret]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Secret:
        """Return a secret, without space around it; blocks.

        Raises:
            SecretFault: there is none of this name, or it cannot be read.
        """
        source = self._sources.get(name)
        if source is None:
            raise MissingSecret(f"the configuration has no secret '{name}'")
        if source.file is not None:
            return read_secret_file(source.file, name)
        if source.command:
            return self._printed_by(name, source.command)
        if source.value is None:
            raise MissingSecret(f"the environment variable of the secret '{name}' is not set")
        return source.value

    def is_printed(self, name: str) -> bool:
        """Whether a command prints this secret: it is not run to check it."""
        return name in self._sources and bool(self._sources[name].command)

    def faults(self) -> list[str]:
        """Return why files and variables cannot be used; commands are not run. Blocks."""
        found = []
        for name, source in self._sources.items():
            try:
                if not source.command:
                    self.get(name)
            except SecretFault as fault:
                found.append(str(fault))
        return found

    def _printed_by(self, name: str, argv: tuple[str, ...]) -> Secret:
        with self._lock:  # one command at a time: it may ask a person, or a service with limits
            until, known = self._printed.get(name, (0.0, None))
            if known is not None and self._clock() < until:
                return known
            secret = _printed_secret(name, argv)
            self._printed[name] = self._clock() + KEPT_S, secret
            return secret


def read_secret_file(path: Path, name: str) -> Secret:
    """Return the content of a file, without space around it; blocks.

    Raises:
        SecretFault: it cannot be read, is not a file, is too long, or others may read it. The group may, if the file is
            root's: this is how container platforms mount secrets.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(file.fileno())
            if problem := _file_problem(state):
                raise SecretFault(f"the file of the secret '{name}' {problem}")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        fault = MissingSecret if isinstance(error, FileNotFoundError) else SecretFault
        raise fault(f"the secret '{name}' cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise SecretFault(f"the file of the secret '{name}' is longer than {MOST_BYTES} bytes")
    return Secret(name, content.strip())


def _file_problem(state: os.stat_result) -> str:
    if not stat.S_ISREG(state.st_mode):
        return "is not a file"
    forbidden = READABLE_BY_OTHERS if state.st_uid == 0 else READABLE_BY_OTHERS | READABLE_BY_GROUP
    return "may be used by other users; allow its owner alone: chmod 600" if state.st_mode & forbidden else ""


def _printed_secret(name: str, argv: tuple[str, ...]) -> Secret:
    """Return what a command prints; raises ``SecretFault``."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(os.environ),
            start_new_session=True,
        )
    except OSError as error:
        raise SecretFault(f"the command of the secret '{name}' cannot be run: {error.strerror}") from None
    with process:
        try:
            printed = _read_output(process, time.monotonic() + COMMAND_S)
        finally:
            _end(process)
    if printed is None or process.returncode:
        raise SecretFault(f"the command of the secret '{name}' failed, did not end, or printed too much")
    return Secret(name, printed.strip())


def _read_output(process: "subprocess.Popen[bytes]", deadline: float) -> bytes | None:
    """Return what a process prints until it ends; None if it prints too much, or goes on until the deadline."""
    output = bytearray()
    if process.stdout is None:
        return None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and len(output) <= MOST_BYTES:
            if not selector.select(left):
                return None
            data = os.read(process.stdout.fileno(), MOST_BYTES)
            if not data:
                return bytes(output) if _wait_end(process, deadline) else None
            output += data
    return None


def _wait_end(process: "subprocess.Popen[bytes]", deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a command that goes on, and its children."""
    if process.returncode is None:  # else its number may be another's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
