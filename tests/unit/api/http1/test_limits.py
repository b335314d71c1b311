"""Bounds on memory and connections: what is kept is counted, given back, and refused beyond the budget."""

import tracemalloc

import pytest

from penstock.api.http1.limits import HttpLimits
from tests.unit.api.http1.support import HIGH_WATER, Receive, Scope, Send, chunked, get, post, serving
from tests.unit.api.http1.test_connection import Gate
from tests.unit.api.http1.test_deadlines import LARGE, large

KIB = 1 << 10


def test_an_unfinished_body_is_counted_and_given_back() -> None:
    for data in (post(bytes(100 * KIB)), chunked(*[bytes(KIB)] * 100)):
        with serving() as server:
            client = server.connect()
            client.say(data[: 50 * KIB])
            assert 45 * KIB < server.memory.used <= 51 * KIB
            other = server.connect()
            other.say(data[: 50 * KIB])
            assert 90 * KIB < server.memory.used <= 102 * KIB
            assert client.say(data[50 * KIB :])[0].status == 200
            other.hang_up()
            assert server.memory.used == 0


def test_beyond_the_budget_the_new_request_is_refused() -> None:
    data = post(bytes(60 * KIB))
    with serving(memory_bytes=100 * KIB) as server:
        first, second, third = server.connect(), server.connect(), server.connect()
        assert first.say(data[: 50 * KIB]) == second.say(data[: 40 * KIB]) == []
        [answer] = third.say(data[: 20 * KIB])
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        assert int(answer.fields["retry-after"]) >= 1
        assert third.is_over
        assert [reply.status for reply in server.connect().say(get())] == [200]  # it needs nothing
        third.hang_up()
        second.hang_up()
        assert [reply.status for reply in first.say(data[50 * KIB :])] == [200]
        assert server.memory.used == 0


def test_a_body_that_comes_at_once_counts_while_it_is_worked_on() -> None:
    gate = Gate()
    with serving(gate, memory_bytes=100 * KIB) as server:
        clients = [server.connect() for _ in range(3)]
        data = post(bytes(40 * KIB), path="/slow")
        assert [client.say(data) for client in clients[:2]] == [[], []]
        assert server.memory.used == 80 * KIB
        assert [reply.status for reply in clients[2].say(data)] == [503]
        server.turn(gate.open)
        assert [[reply.status for reply in client.replies_read()] for client in clients[:2]] == [[200], [200]]
        assert server.memory.used == 0


def test_an_answer_that_waits_for_its_reader_is_counted() -> None:
    with serving(large) as server:
        client = server.connect()
        client.wire.is_stalled = True
        client.say(get())
        assert server.memory.used >= len(LARGE)
        client.wire.take(len(LARGE) // 2)
        server.pass_time(1)
        assert len(LARGE) // 2 <= server.memory.used < len(LARGE)
        client.wire.take(len(LARGE))
        assert server.memory.used == 0


def test_small_chunks_cost_no_more_than_their_payload() -> None:
    pieces, each = 20, 2000
    with serving() as server:
        client = server.connect()
        client.say(chunked()[:-5])
        piece = b"2\r\nab\r\n" * each
        tracemalloc.start()
        for _ in range(pieces):
            server.turn(lambda: client.connection.data_received(piece))
            while not client.wire.reads:
                server.turn()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        size = 2 * pieces * each
        assert held < 1.5 * size + 64 * KIB
        assert server.memory.used == size
        [answer] = client.say(b"0\r\n\r\n")
        assert answer.body == b"POST /a " + b"ab" * (pieces * each)


def test_trailer_fields_leave_nothing_behind() -> None:
    with serving() as server:
        client = server.connect()
        client.say(chunked(b"hello", end=b"0\r\n"))
        sent = 0
        while not client.is_over:
            client.say(b"a:b\r\n" * 1000)
            sent += 5000
        assert sent <= 70_000
        assert [reply.status for reply in client.replies_read()] == []
        client.hang_up()
        assert server.memory.used == 0


# Connections.

FEW = HttpLimits(max_connections=4, reserved_connections=2, head_s=10, keep_alive_s=1000)


def test_a_connection_without_a_head_is_evicted_for_a_new_one() -> None:
    with serving(limits=FEW) as server:
        busy = server.connect()
        busy.say(post(bytes(1000))[:-1])
        half = [server.connect() for _ in range(3)]
        for client in half:
            client.say(get()[:-2])
        for evicted in half:
            newcomer = server.connect()
            assert [reply.status for reply in newcomer.say(get())] == [200]
            assert evicted.wire.aborted
            evicted.hang_up()
        assert [reply.status for reply in busy.say(b"\0")] == [200]


def test_an_idle_connection_is_evicted_for_a_new_one() -> None:
    with serving(limits=FEW) as server:
        idle = [server.connect() for _ in range(4)]
        for client in idle:
            client.say(get())
        newcomer = server.connect()
        assert [reply.status for reply in newcomer.say(get())] == [200]
        assert [client.wire.aborted for client in idle] == [True, False, False, False]


def test_a_full_server_answers_what_is_essential() -> None:
    gate = Gate()
    with serving(gate, limits=FEW, essential=frozenset({b"/livez"})) as server:
        busy = [server.connect() for _ in range(4)]
        for client in busy:
            client.say(get("/slow"))
        for data, status in ((get("/a"), 503), (get("/livez"), 200), (post(b"", path="/livez")[:-4], None)):
            newcomer = server.connect()
            answers = newcomer.say(data)
            assert [answer.status for answer in answers] == ([] if status is None else [status])
            newcomer.hang_up()
        held = [server.connect() for _ in range(2)]
        beyond = server.connect()  # in the place of those that say nothing
        assert [reply.status for reply in beyond.say(get("/livez"), get("/a"))] == [200, 503]
        assert [item.wire.aborted for item in held] == [True, True]
        server.turn(gate.open)
        assert [[reply.status for reply in client.replies_read()] for client in busy] == [[200]] * 4
        assert not any(client.wire.aborted for client in busy)


def test_beyond_the_reserve_new_connections_are_refused() -> None:
    gate = Gate()
    with serving(gate, limits=FEW, essential=frozenset({b"/slow"})) as server:
        for _ in range(6):
            server.connect().say(get("/slow"))
        newcomer = server.connect()
        assert [reply.status for reply in newcomer.replies_read()] == [503]
        assert newcomer.is_over
        assert len(server.table) == 6


@pytest.mark.parametrize("streams", [False, True])
def test_nothing_is_left_of_clients_that_are_gone(streams: bool) -> None:
    async def slow_reader(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2 * HIGH_WATER), "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    with serving(slow_reader, streams=streams) as server:
        for data in (get(), post(bytes(100 * KIB)), post(bytes(100 * KIB))[:-1], get()[:-1], chunked(b"a")[:-1]):
            client = server.connect()
            client.wire.is_stalled = True
            client.say(data, get())
            client.hang_up()
        assert (server.memory.used, len(server.table)) == (0, 0)
        assert not server.table._unfinished
        assert not server.table._headless
