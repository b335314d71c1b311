"""The control process's connections to its workers: sends desired states, receives reports and repository requests."""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from penstock.control.workers import protocol
from penstock.control.workers.protocol import (
    LINE_BYTES,
    ChannelBroken,
    Message,
    MessageQueue,
    decode_feedback,
    decode_status,
    encode_desired,
    encode_fault,
    receive,
)
from penstock.core.desired import Desired, ReadyState, VersionStatus
from penstock.core.errors import Fault, Internal, NotReady, Overloaded, storage_fault
from penstock.core.versions import VersionKey
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.registry.records import Author

log = logging.getLogger("penstock.control")

HELLO_S = 5.0
COMMANDS = 32
"""The most repository requests of one worker that may be in progress."""

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class RepositoryRequests(Protocol):
    """Performs repository requests; raises the faults that the caller gets."""

    async def load(self, model: str, config: str | None, by: Author) -> None:
        """Load a model, or load it again."""

    async def unload(self, model: str, by: Author) -> None:
        """Stop serving a model."""


@dataclass(slots=True)
class WorkerReport:
    """The latest report of one worker: the newest revision that it has applied, each version's status, and the models
    of which unloaded versions are still in memory."""

    pid: int
    applied: int = 0
    versions: dict[VersionKey, VersionStatus] = field(default_factory=dict)
    closing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listeners:
    """Callbacks of the channel, called on the event loop: a report changed, an attempt to load ended (and whether it
    succeeded), a worker disconnected (its slot and last report), rows to learn from or attributions of rows arrived.
    ``feedback`` joins the feedback of a model and returns the result."""

    changed: Callable[[], None]
    loaded: Callable[[VersionKey, bool], None]
    parted: Callable[[int, WorkerReport], None]
    gathered: Callable[[Message], None] = lambda _: None
    feedback: Callable[[str, list[Feedback]], Awaitable[FeedbackResult]] | None = None


