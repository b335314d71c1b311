"""One connection of the REST front without a socket: heads that are known, and connections that have become old."""

import asyncio
import json
import re
from collections.abc import Iterator
from time import monotonic_ns

import pytest

from penstock.api.http1.limits import MAX_PIPELINED
from tests.budgets import THOROUGH
from tests.conformance.rawhttp import request
from tests.fuzz.targets import TURNS, Wire, World

PATH = "/v2/models/row/infer"
EVERY = 1 if THOROUGH else 5
"""Of so many places between two bytes one is tried; the nightly run tries all."""


def body(*values: float) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": values}]}).encode()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


class Client:
    """Says things on one connection, and hears what is answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.protocol = world.http()
        self.wire = Wire()
        self.protocol.connection_made(self.wire)

    def say(self, *pieces: bytes) -> list[tuple[int, bytes]]:
        """Statuses and bodies of what is answered to this."""

        async def said() -> None:
            for piece in pieces:
                self.protocol.data_received(piece)
                await self._world.settle()

        self.wire.written.clear()
        self._world.loop.run_until_complete(said())
        found, data = [], bytes(self.wire.written).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        while data:
            head, _, rest = data.partition(b"\r\n\r\n")
            size = int(re.findall(rb"content-length: (\d+)", head)[0])
            found.append((int(head.split()[1]), rest[:size]))
            data = rest[size:]
        return found


def values(answer: tuple[int, bytes]) -> list[float]:
    assert answer[0] == 200, answer
    found: list[float] = json.loads(answer[1])["outputs"][0]["data"]
    return found


def test_a_head_that_is_known_means_the_same(world: World) -> None:
    client = Client(world)
    first, second, third = (request("POST", PATH, body(*some)) for some in ([1, 2, 3], [4, 5, 6], [7, 8, 9]))
    heads = world.rest.http.table.heads
    assert values(*client.say(first)) == [3, 5, 7]
    assert heads.get(first.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") is not None
    known = len(heads)
    assert values(*client.say(second)) == [9, 11, 13]
    assert len(heads) == known
    assert [values(reply) for reply in client.say(second + third)] == [[9, 11, 13], [15, 17, 19]]
    for end in range(1, len(third), EVERY):
        assert values(*client.say(third[:end], third[end:])) == [15, 17, 19]
    assert values(*Client(world).say(third)) == [15, 17, 19]


def test_a_fault_behind_a_known_head_is_refused(world: World) -> None:
    client = Client(world)
    good = request("POST", PATH, body(1, 2, 3))
    head = good.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    client.say(good)
    size = len(good) - len(head)
    ((status, _),) = client.say(head + b"{" * size)
    assert status == 400
    assert values(*client.say(good)) == [3, 5, 7]
    assert client.say(head + b"x" * (size - 1)) == []  # not whole yet
    ((status, _),) = client.say(b"x")
    assert status == 400


@pytest.mark.parametrize(
    "fields",
    [("x-request-id: a",), ("connection: close",), ("expect: 100-continue",), ("traceparent: 00-1-2-01",)],
)
def test_heads_that_are_not_remembered(world: World, fields: tuple[str, ...]) -> None:
    known = len(world.rest.http.table.heads)
    Client(world).say(request("POST", PATH, body(1, 2, 3), *fields, f"content-length: {len(body(1, 2, 3))}"))
    assert len(world.rest.http.table.heads) == known


OFFER = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA")
"""What curl --http2 and Java's client begin every connection with."""


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (7, data[:7], len(data) - 7, data[7:])


