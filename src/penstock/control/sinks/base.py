"""The interface of sinks: the context of the gateway, the error of a delivery, and the protocol of sinks in other
packages.
"""

import errno
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from penstock.registry.records import Document

WAIT_S = 10.0
"""Maximum time of one wait for the other side."""

RETRY_MOST_S = 3600.0
"""Maximum time until a sink is tried again, whatever it asks for."""

REASON_MOST = 4000
STRUCTURED = "application/cloudevents+json; charset=utf-8"


class SinkFault(Exception):
    """A sink does not have an event; ``after_s`` is when to retry, an hour at most, ``final`` that no retry helps;
    ``output`` is the last output of a command, and ``failed`` that the requested work has ended.
    """

    def __init__(self, reason: str, after_s: float = 0.0, final: bool = False, output: str | None = None) -> None:
        super().__init__(reason[:REASON_MOST].replace("\0", "\ufffd"))  # PostgreSQL has no text with NUL
        self.after_s = min(RETRY_MOST_S, max(0.0, after_s))
        self.final = final
        self.failed = output is not None
        self.output = output or ""


class NotStarted(SinkFault):
    """A command was not started, because of a lack that may end: this attempt does not count."""


OUT_OF_RESOURCES = frozenset(
    (
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
    )
)
"""Errors of a temporary lack on the machine; the command itself is not the cause."""


def start_fault(what: str, error: OSError) -> SinkFault:
    """Return the error of a command that could not be started; it is final if the command is the cause."""
    reason = f"{what}: {error.strerror}"
    return NotStarted(reason) if error.errno in OUT_OF_RESOURCES else SinkFault(reason, final=True, output="")


class RunningCommands:
    """The running commands, so that they end with the gateway; any thread may use it."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._over = False

    @contextmanager
    def running(self, leader: int) -> Iterator[None]:
        """Register the process group of this leader while it runs."""
        with self._lock:
            self._running.add(leader)
            over = self._over
        if over:
            end_group(leader)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(leader)

    def end(self) -> None:
        """End all running commands, and those that would still begin."""
        with self._lock:
            self._over = True
            for leader in self._running:
                end_group(leader)


def end_group(leader: int) -> None:
    """Kill a process group, if it exists."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class RowFile:
    """Captured rows as a Parquet file, and their ``coverage``: how many there are, and from which gateways."""

    path: Path
    coverage: Document


@dataclass(frozen=True, slots=True)
class SinkContext:
    """The gateway as sinks need it: its home, whether paths and commands of a policy belong to its own user, the
    running commands, and the captured ``rows`` of an event's version (None without). ``gather`` writes them to a
    folder; it may wait for other gateways.
    """

    home: Path
    trusted: bool
    gather: Callable[[Document, Path], RowFile | None] = lambda _event, _folder: None
    commands: RunningCommands = field(default_factory=RunningCommands)
    rows: RowFile | None = None

    def folder(self, event: Document) -> Path:
        """Return the folder for the files of an event."""
        return self.home / "retraining" / str(event["id"])

    def with_rows(self, event: Document) -> "SinkContext":
        """Return a context with the rows of an event's version, for a command that may run. Blocks.

        Raises:
            Fault: they cannot be gathered now.
            SinkFault: they cannot be written.
        """
        if not self.trusted:
            return self
        try:
            self.folder(event).mkdir(mode=0o700, parents=True, exist_ok=True)
            return replace(self, rows=self.gather(event, self.folder(event)))
        except OSError as error:
            raise start_fault("the captured rows cannot be written", error) from None


class Sink(Protocol):
    """A sink of another package, named as its entry point in the group ``penstock.sinks``."""

    fields: Mapping[str, tuple[type, bool]]
    """Its settings, in the form of ``core.sinks.FIELDS``."""

    def send(self, values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
        """Send one event, and return when the other side has it; raises ``SinkFault``. Any thread may call it."""


def path_of(stated: str, context: SinkContext) -> Path:
    """Return the path in a policy, relative to the gateway's home.

    Raises:
        SinkFault: it lies outside, where that is not allowed.
    """
    path = (context.home / stated).resolve()
    if not context.trusted and not path.is_relative_to(context.home.resolve()):
        raise SinkFault("the path leads out of the gateway's home", final=True)
    return path


def secret_of(stated: str, context: SinkContext) -> bytes:
    """Return the content of a file with a secret; raises ``SinkFault``."""
    try:
        return path_of(stated, context).read_bytes().strip()
    except OSError as error:
        raise SinkFault(f"the secret cannot be read: {error.strerror}") from None


def json_bytes(document: Any) -> bytes:
    """Return a document as compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()