class Channel:
    """One connection for each living worker. Belongs to the event loop.

    ``admit`` says whether a process is the worker of a slot. ``reports`` holds the connected workers' reports by slot,
    ``signatures`` each version's inputs and outputs as any worker reported them. ``on_refused`` is called with requests
    that access control refused, each kind with its ``count``, ``on_traces`` with records of requests.
    """

    def __init__(
        self, path: Path, admit: Callable[[int, int], bool], repository: RepositoryRequests, listeners: Listeners
    ) -> None:
        self._path = path
        self._admit = admit
        self._repository = repository
        self._listeners = listeners
        self._desired = Desired()
        self._announced: dict[str, Message] = {}
        self.on_refused: Callable[[list[Message]], None] = lambda _: None
        self.on_traces: Callable[[Message], None] = lambda _: None
        self._server: asyncio.Server | None = None
        self._outboxes: dict[int, MessageQueue] = {}
        self._conversations: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.reports: dict[int, WorkerReport] = {}
        self.signatures: dict[VersionKey, Message] = {}
        self._samples: dict[tuple[str, str, int], list[Message]] = {}

    async def start(self) -> None:
        """Listen for workers; a socket file of a dead predecessor is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self._path, limit=LINE_BYTES)

    async def close(self) -> None:
        """Close all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._conversations.values():
            writer.transport.abort()  # which ends the conversation from within
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def publish(self, desired: Desired) -> None:
        """Send a desired state to every worker, and to those that connect later."""
        self._desired = desired
        served = {(model.name, version.version) for model in desired.models for version in model.versions}
        self.signatures = {key: signature for key, signature in self.signatures.items() if key in served}
        self._samples = {key: samples for key, samples in self._samples.items() if key[:2] in served}
        for outbox in self._outboxes.values():
            _put_desired(outbox, desired)

    def announce(self, message: Message) -> None:
        """Send a message to every worker, and to those that connect later before the desired state; it replaces an
        earlier one of the same type."""
        self._announced[message["type"]] = message
        for outbox in self._outboxes.values():
            outbox.put(message["type"], message)

    def samples_of(self, model: str, version: str) -> list[Message]:
        """The requests on which a shadow disagreed, of all workers, worst first."""
        collected = [
            sample for key, samples in self._samples.items() if key[:2] == (model, version) for sample in samples
        ]
        return sorted(collected, key=lambda item: -float(item["badness"]))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._conversations[task] = writer
        try:
            await self._handshake(reader, writer)
        except ChannelBroken as broken:
            log.warning("a worker's connection broke: %s", broken)
        finally:
            del self._conversations[task]
            writer.close()

    async def _handshake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await receive(reader)
        except TimeoutError:
            return
        pid = _peer_pid(writer)
        if not hello or hello.get("type") != "hello" or not self._admit(hello["slot"], pid):
            log.warning("process %d connected but is not a worker of this instance; the connection is closed", pid)
            return
        await self._exchange_messages(hello["slot"], WorkerReport(pid), reader, writer)

    async def _exchange_messages(
        self, slot: int, report: WorkerReport, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        outbox = MessageQueue()
        for kind, announced in self._announced.items():
            outbox.put(kind, announced)
        if self._desired.revision:  # 0: nothing has been published yet
            _put_desired(outbox, self._desired)
        self.reports[slot], self._outboxes[slot] = report, outbox
        pump = asyncio.create_task(outbox.pump(writer))
        pump.add_done_callback(lambda _: writer.transport.abort())  # ends the reading too
        commands: set[asyncio.Task[None]] = set()
        try:
            while message := await receive(reader):
                self._take(report, message, outbox, commands)
        finally:
            pump.cancel()
            for command in commands:
                command.cancel()
            if self.reports.get(slot) is report:
                del self.reports[slot], self._outboxes[slot]
                self._listeners.parted(slot, report)
            self._listeners.changed()
            await asyncio.gather(pump, return_exceptions=True)

    def _take(
        self, report: WorkerReport, message: Message, outbox: MessageQueue, commands: set[asyncio.Task[None]]
    ) -> None:
        match message["type"]:
            case "report":
                self._take_report(report, message)
            case "signature":
                self.signatures[message["model"], message["version"]] = message["signature"]
            case "rows" | protocol.ATTRIBUTIONS:
                self._listeners.gathered(message)
            case "refused":
                self.on_refused(message["kinds"])
            case protocol.TRACES:
                self.on_traces(message)
            case "samples":
                self._samples[message["model"], message["version"], report.pid] = message["samples"]
            case "command":
                command = asyncio.create_task(self._carry_out(message, outbox, refused=len(commands) >= COMMANDS))
                commands.add(command)
                command.add_done_callback(commands.discard)

    def _take_report(self, report: WorkerReport, message: Message) -> None:
        versions = {(item.model, item.version): item for item in map(decode_status, message["versions"])}
        if message["counted"]:
            for key, status in versions.items():
                if status != report.versions.get(key) and status.state in {ReadyState.READY, ReadyState.UNAVAILABLE}:
                    self._listeners.loaded(key, status.state is ReadyState.READY and not status.reason)
        report.applied, report.versions = message["applied"], versions
        report.closing = frozenset(message.get("closing", ()))
        self._listeners.changed()

    async def _carry_out(self, message: Message, outbox: MessageQueue, refused: bool) -> None:
        fault: Fault | None = None
        matched = FeedbackResult()
        try:
            if refused:
                raise Overloaded(f"{COMMANDS} repository requests are waiting already; try again later")
            if message["verb"] == "feedback":
                matched = await self._feedback(message)
            elif message["verb"] == "load":
                await self._repository.load(message["model"], message["config"], _decode_author(message))
            else:
                await self._repository.unload(message["model"], _decode_author(message))
        except Fault as refusal:
            fault = refusal
        except Exception as error:
            fault = storage_fault(error) if isinstance(error, OSError) else None
            if fault is None:
                log.exception("a repository request failed")
                fault = Internal("the repository request failed")
        number = message["number"]
        reply = {"type": "reply", "number": number, **asdict(matched), **encode_fault(fault)}
        outbox.put(f"reply {number}", reply)

    async def _feedback(self, message: Message) -> FeedbackResult:
        if self._listeners.feedback is None:
            raise NotReady("labels are not accepted yet; try again later")
        return await self._listeners.feedback(message["model"], decode_feedback(message["feedback"]))


def _put_desired(outbox: MessageQueue, desired: Desired) -> None:
    outbox.put("desired", {"type": "desired", "desired": encode_desired(desired)})


def _peer_pid(writer: asyncio.StreamWriter) -> int:
    sock: socket.socket = writer.get_extra_info("socket")
    pid, _, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid)


def _decode_author(message: Message) -> Author:
    """Return who asks for a command, as the worker knows it."""
    stated = message.get("author") or {"actor": "anonymous"}
    return Author(**{name: str(value) for name, value in stated.items()})
