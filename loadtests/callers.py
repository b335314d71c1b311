"""Clients that call one after the other and remember how each call ended, over their own sockets and over grpcio."""

import asyncio
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from loadtests.codecs import CHECKED, GRPC, GRPC_METHOD, Call, Codec, ReferenceCalls, WrongAnswer

HANG_S = 5.0
"""A call without an answer after that long counts as hanging."""

_PAUSE_S = 0.002
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RECONNECT = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]


class ConnectionLost(Exception):
    """The connection went away before the answer was complete."""


class NoAnswer(Exception):
    """No answer in time."""


@dataclass(frozen=True, slots=True)
class EndedCall:
    """One call: its protocol, when it began and ended (monotonic seconds), and what went wrong, if anything.

    ``port`` is this side's port of the connection, 0 where it cannot be known or the call had to open a new one.
    """

    protocol: str
    began: float
    ended: float
    failure: Exception | None
    port: int


class Caller(ABC):
    """One client; its calls are recorded in ``ended``."""

    def __init__(
        self, protocol: str, codec: Codec, address: str, reference: ReferenceCalls, ended: list[EndedCall]
    ) -> None:
        self._protocol, self._codec, self._reference, self._ended = protocol, codec, reference, ended
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    async def run(self, stop: asyncio.Event) -> None:
        """Call until ``stop`` is set, then finish the last call and close."""
        while not stop.is_set():
            await self.call()
            await asyncio.sleep(_PAUSE_S)
        await self.close()

    async def call(self) -> None:
        """Ask one random row and record how it went."""
        index = random.randrange(CHECKED)
        began, port, failure = time.monotonic(), self.local_port(), None
        try:
            await self._ask(index)
        except (ConnectionLost, NoAnswer, WrongAnswer) as problem:
            failure = problem
        self._ended.append(EndedCall(self._protocol, began, time.monotonic(), failure, port))

    async def _ask(self, index: int) -> None:
        headers, body = await self._send(self._reference.calls(self._codec)[index])
        self._reference.verify(self._codec, index, headers, body)

    def local_port(self) -> int:
        """This side's port of the open connection, or 0."""
        return 0

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    async def _send(self, call: Call) -> tuple[dict[str, str], bytes]:
        """Send and receive; raises ConnectionLost, NoAnswer or WrongAnswer."""


class RestCaller(Caller):
    """One HTTP/1.1 connection, opened anew after it was lost."""

    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def local_port(self) -> int:
        """This side's port of the open connection, or 0."""
        if self._streams is None or self._streams[0].at_eof() or self._streams[0].exception():
            return 0
        port: int = self._streams[1].get_extra_info("sockname")[1]
        return port

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _send(self, call: Call) -> tuple[dict[str, str], bytes]:
        try:
            async with asyncio.timeout(HANG_S):
                return await self._exchange(call)
        except TimeoutError as timeout:
            await self.close()
            raise NoAnswer(f"no answer within {HANG_S:g} s") from timeout
        except (OSError, EOFError) as lost:
            await self.close()
            raise ConnectionLost(str(lost)) from lost

    async def _exchange(self, call: Call) -> tuple[dict[str, str], bytes]:
        if not self.local_port():
            await self.close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        assert self._streams is not None
        reader, writer = self._streams
        lines = "".join(f"{name}: {value}\r\n" for name, value in call.headers.items())
        head = f"POST {call.path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(call.body)}\r\n{lines}\r\n"
        writer.write(head.encode() + call.body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        body = await reader.readexactly(int(length[1]) if length else 0)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise WrongAnswer(f"{answer.splitlines()[0]!r} {body[:200]!r}")
        pairs = (line.partition(":") for line in answer.decode("latin-1").splitlines()[1:])
        return {name.lower(): value.strip() for name, _, value in pairs}, body


class GrpcCaller(Caller):
    """One channel with a connection of its own; calls wait for it to be ready again after it was lost."""

    def __init__(self, address: str, reference: ReferenceCalls, ended: list[EndedCall]) -> None:
        super().__init__("grpc", GRPC, address, reference, ended)
        self._channel = grpc.aio.insecure_channel(address, options=_RECONNECT)
        self._infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(GRPC_METHOD)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _send(self, call: Call) -> tuple[dict[str, str], bytes]:
        try:
            return {}, await self._infer(call.body, timeout=HANG_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise NoAnswer(failure.details() or "") from failure
            if failure.code() is grpc.StatusCode.UNAVAILABLE:
                raise ConnectionLost(failure.details() or "") from failure
            raise WrongAnswer(f"{failure.code().name}: {failure.details()}") from failure


def find_failed(ended: Sequence[EndedCall]) -> list[EndedCall]:
    """The calls that did not end well."""
    return [call for call in ended if call.failure is not None]