@pytest.mark.parametrize(
    "offered",
    [
        request("POST", PATH, body(4, 5, 6), *OFFER),
        request("POST", PATH, b"", *OFFER, "transfer-encoding: chunked") + chunked(body(4, 5, 6)),
        request("POST", PATH, body(4, 5, 6), "connection: upgrade", "upgrade: websocket"),
    ],
)
def test_an_offer_to_speak_another_protocol_is_declined(world: World, offered: bytes) -> None:
    client, plain = Client(world), request("POST", PATH, body(1, 2, 3))
    for _ in range(2):
        assert values(*client.say(offered)) == [9, 11, 13]
        assert [values(reply) for reply in client.say(plain + offered + offered + plain)] == [
            [3, 5, 7],
            [9, 11, 13],
            [9, 11, 13],
            [3, 5, 7],
        ]
    for end in range(1, len(offered), EVERY):
        assert values(*client.say(offered[:end], offered[end:])) == [9, 11, 13]
    asked = request("GET", "/v2", b"", *OFFER)
    assert [status for status, _ in client.say(asked + plain + asked)] == [200, 200, 200]


@pytest.mark.parametrize("target", [b"a:1", b"/v2"])
def test_a_tunnel_is_refused_and_nothing_of_it_is_read(world: World, target: bytes) -> None:
    client = Client(world)
    ((status, _),) = client.say(b"CONNECT %b HTTP/1.1\r\nhost: a\r\n\r\n" % target + b"GET /v2 HTTP/1.1\r\n" * 3)
    assert status in {400, 404, 405}


def test_memory_of_heads_is_bounded(world: World) -> None:
    client, length = Client(world), f"content-length: {len(body(1, 2, 3))}"
    requests = [request("POST", PATH, body(1, 2, 3), f"x-{number}: a", length) for number in range(1120)]
    for first in range(0, len(requests), MAX_PIPELINED // 2):
        client.say(b"".join(requests[first : first + MAX_PIPELINED // 2]))
    assert len(world.rest.http.table.heads) == 1024


def test_an_old_connection_ends_with_its_next_answer(world: World) -> None:
    client = Client(world)
    client.protocol.sweep(monotonic_ns())
    assert values(*client.say(request("POST", PATH, body(1, 2, 3)))) == [3, 5, 7]
    assert not client.wire.closed
    client.protocol._until_ns = 0
    client.protocol.sweep(monotonic_ns())
    two = request("POST", PATH, body(1, 2, 3)) * 2
    assert [values(reply) for reply in client.say(two)] == [[3, 5, 7]] * 2
    assert client.wire.closed
    assert bytes(client.wire.written).count(b"connection: close") == 1


MANY = 3000


@pytest.mark.parametrize("one", [request("GET", "/v2/health/live"), request("POST", PATH, body(1, 2, 3))])
def test_thousands_of_requests_in_one_read_are_taken_as_capacity_allows(world: World, one: bytes) -> None:
    client = Client(world)
    protocol = client.protocol

    async def ask(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
            assert len(protocol._pipeline) <= MAX_PIPELINED
            assert protocol._transport.is_reading_paused or not protocol._reader.unparsed  # nothing comes to what waits

    async def begin() -> None:
        protocol.data_received(one * MANY)
        protocol.data_received(one)  # it was on its way
        protocol.pause_writing()  # nobody reads answers

    world.loop.run_until_complete(begin())
    world.loop.run_until_complete(ask(200))
    answered = client.wire.written.count(b"HTTP/1.1 200")
    assert answered < 2 * MAX_PIPELINED
    assert protocol.eof_received() is True
    world.loop.call_soon(protocol.resume_writing)
    world.loop.run_until_complete(ask(20 * MANY))
    assert client.wire.written.count(b"HTTP/1.1 200") == MANY + 1


def test_of_what_is_no_prediction_one_begins_in_each_turn(world: World) -> None:
    clients = [Client(world) for _ in range(8)]
    waiting = world.rest._application._asgi._waiting

    async def ask() -> None:
        for client in clients:
            client.protocol.data_received(request("GET", "/v2/health/live"))
        for left in range(len(clients), 0, -1):
            assert len(waiting) == left
            await asyncio.sleep(0)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    world.loop.run_until_complete(ask())
    assert all(client.wire.written.startswith(b"HTTP/1.1 200") for client in clients)
