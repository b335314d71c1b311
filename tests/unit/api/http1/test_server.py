"""A listener on real sockets: crowds in their handshake, a system without descriptors, and drains."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic_ns
from typing import Any, Final

import pytest
import uvloop

from penstock.api.http1 import acceptor
from penstock.api.http1 import server as http_server
from penstock.api.http1.asgi import AsgiApplication
from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.server import Http1Server
from penstock.serving.memory_budget import MemoryBudget
from tests.certificates import Pair, make_certificate
from tests.harness import reached
from tests.unit.api.http1.support import Receive, Scope, Send, echo, get

Run = Callable[[Coroutine[Any, Any, None]], None]

TURNS: Final = 20


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on either loop."""

    def ran(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(test)

    return ran


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_certificate(tmp_path_factory.mktemp("tls"), kind=["-newkey", "rsa:2048", "-nodes"])


class Bound(socket.socket):
    """A bound socket; ``failures`` are what the next calls of ``accept`` end with."""

    failures: list[int]

    def __init__(self, *failures: int) -> None:
        super().__init__()
        self.failures = list(failures)
        self.bind(("127.0.0.1", 0))

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail, or accept."""
        if self.failures:
            raise OSError(self.failures.pop(0), "nothing is left")
        return super().accept()


@asynccontextmanager
async def listening(
    app: Any = echo, sock: Bound | None = None, certificate: Pair | None = None, **limits: Any
) -> AsyncIterator[tuple[Http1Server, tuple[str, int]]]:
    """A server and its address."""
    sock = sock or Bound()
    address = sock.getsockname()
    tls = None if certificate is None else certificate.contexts().http
    server = Http1Server(AsgiApplication(app, streams=True), HttpLimits(**limits), MemoryBudget(1 << 20), tls)
    await server.start(sock)
    try:
        yield server, address
    finally:
        await server.stop(1)


async def ask(address: tuple[str, int], data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        writer.write(data)
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def test_connections_are_checked_while_there_are_any(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CHECK_INTERVAL_S", 0)
    checks = 0

    def clock_ns() -> int:
        nonlocal checks
        checks += 1
        return monotonic_ns()

    async def turned() -> int:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return checks

    async def test() -> None:
        sock = Bound()
        address = sock.getsockname()
        server = Http1Server(AsgiApplication(echo, streams=True), HttpLimits(), MemoryBudget(1 << 20), None, clock_ns)
        await server.start(sock)
        assert await turned() == 0  # nobody is there
        for _ in range(2):
            _, writer = await asyncio.open_connection(*address)
            await reached(lambda: len(server.table) == 1)
            before = await turned()
            assert await turned() > before
            await closed(writer)
            await reached(lambda: not len(server.table))
            before = await turned()
            assert await turned() == before
        await server.stop(1)

    run(test())


def test_requests_are_answered(run: Run, certificate: Pair) -> None:
    async def test() -> None:
        async with listening() as (_, address):
            assert (await ask(address, get())).startswith(b"HTTP/1.1 200")
        async with listening(certificate=certificate) as (_, address):
            assert (await ask(address, get(), certificate.client())).startswith(b"HTTP/1.1 200")

    run(test())


async def emptied(server: Http1Server) -> None:
    """Returns when the server knows of no connection."""
    turn = asyncio.Event()
    loop = asyncio.get_running_loop()
    while len(server.table) or server._acceptor._pending:  # type: ignore[union-attr]
        turn.clear()
        loop.call_later(0.01, turn.set)
        await turn.wait()


def test_many_clients_that_come_and_go_leave_nothing(run: Run, certificate: Pair) -> None:
    async def test() -> None:
        for files in (None, certificate):
            async with listening(certificate=files, max_connections=50) as (server, address):
                for said in (b"", get()[:20], get()):
                    clients = []
                    for _ in range(120):
                        client = socket.create_connection(address)
                        client.sendall(said)
                        clients.append(client)
                    await asyncio.sleep(0)
                    for client in clients:
                        client.close()
                    await emptied(server)
                context = None if files is None else files.client()
                assert (await ask(address, get(), context)).startswith(b"HTTP/1.1 200")

    run(test())


@pytest.mark.parametrize("is_tls", [False, True])
def test_everybody_of_many_clients_at_once_is_answered(
    run: Run, certificate: Pair, monkeypatch: pytest.MonkeyPatch, is_tls: bool
) -> None:
    monkeypatch.setattr(acceptor, "MAX_PENDING", 16)
    monkeypatch.setattr(acceptor, "SLOW_HANDSHAKE_S", 60.0)

    async def test() -> None:
        async with listening(certificate=certificate if is_tls else None) as (_, address):
            context = certificate.client() if is_tls else None
            answers = await asyncio.gather(*[ask(address, get(), context) for _ in range(80)])
            assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)

    run(test())


def test_a_connection_from_before_a_drain_is_still_answered(run: Run) -> None:
    async def test() -> None:
        async with listening() as (server, address):
            clients = [socket.create_connection(address) for _ in range(100)]
            for client in clients:
                client.sendall(get())
            server.drain()
            for client in clients:
                reader, writer = await asyncio.open_connection(sock=client)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                await closed(writer)

    run(test())


def test_an_unfinished_handshake_blocks_no_other_connection(
    run: Run, certificate: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MAX_PENDING", 4)
    monkeypatch.setattr(acceptor, "SLOW_HANDSHAKE_S", 0.01)

    async def test() -> None:
        async with listening(certificate=certificate) as (server, address):
            silent = [await asyncio.open_connection(*address) for _ in range(20)]
            assert (await ask(address, get(), certificate.client())).startswith(b"HTTP/1.1 200")
            assert server._acceptor is not None
            assert len(server._acceptor._pending) <= 5
            for _, writer in silent:
                await closed(writer)

    run(test())


def test_a_system_without_descriptors_is_logged_once_and_retried(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        sock = Bound(errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        async with listening(sock=sock) as (_, address):
            assert (await ask(address, get())).startswith(b"HTTP/1.1 200")
            assert not sock.failures
            idle = await asyncio.open_connection(*address)
            idle[1].write(get())
            await idle[0].readuntil(b"\r\n\r\n")
            sock.failures = [errno.EMFILE]
            assert (await ask(address, get())).startswith(b"HTTP/1.1 200")
            assert await idle[0].read() in (b"", b"GET /a ")  # the idle connection was evicted
            await closed(idle[1])

    with caplog.at_level(logging.WARNING, "penstock.http"):
        run(test())
    assert len(caplog.records) == 1


def test_a_client_that_is_gone_before_it_is_accepted_harms_nobody(run: Run) -> None:
    async def test() -> None:
        sock = Bound(errno.ECONNABORTED)
        async with listening(sock=sock) as (_, address):
            assert (await ask(address, get())).startswith(b"HTTP/1.1 200")

    run(test())


def test_a_drain_waits_for_what_is_under_way(run: Run) -> None:
    async def test() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await go_on.wait()
            await echo(scope, receive, send)

        async with listening(slow) as (server, address):
            asked = asyncio.ensure_future(ask(address, get()))
            await begun.wait()
            idle, writer = await asyncio.open_connection(*address)
            stopped = asyncio.ensure_future(server.stop(30))
            go_on.set()
            answer = await asked
            assert b"connection: close" in answer
            await stopped
            assert await idle.read() == b""
            await closed(writer)
            assert not len(server.table)
            with pytest.raises(OSError):
                await asyncio.open_connection(*address)

    run(test())


def test_a_drain_ends_what_takes_too_long(run: Run) -> None:
    async def test() -> None:
        begun = asyncio.Event()

        async def endless(_: Scope, __: Receive, ___: Send) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with listening(endless) as (server, address):
            asked = asyncio.ensure_future(ask(address, get()))
            await begun.wait()
            await server.stop(0)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await asked

    run(test())
