"""A worker's connection to the control process; it outlives control processes and reconnects to the next one."""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np

from penstock.control.workers.protocol import (
    ACCESS,
    ATTRIBUTIONS,
    DELEGATION,
    LINE_BYTES,
    SHARES,
    TLS,
    TRACES,
    ChannelBroken,
    Message,
    MessageQueue,
    decode_access,
    decode_delegation,
    decode_desired,
    decode_fault,
    decode_shares,
    decode_tls,
    encode_rows,
    encode_status,
    feedback_pieces,
    receive,
    send,
)
from penstock.core.access.quota_shares import QuotaShare
from penstock.core.access.table import AccessTable
from penstock.core.certificates import TlsMaterial
from penstock.core.desired import Desired, VersionStatus
from penstock.core.errors import DeadlineExceeded, NotReady, TooLarge
from penstock.monitor.columns import RowValues
from penstock.monitor.confidence import ConfidenceHistogram
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.monitor.row_attributions import RowAttributions

RETRY_S = 0.1
FEEDBACK_S = 20.0
"""Time limit for the control process to join feedback."""

CONFIG_CHARACTERS = 1 << 20
"""The most characters of a configuration in a load request."""

_GONE = "the control process is away for a moment; try again later"


class Link:
    """Sends reports of a worker and receives desired states. Also the data plane's ``Repository``.

    ``desired`` is called with every desired state that arrives, ``access`` with every access table, ``tls`` with the
    material of the ports and ``delegation`` with the key of delegated credentials, all before the first desired state
    and when they change; ``shares`` is called with the gateway's shares of quotas. ``command_s`` bounds the wait for a
    repository request. Belongs to the event loop.
    """

    def __init__(
        self,
        path: Path,
        slot: int,
        desired: Callable[[Desired], None],
        command_s: float,
        access: Callable[[AccessTable], None] = lambda _: None,
        tls: Callable[[TlsMaterial], None] = lambda _: None,
        delegation: Callable[[bytes], None] = lambda _: None,
        shares: Callable[[Mapping[str, QuotaShare]], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._slot = slot
        self._desired = desired
        self._access = access
        self._command_s = command_s
        self._tls = tls
        self._delegation = delegation
        self._shares = shares
        self._report: Message = {"type": "report", "applied": 0, "versions": [], "counted": True}
        self._signatures: dict[str, Message] = {}
        self._outbox: MessageQueue | None = None
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._numbers = count(1)

    async def run(self, grace_s: float) -> None:
        """Stay connected; returns once no control process has answered for ``grace_s`` seconds."""
        clock = asyncio.get_running_loop().time
        answered_at = clock()
        while clock() - answered_at < grace_s:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES)
            except OSError:
                await asyncio.sleep(RETRY_S)
                continue
            if await self._exchange_messages(reader, writer):
                answered_at = clock()
            else:
                await asyncio.sleep(RETRY_S)

    def report(self, versions: Iterable[VersionStatus]) -> None:
        """Report the status of every version."""
        self._report = {**self._report, "versions": [encode_status(status) for status in versions]}
        self._put("report", self._report)

    def closing(self, models: Iterable[str]) -> None:
        """Report the models of which unloaded versions are still in memory."""
        self._report = {**self._report, "closing": sorted(set(models))}
        self._put("report", self._report)

    def applied(self, revision: int) -> None:
        """Report that a desired state has been applied."""
        self._report = {**self._report, "applied": revision}
        self._put("report", self._report)

    def describe(self, model: str, version: str, signature: Message) -> None:
        """Report the inputs and outputs of a version."""
        key = f"signature {model} {version}"
        self._signatures[key] = {"type": "signature", "model": model, "version": version, "signature": signature}
        self._put(key, self._signatures[key])

    def samples(self, model: str, version: str, samples: list[Message]) -> None:
        """Report the requests on which a shadow disagreed most."""
        message = {"type": "samples", "model": model, "version": version, "samples": samples}
        self._put(f"samples {model} {version}", message)

    def refused(self, kinds: list[Message]) -> None:
        """Report requests that access control refused, each kind with its count."""
        self._put(f"refused {next(self._numbers)}", {"type": "refused", "kinds": kinds})

    def takes_traces(self) -> bool:
        """Whether records of requests can be sent: a control process is there, and has those sent before."""
        return self._outbox is not None and not self._outbox.holds(TRACES)

    def traces(self, records: bytes, texts: list[str], dropped: Mapping[str, int], count: int) -> None:
        """Send records of requests, with the texts they refer to, their number, and what was dropped before."""
        stated = {"records": b64encode(records).decode(), "texts": texts, "dropped": dict(dropped), "count": count}
        self._put(TRACES, {"type": TRACES, **stated})

    def rows(
        self,
        model: str,
        version: str,
        names: list[list[str]],
        inputs: list[RowValues],
        outputs: list[RowValues],
        confidence: ConfidenceHistogram | None = None,
        seen: int = 0,
    ) -> None:
        """Send rows gathered to learn a reference from; ``seen`` counts the requests they were sampled from."""
        histogram = None if confidence is None else asdict(confidence)
        key = {
            "type": "rows",
            "model": model,
            "version": version,
            "names": names,
            "confidence": histogram,
            "seen": seen,
        }
        self._put(f"rows {model} {version}", {**key, "inputs": encode_rows(inputs), "outputs": encode_rows(outputs)})

    def attributions(self, model: str, version: str, digest: str, found: RowAttributions) -> None:
        """Send the sizes of the attributions of some live rows, against a background of the reference with this
        digest."""
        sizes = np.zeros((0, len(found.features))) if found.sizes is None else found.sizes
        message = {
            "type": ATTRIBUTIONS,
            "model": model,
            "version": version,
            "digest": digest,
            "features": list(found.features),
            "output": found.output,
            "method": found.method,
            "scale": found.scale,
            "problem": found.problem,
            "sizes": encode_rows([RowValues(sizes, ())]),
        }
        self._put(f"{ATTRIBUTIONS} {model} {version}", message)

    async def load(self, model: str, config: str | None, author: Mapping[str, object] | None = None) -> None:
        """Have every worker load a model; raises the fault that the control process answers, and ``TooLarge``."""
        if config is not None and len(config) > CONFIG_CHARACTERS:
            raise TooLarge(f"the configuration is over the limit of {CONFIG_CHARACTERS} characters")
        await self._command({"verb": "load", "model": model, "config": config, **_author_field(author)})

    async def unload(self, model: str, author: Mapping[str, object] | None = None) -> None:
        """Have every worker unload a model; raises the fault that the control process answers."""
        await self._command({"verb": "unload", "model": model, **_author_field(author)})

    async def feedback(self, model: str, feedback: Sequence[Feedback]) -> FeedbackResult:
        """Have feedback joined; return how much of it was not. Raises the fault that the control process answers."""
        unmatched = pending = 0
        for piece in feedback_pieces(feedback):
            reply = await self._request({"verb": "feedback", "model": model, "feedback": piece}, FEEDBACK_S)
            fault = decode_fault(reply)
            if fault is not None:
                raise fault
            unmatched += int(reply["unmatched"])
            pending += int(reply["pending"])
        return FeedbackResult(unmatched, pending)

    async def flush(self) -> None:
        """Wait until every queued message is sent to the control process, if one is connected."""
        if self._outbox is not None:
            await self._outbox.flush()

    def _put(self, key: str, message: Message) -> None:
        if self._outbox is not None:
            self._outbox.put(key, message)

    async def _exchange_messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Exchange messages until the connection ends; return whether the control process ever answered."""
        answered = False
        pump: asyncio.Task[None] | None = None
        try:
            await send(writer, {"type": "hello", "slot": self._slot})
            while message := await receive(reader):
                if pump is None:
                    pump = self._open(writer)
                answered = True
                self._take(message)
        except ChannelBroken:
            pass  # handled like a closed connection: ``run`` tries again
        finally:
            await self._close_writer(writer, pump)
        return answered

    def _open(self, writer: asyncio.StreamWriter) -> asyncio.Task[None]:
        self._outbox = MessageQueue()
        first = {
            **self._report,
            "counted": self._report["applied"] == 0,
        }  # a new control process has counted none of these loads
        self._outbox.put("first report", first)
        for key, message in self._signatures.items():
            self._outbox.put(key, message)
        pump = asyncio.create_task(self._outbox.pump(writer))
        pump.add_done_callback(lambda _: writer.transport.abort())
        return pump

    async def _close_writer(self, writer: asyncio.StreamWriter, pump: "asyncio.Task[None] | None") -> None:
        self._outbox = None
        writer.close()
        for future in self._replies.values():
            if not future.done():
                future.set_exception(NotReady(_GONE))
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    def _take(self, message: Message) -> None:
        if message["type"] == "desired":
            self._desired(decode_desired(message["desired"]))
        elif message["type"] == ACCESS:
            self._access(decode_access(message))
        elif message["type"] == TLS:
            self._tls(decode_tls(message))
        elif message["type"] == DELEGATION:
            self._delegation(decode_delegation(message))
        elif message["type"] == SHARES:
            self._shares(decode_shares(message))
        elif message["type"] == "reply":
            waiting = self._replies.get(message["number"])
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    async def _command(self, command: Message) -> None:
        fault = decode_fault(await self._request(command, self._command_s))
        if fault is not None:
            raise fault

    async def _request(self, command: Message, seconds: float) -> Message:
        if self._outbox is None:
            raise NotReady(_GONE)
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._outbox.put(f"command {number}", {"type": "command", "number": number, **command})
        try:
            async with asyncio.timeout(seconds):
                answer: Message = await reply
        except TimeoutError:
            raise DeadlineExceeded("the control process did not answer in time") from None
        finally:
            del self._replies[number]
        return answer


def _author_field(author: Mapping[str, object] | None) -> Message:
    """Return the field of a command that says who asked for it."""
    return {} if author is None else {"author": dict(author)}
