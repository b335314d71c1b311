"""The interface of sinks: the context of the gateway, the error of a delivery, and the protocol of sinks in other
packages.
"""

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from penstock.control.sinks.delivery_traces import DeliveryTraces
from penstock.control.sinks.secret_store import SecretStore
from penstock.core.addresses import HostList
from penstock.core.sink_rules import FOLDER, OWN_FILES, find_refusal
from penstock.core.sinks import RUN_ONCE, SinkSpec
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
    """The gateway as sinks need it: its home, its ``secrets``, whether the sink may reach what the gateway's user may
    (``trusted``) or only these ``hosts`` and one folder, the running commands, and the captured ``rows`` of an event's
    version (None without). ``gather`` writes them to a folder; it may wait for other gateways. ``clock`` gives seconds
    since the epoch. ``traces`` records deliveries, and ``traceparent`` is that of one delivery ("" for none).
    """

    home: Path
    trusted: bool = False
    gather: Callable[[Document, Path], RowFile | None] = lambda _event, _folder: None
    commands: RunningCommands = field(default_factory=RunningCommands)
    rows: RowFile | None = None
    secrets: SecretStore = field(default_factory=SecretStore)
    hosts: HostList = field(default_factory=HostList)
    clock: Callable[[], float] = time.time
    traces: DeliveryTraces = field(default_factory=DeliveryTraces)
    traceparent: str = ""

    def of(self, spec: SinkSpec) -> "SinkContext":
        """Return the context of one sink.

        Raises:
            SinkFault: it may not do what it states.
        """
        if reason := find_refusal(spec, self.hosts):
            text = f"{reason}; declare the sink in the configuration, or set the policy as the gateway's user"
            raise SinkFault(text, final=True, output="" if spec.kind in RUN_ONCE else None)
        return replace(self, trusted=spec.is_trusted)

    def permits(self, address: str) -> bool:
        """Whether a connection to an address may be opened."""
        return self.trusted or self.hosts.permits_address(address)

    def folder(self, event: Document) -> Path:
        """Return the folder for the files of an event."""
        return self.home / "retraining" / str(event["id"])

    def with_rows(self, event: Document) -> "SinkContext":
        """Return a context with the rows of an event's version, for a command that may run. Blocks.

        Raises:
            Fault: they cannot be gathered now.
            SinkFault: they cannot be written.
        """
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
    """Return the path of a file for events, relative to the gateway's home.

    Raises:
        SinkFault: it may be one of the gateway's own files, or it lies where this sink may not write.
    """
    home = context.home.resolve()
    path, folder = (home / stated).resolve(), (home / FOLDER).resolve()
    if path != folder and path.is_relative_to(folder):
        return path
    if not context.trusted:
        raise SinkFault(f"its file is not below '{FOLDER}/'", final=True)
    if path.is_relative_to(home) and path.suffix != OWN_FILES:
        text = f"in the gateway's home, files for events are below '{FOLDER}/', or end in {OWN_FILES}"
        raise SinkFault(text, final=True)
    return path


def json_bytes(document: Any) -> bytes:
    """Return a document as compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()
