"""Receivers that are slow, close, refuse, lie or never end: what is sent to them is bounded and counted, and the event
loop goes on meanwhile.
"""

import asyncio
import itertools
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from penstock.control.export.metrics_push import MetricsPush
from penstock.control.export.otlp_http import OtlpSender
from penstock.control.export.span_exporter import MOST_WAITING, SpanExporter
from penstock.telemetry.metrics import INFLIGHT
from penstock.telemetry.otlp.protobuf import integer, message, text
from penstock.telemetry.otlp_metrics import OTLP_ITEMS
from penstock.telemetry.readings import Point, Reading
from tests.harness import PATIENCE_S

WAIT_S = 0.2
COUNT = 64
LARGE, SMALL = 1 << 17, 16
"""Bytes of an item: of a large one, so that those of a request are more than sockets hold."""

Behaviour = Callable[[socket.socket, threading.Event], None]
OK = b"HTTP/1.1 200 OK\r\n"


def read_request(connection: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1 << 16) or b"\r\n\r\n"
    fields, _, body = head.lower().partition(b"\r\n\r\n")
    _, _, stated = fields.partition(b"content-length: ")
    left = int(stated.split(b"\r\n")[0] or 0) - len(body)
    while left > 0:
        left -= len(connection.recv(1 << 20)) or left


def answer(content: bytes) -> Behaviour:
    """Read a request, and answer it."""

    def behave(connection: socket.socket, _: threading.Event) -> None:
        read_request(connection)
        connection.sendall(content)

    return behave


def partial(rejected: int) -> bytes:
    """The answer of a receiver that says how many items it has rejected."""
    content = message(1, integer(1, rejected), text(2, "no space"))
    return OK + b"content-length: %d\r\n\r\n" % len(content) + content


