"""Time: requests that trickle in, connections that nobody uses, and answers that nobody takes."""

import pytest

from penstock.api.http1.limits import HttpLimits
from tests.unit.api.http1.support import HIGH_WATER, Client, Receive, Scope, Send, Server, chunked, get, post, serving

LIMITS = HttpLimits(head_s=10, request_s=30, stalled_s=20, keep_alive_s=100, connection_s=10**6)
BODIES = {"a body": post(bytes(1000)), "chunks": chunked(bytes(500), bytes(500))}


def drip(server: Server, client: Client, data: bytes, gap_s: float, until_s: float) -> float:
    """Say one byte after the other; after how many seconds that was ended."""
    passed = 0.0
    for at in range(len(data)):
        client.connection.data_received(data[at : at + 1])
        server.pass_time(gap_s)
        passed += gap_s
        if client.is_over or passed >= until_s:
            break
    return passed


def test_a_head_that_trickles_in_is_ended() -> None:
    with serving(limits=LIMITS) as server:
        for data in (get("/a", "x: " + "y" * 100), get("/" + "a" * 100)):
            client = server.connect()
            assert 10 < drip(server, client, data, 0.5, 60) <= 11
            [answer] = client.replies_read()
            assert (answer.status, answer.fields["connection"]) == (408, "close")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("data", BODIES.values(), ids=BODIES)
def test_a_body_that_trickles_in_is_ended(data: bytes, streams: bool) -> None:
    with serving(limits=LIMITS, streams=streams) as server:
        client = server.connect()
        start = data.index(b"\r\n\r\n") + 4
        client.say(data[:start])
        assert 30 < drip(server, client, data[start:], 0.5, 90) <= 31
        [answer] = client.replies_read()
        assert (answer.status, answer.fields["connection"]) == (504, "close")
        client.hang_up()
        assert server.memory.used == 0


def test_every_request_of_a_connection_has_a_time_of_its_own() -> None:
    with serving(limits=LIMITS) as server:
        client = server.connect()
        for _ in range(5):
            server.pass_time(25)
            assert client.say(post(b"hello")[:-1]) == []
            server.pass_time(25)
            assert [reply.status for reply in client.say(b"o")] == [200]


def test_a_body_earns_time_by_coming() -> None:
    limits = HttpLimits(request_s=30, body_bytes_per_s=100, connection_s=10**6)
    with serving(limits=limits, streams=True) as server:
        client, slow = server.connect(), server.connect()
        for item in (client, slow):
            item.say(post(bytes(20_000))[:-20_000])
        for _ in range(99):
            client.say(bytes(200))
            slow.say(bytes(10))
            server.pass_time(1)
        assert not client.is_over
        assert [reply.status for reply in client.say(bytes(200))] == [200]
        assert slow.is_over


def test_a_request_that_waits_for_us_is_not_ended() -> None:
    async def takes_nothing(_: Scope, receive: Receive, __: Send) -> None:
        import asyncio

        await asyncio.Event().wait()

    with serving(takes_nothing, limits=LIMITS, streams=True) as server:
        client = server.connect()
        client.say(post(bytes(1 << 20))[: 200 << 10])
        assert not client.wire.reads
        server.pass_time(1000)
        assert not client.is_over


def test_a_connection_that_nobody_uses_is_closed() -> None:
    with serving(limits=LIMITS) as server:
        silent, quiet, blank = server.connect(), server.connect(), server.connect()
        quiet.say(get())
        for _ in range(9):
            server.pass_time(10)
            blank.say(b"\r\n")  # no request
        assert not (silent.is_over or quiet.is_over)
        quiet.say(get())
        server.pass_time(11)
        assert (silent.is_over, quiet.is_over, blank.is_over) == (True, False, True)
        server.pass_time(101)
        assert quiet.is_over


LARGE = bytes(10 * HIGH_WATER)


async def large(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(LARGE))]})
    await send({"type": "http.response.body", "body": LARGE})


def test_a_reader_that_makes_progress_is_never_cut() -> None:
    with serving(large, limits=LIMITS) as server:
        client = server.connect()
        client.wire.is_stalled = True
        client.say(get())
        for _ in range(100):
            server.pass_time(19)
            assert not client.is_over
            client.wire.take(1)
        client.wire.take(len(LARGE) * 2)
        assert len(client.replies_read()[0].body) == len(LARGE)
        server.pass_time(99)
        assert not client.is_over


@pytest.mark.parametrize("closes", [False, True])
def test_a_reader_that_makes_none_is_cut(closes: bool) -> None:
    with serving(large, limits=LIMITS) as server:
        client = server.connect()
        client.wire.is_stalled = True
        client.say(get("/a", *(["connection: close"] if closes else [])))
        client.wire.take(1000)
        server.pass_time(1)
        server.pass_time(18)
        assert not client.wire.aborted
        server.pass_time(3)
        assert client.wire.aborted


def test_small_answers_that_nobody_reads_end_the_connection_too() -> None:
    with serving(limits=LIMITS) as server:
        client = server.connect()
        client.wire.is_stalled = True
        client.say(get())
        server.pass_time(1)
        server.pass_time(21)
        assert client.wire.aborted


def test_a_client_that_sends_without_reading_is_disconnected() -> None:
    with serving(limits=LIMITS) as server:
        client = server.connect()
        client.wire.is_stalled = True
        for _ in range(25):
            client.say(get())
            server.pass_time(1)
        assert client.wire.aborted
