"""ASGI applications: their answers in every framing, what they may do wrong, and bodies that they take as they like."""

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest

from penstock.api.http1.limits import HttpLimits
from tests.unit.api.http1.support import HIGH_WATER, Receive, Scope, Send, chunked, get, post, serving

Message = dict[str, Any]


def start(status: int = 200, *fields: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(fields)}


def body(content: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


class Says:
    """Sends these messages, whatever it is asked."""

    def __init__(self, *messages: Message) -> None:
        self._messages = messages
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        self.scope = scope
        for message in self._messages:
            await send(message)


PARTS = (start(200), body(b"he", True), body(b"", True), body(b"llo"))


def test_an_answer_without_a_length_comes_in_chunks() -> None:
    with serving(Says(*PARTS)) as server:
        client = server.connect()
        answers = client.say(get() + get())
        assert [(answer.fields["transfer-encoding"], answer.body) for answer in answers] == [("chunked", b"hello")] * 2


def test_an_older_client_gets_it_until_the_end_of_the_connection() -> None:
    with serving(Says(*PARTS)) as server:
        client = server.connect()
        client.say()
        server.turn(lambda: client.connection.data_received(get("/a", "connection: keep-alive", version="1.0")))
        head, _, content = bytes(client.wire.written).partition(b"\r\n\r\n")
        assert content == b"hello"
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert client.is_over


@pytest.mark.parametrize(
    ("messages", "length"),
    [((start(200, (b"Content-Length", b"5")), body(b"hello")), "5"), (PARTS, None)],
)
def test_an_answer_to_head_has_no_body(messages: tuple[Message, ...], length: str | None) -> None:
    with serving(Says(*messages)) as server:
        client = server.connect()
        server.turn(lambda: client.connection.data_received(get().replace(b"GET", b"HEAD")))
        head, _, content = bytes(client.wire.written).partition(b"\r\n\r\n")
        assert content == b""
        assert (b"content-length: 5" in head) is (length is not None)
        assert b"transfer-encoding" not in head


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_never_have_a_body(status: int) -> None:
    with serving(Says(start(status), body(b""))) as server:
        client = server.connect()
        answers = client.say(get() + get())
        assert [answer.status for answer in answers] == [status] * 2
        assert "transfer-encoding" not in answers[0].fields


def test_the_application_may_end_the_connection() -> None:
    with serving(Says(start(200, (b"connection", b"close"), (b"content-length", b"0")), body(b""))) as server:
        client = server.connect()
        answers = client.say(get())
        assert [answer.fields["connection"] for answer in answers] == ["close"]
        assert client.is_over


def test_the_scope_of_the_application() -> None:
    app = Says(start(), body(b""))
    with serving(app) as server:
        server.connect().say(get("/a%20b/%C3%A4?c=%20", "X-A: 1", "x-a: 2"))
        scope = app.scope
        assert [scope[key] for key in ("type", "scheme", "method", "http_version")] == ["http", "http", "GET", "1.1"]
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/ä", b"/a%20b/%C3%A4", b"c=%20")
        assert scope["headers"] == [(b"host", b"a"), (b"x-a", b"1"), (b"x-a", b"2")]
        assert (scope["server"], scope["client"]) == (("127.0.0.1", 8000), ("127.0.0.1", 4711))


WRONG = {
    "nothing": (),
    "no start": (body(b"a"),),
    "two starts": (start(), start(), body(b"")),
    "a bad name": (start(200, (b"a b", b"c")), body(b"")),
    "a bad value": (start(200, (b"a", b"b\r\nc: d")), body(b"")),
    "another message": ({"type": "http.response.debug"},),
}


@pytest.mark.parametrize("messages", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_an_internal_error(messages: tuple[Message, ...], caplog: pytest.LogCaptureFixture) -> None:
    with serving(Says(*messages)) as server, caplog.at_level(logging.CRITICAL, "penstock.http"):
        client = server.connect()
        [answer] = client.say(get())
        assert (answer.status, answer.body) == (500, b'{"error":"the request failed"}')
        assert client.is_over


BROKEN = {
    "no end": (start(), body(b"a", True)),
    "too long": (start(200, (b"content-length", b"3")), body(b"ab", True), body(b"cd")),
    "too short": (start(200, (b"content-length", b"3")), body(b"ab", True), body(b"")),
    "a start in between": (start(), body(b"a", True), start()),
}


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_breaks_off_ends_the_connection(
    messages: tuple[Message, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Says(*messages)) as server, caplog.at_level(logging.CRITICAL, "penstock.http"):
        client = server.connect()
        client.say(get() + get())
        assert client.wire.aborted


def test_an_answer_of_the_wrong_length_never_begins() -> None:
    with serving(Says(start(200, (b"content-length", b"3")), body(b"toolong"))) as server:
        logging.disable(logging.CRITICAL)
        try:
            client = server.connect()
            assert [reply.status for reply in client.say(get())] == [500]
        finally:
            logging.disable(logging.NOTSET)


def test_one_request_begins_in_each_turn() -> None:
    begun: list[str] = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await send(start())
        await send(body(b""))

    with serving(app) as server:
        clients = [server.connect() for _ in range(8)]

        async def ask() -> None:
            for number, client in enumerate(clients):
                client.connection.data_received(get(f"/{number}"))
            counts = []
            for _ in range(12):
                await asyncio.sleep(0)
                counts.append(len(begun))
            assert all(later - earlier <= 1 for earlier, later in pairwise(counts))

        server.loop.run_until_complete(ask())
        assert begun == [f"/{number}" for number in range(8)]


def test_a_streamed_body_is_read_as_it_is_taken() -> None:
    wanted = asyncio.Event()
    parts: list[bytes] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            await wanted.wait()
            wanted.clear()
            message = await receive()
            parts.append(message["body"])
            more = message["more_body"]
        await send(start())
        await send(body(b"%d" % sum(map(len, parts))))

    size = 40 * HIGH_WATER
    with serving(app, streams=True, limits=HttpLimits(max_body_bytes=1000)) as server:
        client = server.connect()
        client.say(post(bytes(size))[:-size])
        sent = answers = 0
        while not answers:
            while client.wire.reads and sent < size:
                client.connection.data_received(bytes(min(HIGH_WATER, size - sent)))
                sent += min(HIGH_WATER, size - sent)
                server.turn()
            server.turn(wanted.set)
            answers = client.wire.written.count(b"HTTP/1.1")
        assert client.replies_read()[0].body == b"%d" % size
        assert max(map(len, parts)) <= 2 * HIGH_WATER


@pytest.mark.parametrize("data", [post(bytes(300_000)), chunked(*[bytes(1000)] * 300)])
def test_what_is_left_of_a_body_after_its_answer_is_dropped(data: bytes) -> None:
    app = Says(start(409, (b"content-length", b"2")), body(b"no"))
    with serving(app, streams=True) as server:
        client = server.connect()
        assert [reply.status for reply in client.say(data[:1000])] == [409]
        for at in range(1000, len(data), 50_000):
            assert client.say(data[at : at + 50_000]) == []
            assert client.wire.reads
        assert [reply.status for reply in client.say(get())] == [409]
        assert not client.is_over


def test_a_slow_reader_pauses_the_application() -> None:
    written: list[int] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(start())
        for number in range(10):
            await send(body(bytes(HIGH_WATER), True))
            written.append(number)
        await send(body(b""))

    with serving(app) as server:
        client = server.connect()
        client.wire.is_stalled = True
        client.say(get())
        assert len(written) <= 2
        for _ in range(20):
            server.turn(lambda: client.wire.take(HIGH_WATER))
        assert len(written) == 10