def refuse(status: int, retry_after: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nretry-after: %b\r\ncontent-length: 0\r\n\r\n" % (status, retry_after)


def close(_: socket.socket, __: threading.Event) -> None:
    pass


def keep_silent(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    over.wait(PATIENCE_S)


def never_read(_: socket.socket, over: threading.Event) -> None:
    over.wait(PATIENCE_S)


def drip(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(OK + b"x: ")
    while not over.wait(WAIT_S / 8):
        connection.sendall(b"x")


def repeat(head: bytes, part: bytes) -> Behaviour:
    """Send an answer that does not end."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(head)
        while not over.is_set():
            connection.sendall(part)

    return behave


@contextmanager
def receiving(behave: Behaviour) -> Iterator[str]:
    """Run a receiver that treats each connection in this way."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.settimeout(PATIENCE_S)
                    behave(connection, over)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def run_beside(step: Callable[[], Awaitable[None]]) -> int:
    """Run a step; return how many turns the event loop made meanwhile."""

    async def run() -> int:
        task = asyncio.ensure_future(step())
        for turns in itertools.count():
            if task.done():
                await task
                return turns
            await asyncio.sleep(WAIT_S / 40)
        raise AssertionError

    return asyncio.run(run())


def outcomes(readings: Iterator[Reading]) -> dict[str, float]:
    points = [item for item in readings if isinstance(item, Point) and item.metric is OTLP_ITEMS]
    return {point.labels[1]: point.value for point in points if point.value}


SLOW: dict[str, Behaviour] = {"silent": keep_silent, "never reads": never_read, "drips": drip}
NO_ANSWER: dict[str, Behaviour] = {
    "closes": close,
    "garbage": answer(b"\x00\xff\r\n\r\n"),
    "endless fields": repeat(OK, b"x: y\r\n" * 1000),
    "an endless field": repeat(OK + b"x: ", b"y" * 10_000),
    "429": answer(refuse(429, b"7")),
    "503 until never": answer(refuse(503, b"9" * 400)),
    "503 and no number": answer(refuse(503, b"nan")),
    "503 and no date": answer(refuse(503, b"Mon, 99 Foo 2026 99:99:99 -0000")),
    "503 before now": answer(refuse(503, b"-5")),
}
TAKEN: dict[str, tuple[Behaviour, int]] = {
    "takes all": (answer(partial(0)), 0),
    "rejects some": (answer(partial(3)), 3),
    "rejects more than came": (answer(partial(10**12)), COUNT),
    "rejects less than none": (answer(partial(-3)), 0),
    "an endless body": (repeat(OK + b"\r\n", b"y" * 10_000), 0),
    "endless chunks": (repeat(OK + b"transfer-encoding: chunked\r\n\r\n", b"5\r\naaaaa\r\n" * 1000), 0),
    "the wrong length": (answer(OK + b"content-length: 5\r\n\r\n" + b"y" * 10_000), 0),
}


class Spans:
    """An exporter with a batch of spans, and a clock of its own."""

    def __init__(self, url: str, send: OtlpSender, size: int = SMALL) -> None:
        self.now, self.size = 100.0, size
        self.exporter = SpanExporter(url, {}, "1", send, clock=lambda: self.now)
        self.add(COUNT)

    def add(self, count: int) -> None:
        self.exporter.add([(message(2, bytes(self.size)), 1)] * count)

    def waiting(self) -> float:
        return next(item.value for item in self.exporter.readings() if isinstance(item, Point))

    def close(self) -> None:
        self.exporter.close()


def metrics_push(url: str, send: OtlpSender, size: int = SMALL) -> MetricsPush:
    readings = [Point(INFLIGHT, (f"{number:0{size}}",), 1.0) for number in range(COUNT)]
    return MetricsPush(url, 1.0, {}, "1", lambda: readings, send)


@contextmanager
def sending(wait_s: float = PATIENCE_S) -> Iterator[OtlpSender]:
    send = OtlpSender(wait_s=wait_s)
    try:
        yield send
    finally:
        send.close()


@pytest.mark.parametrize("kind", [*SLOW, *NO_ANSWER])
def test_spans_wait_for_a_receiver_that_does_not_take_them_and_are_bounded(kind: str) -> None:
    wait_s, size = (WAIT_S, LARGE) if kind in SLOW else (PATIENCE_S, SMALL)
    with receiving({**SLOW, **NO_ANSWER}[kind]) as url, sending(wait_s) as send:
        bench = Spans(url, send, size)
        turns = run_beside(bench.exporter.step)
        assert turns > 2 or kind not in SLOW
        assert (bench.waiting(), outcomes(bench.exporter.readings())) == (COUNT, {})
        bench.add(MOST_WAITING + 5)
        assert bench.waiting() == COUNT + MOST_WAITING  # the batch that is sent again, and those behind it
        assert outcomes(bench.exporter.readings()) == {"dropped": 5}
        run_beside(bench.exporter.step)  # not due: nothing is sent
        bench.close()


@pytest.mark.parametrize("kind", TAKEN)
def test_what_a_receiver_says_of_spans_is_counted(kind: str) -> None:
    behave, rejected = TAKEN[kind]
    with receiving(behave) as url, sending() as send:
        bench = Spans(url, send)
        run_beside(bench.exporter.step)
        counted = outcomes(bench.exporter.readings())
        assert bench.waiting() == 0
        assert (counted.get("sent", 0), counted.get("rejected", 0)) == (COUNT - rejected, rejected)
        bench.close()


@pytest.mark.parametrize("kind", [*SLOW, *NO_ANSWER])
def test_a_push_that_is_not_taken_is_counted_and_not_repeated(kind: str) -> None:
    wait_s, size = (WAIT_S, LARGE) if kind in SLOW else (PATIENCE_S, SMALL)
    with receiving({**SLOW, **NO_ANSWER}[kind]) as url, sending(wait_s) as send:
        push = metrics_push(url, send, size)
        turns = run_beside(push.step)
        assert turns > 2 or kind not in SLOW
        assert outcomes(push.readings()) == {"failed": COUNT}
        push.close()


@pytest.mark.parametrize("kind", TAKEN)
def test_what_a_receiver_says_of_metrics_is_counted(kind: str) -> None:
    behave, rejected = TAKEN[kind]
    with receiving(behave) as url, sending() as send:
        push = metrics_push(url, send)
        run_beside(push.step)
        counted = outcomes(push.readings())
        assert (counted.get("sent", 0), counted.get("rejected", 0)) == (COUNT - rejected, rejected)
        push.close()
