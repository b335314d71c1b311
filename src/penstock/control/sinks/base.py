"""What every sink is given and what it raises: the context of the gateway, the fault of a delivery, and the protocol of
sinks that other packages bring."""

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
"""What one wait for the other side takes at most."""

RETRY_MOST_S = 3600.0
"""A sink is asked again after this time at the latest, whatever it asks for."""

REASON_MOST = 4000
STRUCTURED = "application/cloudevents+json; charset=utf-8"


class SinkFault(Exception):
    """A sink does not have an event; ``after_s`` is when it wants to be asked again, an hour at most, ``final`` that it
    never does; ``output`` is what a command wrote last, and ``failed`` that what the event asked it for has ended."""

    def __init__(self, reason: str, after_s: float = 0.0, final: bool = False, output: str | None = None) -> None:
        super().__init__(reason[:REASON_MOST].replace("\0", "\ufffd"))  # PostgreSQL has no text with NUL
        self.after_s = min(RETRY_MOST_S, max(0.0, after_s))
        self.final = final
        self.failed = output is not None
        self.output = output or ""


class NotStarted(SinkFault):
    """A command was not started, for want of something that comes back: this attempt does not count."""


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
"""What the machine lacks for a while; the command itself is not at fault."""


def start_fault(what: str, error: OSError) -> SinkFault:
    """The fault of a command that could not be started; it is final where the command is at fault."""
    reason = f"{what}: {error.strerror}"
    return NotStarted(reason) if error.errno in OUT_OF_RESOURCES else SinkFault(reason, final=True, output="")


class RunningCommands:
    """The commands that run now, so that they end with the gateway; any thread may use it."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._over = False

    @contextmanager
    def running(self, leader: int) -> Iterator[None]:
        """While the process group of this leader runs."""
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
        """End them all, and those that would still begin."""
        with self._lock:
            self._over = True
            for leader in self._running:
                end_group(leader)


def end_group(leader: int) -> None:
    """Kill a process group, if there is still one."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class RowFile:
    """Captured rows as a Parquet file, and their ``coverage``: how many there are, and of which gateways."""

    path: Path
    coverage: Document


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What sinks need of the gateway: its home, whether paths and commands of a policy are its own user's, the commands
    that run, and the ``rows`` that were captured of an event's version (None without). ``gather`` writes these into a
    folder; it may wait for other gateways."""

    home: Path
    trusted: bool
    gather: Callable[[Document, Path], RowFile | None] = lambda _event, _folder: None
    commands: RunningCommands = field(default_factory=RunningCommands)
    rows: RowFile | None = None

    def folder(self, event: Document) -> Path:
        """Where the files of an event lie."""
        return self.home / "retraining" / str(event["id"])

    def with_rows(self, event: Document) -> "SinkContext":
        """The same with the rows of an event's version, for a command that may run. Blocks.

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
    """Its settings, as ``core.sinks.FIELDS`` has them."""

    def send(self, values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
        """Send one event, and return once the other side has it; raises ``SinkFault``. Any thread may call it."""


def path_of(stated: str, context: SinkContext) -> Path:
    """The path that a policy states, relative to the gateway's home.

    Raises:
        SinkFault: it lies outside, where that is not allowed.
    """
    path = (context.home / stated).resolve()
    if not context.trusted and not path.is_relative_to(context.home.resolve()):
        raise SinkFault("the path leads out of the gateway's home", final=True)
    return path


def secret_of(stated: str, context: SinkContext) -> bytes:
    """The content of a file with a secret; raises ``SinkFault``."""
    try:
        return path_of(stated, context).read_bytes().strip()
    except OSError as error:
        raise SinkFault(f"the secret cannot be read: {error.strerror}") from None


def json_bytes(document: Any) -> bytes:
    """A document as compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()
