"""Certificates of clients on a listener, on both event loops: whose names are read, who is refused."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from penstock.api.http1.asgi import AsgiApplication
from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.server import Http1Server
from penstock.api.tls import TlsContexts
from penstock.serving.memory_budget import MemoryBudget
from tests.certificates import Pair, issue, make_authority, make_certificate
from tests.unit.api.http1.support import Receive, Scope, Send, get

Run = Callable[[Coroutine[Any, Any, None]], None]
NAMES = ("spiffe://x/bot", "bot.example", "bot@example.org")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on either loop."""

    def ran(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(test)

    return ran


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def bot(folder: Path, authority: Pair) -> Pair:
    return issue(authority, folder, "bot", ["URI:spiffe://x/bot", "DNS:bot.example", "email:bot@example.org"])


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Pair:
    return issue(make_authority(folder, "other"), folder, "stranger", ["URI:spiffe://x/bot"])


async def names(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the names in the client's certificate, and the scheme."""
    body = json.dumps([scope["state"]["certificate_names"], scope["scheme"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def listening(contexts: TlsContexts) -> AsyncIterator[tuple[Http1Server, tuple[str, int]]]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    server = Http1Server(AsgiApplication(names, streams=True), HttpLimits(), MemoryBudget(1 << 20), contexts.http)
    await server.start(sock)
    try:
        yield server, address
    finally:
        await server.stop(1)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self) -> tuple[str, Any]:
        """The head of an answer, and its document."""
        self.writer.write(get())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.partition("content-length: ")[2].partition("\r")[0])
        return head, json.loads(await self.reader.readexactly(length))


@asynccontextmanager
async def connected(address: tuple[str, int], context: ssl.SSLContext) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def asked(address: tuple[str, int], context: ssl.SSLContext) -> Any:
    async with connected(address, context) as client:
        return (await client.ask())[1]


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_names_of_a_verified_certificate(
    run: Run, pair: Pair, authority: Pair, bot: Pair, version: ssl.TLSVersion
) -> None:
    async def test() -> None:
        for required in (False, True):
            async with listening(pair.contexts(authority, required=required)) as (_, address):
                context = pair.client(bot)
                context.minimum_version = context.maximum_version = version
                for _ in range(2):  # also where a session is resumed
                    assert await asked(address, context) == [list(NAMES), "https"]

    run(test())


def test_no_certificate_has_no_names(run: Run, pair: Pair, authority: Pair, bot: Pair) -> None:
    async def test() -> None:
        async with listening(pair.contexts(authority)) as (_, address):
            assert await asked(address, pair.client()) == [[], "https"]
        async with listening(pair.contexts()) as (_, address):  # nobody is asked for one
            assert await asked(address, pair.client(bot)) == [[], "https"]

    run(test())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_a_verified_certificate_gets_no_answer(
    run: Run, pair: Pair, authority: Pair, stranger: Pair, folder: Path, version: ssl.TLSVersion
) -> None:
    expired = issue(authority, folder, "expired", ["URI:spiffe://x/bot"], days=-1)

    async def refused(address: tuple[str, int], presented: Pair | None) -> None:
        context = pair.client(presented)
        context.minimum_version = context.maximum_version = version
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await asked(address, context)

    async def test() -> None:
        for required in (False, True):
            async with listening(pair.contexts(authority, required=required)) as (_, address):
                await refused(address, stranger)
                await refused(address, expired)
                if required:
                    await refused(address, None)

    run(test())


def test_another_authority_holds_for_new_connections_and_ends_earlier_ones(
    run: Run, pair: Pair, authority: Pair, bot: Pair, folder: Path
) -> None:
    successor = make_authority(folder, "successor")
    later = issue(successor, folder, "later", ["URI:spiffe://x/later"])

    async def test() -> None:
        contexts = pair.contexts(authority)
        async with listening(contexts) as (running, address):
            async with connected(address, pair.client(bot)) as earlier, connected(address, pair.client()) as plain:
                assert "connection: close" not in (await earlier.ask())[0]
                await plain.ask()
                contexts.use(pair.material(successor))
                running.table.retire_certified()
                for connection in list(running.table._connections):
                    connection.sweep(running.table.clock_ns())
                assert "connection: close" in (await earlier.ask())[0]
                assert "connection: close" not in (await plain.ask())[0]
            assert await asked(address, pair.client(later)) == [["spiffe://x/later"], "https"]
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await asked(address, pair.client(bot))

    run(test())


def test_another_certificate_holds_for_new_connections(run: Run, pair: Pair, folder: Path) -> None:
    renewed = make_certificate(folder, "renewed")

    async def test() -> None:
        contexts = pair.contexts()
        async with listening(contexts) as (_, address), connected(address, pair.client()) as earlier:
            await earlier.ask()
            contexts.use(renewed.material())
            assert (await earlier.ask())[1] == [[], "https"]
            assert await asked(address, renewed.client()) == [[], "https"]
            with pytest.raises(ssl.SSLCertVerificationError):
                await asked(address, pair.client())

    run(test())


def test_a_client_without_tls_gets_no_answer(run: Run, pair: Pair) -> None:
    async def test() -> None:
        async with listening(pair.contexts()) as (_, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(get())
            answer = b""
            with suppress(OSError):
                answer = await reader.read()
            assert b"HTTP/" not in answer
            writer.close()

    run(test())
