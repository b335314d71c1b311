"""A connection: order, framing and ends of requests and answers, read in one piece or in drops."""

import asyncio

import pytest

from penstock.api.http1.limits import MAX_PIPELINED, HttpLimits
from tests.unit.api.http1.support import Client, Receive, Scope, Send, chunked, echo, get, post, serving

CONTINUE = 100
SMALL = HttpLimits(max_body_bytes=1000, max_head_bytes=500)


def drops(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


REQUESTS = {
    "no body": (get("/a"), b"GET /a "),
    "a body": (post(b"hello"), b"POST /a hello"),
    "an empty body": (post(b""), b"POST /a "),
    "chunks": (chunked(b"hel", b"lo"), b"POST /a hello"),
    "trailer fields": (chunked(b"hello", end=b"0\r\ncontent-length: 3\r\nhost: b\r\n\r\n"), b"POST /a hello"),
    "empty lines before": (b"\r\n\r\n" + get("/a"), b"GET /a "),
    "an escaped path": (get("/a%20b%2Fc%C3%A4"), "GET /a b/cä ".encode()),
    "a whole URL": (get("http://b.example:80/a/b?c=d"), b"GET /a/b "),
    "a body of GET": (get("/a", "content-length: 3") + b"abc", b"GET /a abc"),
    "an offer of HTTP/2": (post(b"hi", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c"), b"POST /a hi"),
    "an offer of WebSocket": (get("/a", "connection: upgrade", "upgrade: websocket"), b"GET /a "),
}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("data", "answer"), REQUESTS.values(), ids=REQUESTS)
def test_requests_are_answered_however_they_come(data: bytes, answer: bytes, streams: bool) -> None:
    with serving(streams=streams) as server:
        client = server.connect()
        for pieces in ([data], drops(data), [data + data], [data, data], [data[:20], data[20:] + data]):
            found = client.say(*pieces)
            assert [(item.status, item.body) for item in found] == [(200, answer)] * (b"".join(pieces).count(data))
        assert not client.is_over
        assert server.memory.used == 0


def test_answers_come_in_the_order_of_their_requests() -> None:
    with serving() as server:
        mixed = get("/1") + post(b"2") + chunked(b"3") + get("/4") + post(b"5", path="/5")
        assert [reply.body for reply in server.connect().say(mixed)] == [
            b"GET /1 ",
            b"POST /a 2",
            b"POST /a 3",
            b"GET /4 ",
            b"POST /5 5",
        ]


BAD = {
    "a head": (b"GET /a HTTP/1.1\r\n\r\n", 400),
    "noise": (b"\0\1 no request at all\r\n\r\n", 400),
    "noise without an end": (b"\x16\x03\x01\x02", 400),
    "a line of HTTP/0.9": (b"GET /a\r\n", 400),
    "a line of HTTP/2": (b"PRI * HTTP/2.0\r\n", 400),
    "a long head": (get("/a", "x: " + "a" * 500), 431),
    "a long head without an end": (get("/a", "x: " + "a" * 500)[:-4], 431),
    "many fields": (get("/a", *["x: y"] * 100), 431),
    "a long target": (b"GET /" + b"a" * 500, 431),
    "a long body": (post(bytes(1001)), 413),
    "a chunk over the limit": (chunked()[:-5] + b"3e9\r\n", 413),
    "an endless chunk": (chunked()[:-5] + b"ffffffffffffffff\r\n", 413),
    "chunks over the limit": (chunked(*[bytes(100)] * 11), 413),
    "noise in chunks": (chunked(b"abc", end=b"x\r\n"), 400),
    "trailer fields": (chunked(b"a", end=b"0\r\n" + b"a: b\r\n" * 100), 431),
    "chunk extensions": (chunked()[:-5] + b"1;%b\r\n" % (b"a" * 500), 431),
    "an expectation": (post(b"abc", "expect: 200-ok"), 417),
    "a coding": (chunked(b"abc").replace(b"chunked", b"gzip, chunked"), 501),
    "a tunnel": (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("data", "status"), BAD.values(), ids=BAD)
def test_what_is_refused_is_answered_last(data: bytes, status: int, streams: bool) -> None:
    if streams and status == 413:
        return  # the application bounds what it streams
    for pieces in ([data], drops(data)):
        with serving(limits=SMALL, streams=streams) as server:
            client = server.connect()
            first = client.say(get("/1"))
            *before, last = client.say(get("/2"), *pieces, get("/3"))
            assert [item.body for item in first + before] == [b"GET /1 ", b"GET /2 "]
            assert (last.status, last.fields["connection"]) == (status, "close")
            assert last.body.startswith(b'{"error":"')
            assert b"HTTP/1.1 " not in last.body  # nobody takes it for an answer
            assert client.is_over
            assert not client.say(get("/4"))
            client.hang_up()
            assert (server.memory.used, len(server.table)) == (0, 0)


def test_the_end_of_a_refused_connection_can_be_read() -> None:
    with serving(limits=SMALL) as server:
        client = server.connect()
        assert client.say(post(bytes(2000)))[0].status == 413
        assert (client.wire.has_ended, client.wire.closed) == (True, False)
        assert client.wire.reads  # or the client could not send what is under way
        client.server.turn(client.connection.close)
        assert client.wire.closed


def test_a_body_over_the_limit_is_refused_before_it_is_sent() -> None:
    with serving(limits=SMALL) as server:
        [answer] = server.connect().say(post(bytes(1001), "expect: 100-continue")[:-1001])
        assert answer.status == 413


# Expect: 100-continue.


@pytest.mark.parametrize("streams", [False, True])
def test_continue_is_sent_to_a_client_that_waits(streams: bool) -> None:
    with serving(streams=streams) as server:
        client, data = server.connect(), post(b"hello", "expect: 100-continue")
        head, body = data[:-5], data[-5:]
        assert [reply.status for reply in client.say(head)] == [CONTINUE]
        assert [reply.body for reply in client.say(body)] == [b"POST /a hello"]
        assert [reply.status for reply in client.say(data)] == [200]  # it did not wait
        assert [reply.status for reply in client.say(head + body[:2], body[2:])] == [200]
        assert [reply.status for reply in client.say(post(b"", "expect: 100-continue"))] == [200]


def test_continue_is_not_sent_to_an_older_version() -> None:
    with serving() as server:
        data = post(b"hello", "expect: 100-continue", version="1.0")
        assert [reply.status for reply in server.connect().say(data[:-5], data[-5:])] == [200]


class Gate:
    """An application that answers ``/slow`` when it is let."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self.begun = 0
        self.gone = 0

    def open(self) -> None:
        self._opened.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/slow":
            await echo(scope, receive, send)
            return
        self.begun += 1
        await receive()
        gone, opened = asyncio.ensure_future(receive()), asyncio.ensure_future(self._opened.wait())
        done, _ = await asyncio.wait({gone, opened}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        opened.cancel()
        if gone in done:
            self.gone += gone.result()["type"] == "http.disconnect"
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


def test_continue_is_sent_after_the_answers_before() -> None:
    gate = Gate()
    with serving(gate) as server:
        client = server.connect()
        assert client.say(get("/slow") + post(b"hello", "expect: 100-continue")[:-5]) == []
        server.turn(gate.open)
        assert [reply.status for reply in client.say(b"")] == [200, CONTINUE]
        assert [reply.status for reply in client.say(b"hello")] == [200]


# Who goes on, and who does not.


@pytest.mark.parametrize(
    ("data", "expected", "over"),
    [
        (get(), None, False),
        (get("/a", "connection: close"), "close", True),
        (get("/a", version="1.0"), "close", True),
        (get("/a", "connection: keep-alive", version="1.0"), "keep-alive", False),
        (get("/a", "connection: Keep-Alive", version="1.0"), "keep-alive", False),
        (post(b"a", "connection: close"), "close", True),
        (post(b"a", "connection: keep-alive", version="1.0"), "keep-alive", False),
    ],
)
def test_whether_the_connection_goes_on_is_said(data: bytes, expected: str | None, over: bool) -> None:
    with serving() as server:
        client = server.connect()
        [answer] = client.say(data)
        assert answer.fields.get("connection") == expected
        assert client.is_over is over
        if over:
            assert client.say(get()) == []


def test_nothing_is_read_behind_a_request_that_ends_the_connection() -> None:
    with serving() as server:
        client = server.connect()
        answers = client.say(get("/1") + get("/2", "connection: close") + get("/3"))
        assert [answer.body for answer in answers] == [b"GET /1 ", b"GET /2 "]
        assert client.wire.closed


def test_a_half_closed_connection_is_answered_and_then_closed() -> None:
    gate = Gate()
    with serving(gate) as server:
        client = server.connect()
        assert client.say(get("/slow") + get("/2")) == []
        assert client.end() == []
        assert not client.is_over
        server.turn(gate.open)
        assert [(reply.status, reply.fields.get("connection")) for reply in client.say(b"")] == [
            (200, None),
            (200, "close"),
        ]
        assert client.wire.closed


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("half", [b"", get()[:-2], post(b"hello")[:-2], chunked(b"hello")[:-2]])
def test_half_a_request_is_not_answered(half: bytes, streams: bool) -> None:
    with serving(streams=streams) as server:
        client = server.connect()
        assert [reply.body for reply in client.say(get("/1") + half)] == [b"GET /1 "]
        assert client.end() == []
        assert client.wire.closed
        client.hang_up()
        assert server.memory.used == 0


def test_a_draining_server_says_so_in_the_last_answer_alone() -> None:
    gate = Gate()
    with serving(gate) as server:
        idle, busy, half = server.connect(), server.connect(), server.connect()
        busy.say(get("/slow") + get("/2") + get("/3"))
        half.say(post(b"hello")[:-2])
        server.turn(server.table.drain)
        assert [idle.is_over, busy.is_over, half.is_over] == [True, False, False]
        server.turn(gate.open)
        fields = [reply.fields.get("connection") for reply in busy.say(b"")]
        assert fields == [None, None, "close"]
        assert [reply.fields.get("connection") for reply in half.say(b"lo")] == ["close"]
        assert busy.is_over
        assert half.is_over


def test_an_announced_end_closes_connections_with_their_next_answer_and_no_idle_ones() -> None:
    with serving() as server:
        idle, client = server.connect(), server.connect()
        assert client.say(get())[0].fields.get("connection") is None
        server.turn(server.table.announce_end)
        assert not client.is_over
        assert [reply.fields.get("connection") for reply in client.say(get())] == ["close"]
        assert (idle.is_over, client.is_over) == (False, True)
        assert server.connect().say(get())[0].fields.get("connection") == "close"
        server.turn(server.table.drain)
        assert idle.is_over


def test_an_old_connection_ends_with_its_last_answer() -> None:
    with serving(limits=HttpLimits(connection_s=100, keep_alive_s=10**6)) as server:
        client = server.connect()
        server.pass_time(89)
        assert client.say(get())[0].fields.get("connection") is None
        server.pass_time(22)
        assert not client.is_over
        assert [reply.fields.get("connection") for reply in client.say(get("/1") + get("/2"))] == [None, "close"]
        assert client.is_over


# Backpressure.


@pytest.mark.parametrize("one", [get("/a"), post(b"hello"), chunked(b"hello")])
def test_thousands_of_requests_in_one_read_are_taken_as_capacity_allows(one: bytes) -> None:
    many = 1000
    with serving() as server:
        client = server.connect()
        client.wire.is_stalled = True
        client.say(one * many)
        server.turn(client.connection.pause_writing)
        while client.wire.reads or server.loop.run_until_complete(_settled(client)):
            server.turn()
        assert len(client.connection._pipeline) <= MAX_PIPELINED
        assert client.connection._reader.unparsed
        answered = client.wire.waiting.count(b"HTTP/1.1 200")
        assert answered < 2 * MAX_PIPELINED
        client.wire.is_stalled = False
        client.wire.take(len(client.wire.waiting))
        server.turn(client.connection.resume_writing)
        for _ in range(many):
            server.turn()
        assert client.wire.written.count(b"HTTP/1.1 200") == many
        assert client.wire.reads


async def _settled(client: Client) -> bool:
    return not client.connection._reader.unparsed


def test_a_client_with_many_unanswered_requests_is_not_read_further() -> None:
    gate = Gate()
    with serving(gate) as server:
        client = server.connect()
        client.say(get("/slow") * MAX_PIPELINED)
        assert not client.wire.reads or client.say(get()) == []
        assert not client.wire.reads
        server.turn(gate.open)
        for _ in range(MAX_PIPELINED):
            server.turn()
        assert client.wire.reads
        assert len(client.replies_read()) >= MAX_PIPELINED


@pytest.mark.parametrize("streams", [False, True])
def test_the_application_learns_that_nobody_waits(streams: bool) -> None:
    gate = Gate()
    with serving(gate, streams=streams) as server:
        client = server.connect()
        client.say(get("/slow"))
        assert gate.begun == 1
        client.hang_up()
        assert gate.gone == 1
        other = server.connect()
        other.say(get("/slow") + get("/slow"))
        other.hang_up()
        assert (gate.begun, gate.gone) == (2, 2)  # what had not begun never does
