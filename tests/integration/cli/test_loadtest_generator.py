"""The generator of load against servers that stall, close, refuse and answer in other forms than expected."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from penstock.loadtest.generator import Generator, NoConnection
from penstock.loadtest.http1_wire import Http1Wire, http1_request
from penstock.loadtest.measurement import Measurement, measure
from penstock.loadtest.wire import resolve
from tests.certificates import make_certificate

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Answer = Callable[[int, socket.socket], bool]
"""Answers a request with this number on a connection; whether the connection stays."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server of HTTP/1.1 with a thread for each connection; its address."""
    numbers, lock = iter(range(1 << 30)), threading.Lock()

    def serve(wire: socket.socket) -> None:
        with wire, suppress(OSError):
            received = b""
            while data := wire.recv(1 << 16):
                received += data
                while b"\r\n\r\nBODY" in received:
                    received = received.partition(b"\r\n\r\nBODY")[2]
                    with lock:
                        number = next(numbers)
                    if not answer(number, wire):
                        return

    def accept() -> None:
        with suppress(OSError):
            while True:
                thread = threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def load(answer: Answer, count: int, connections: int = 2, timeout_s: float = 60.0) -> Measurement:
    """Send so many requests in a tenth of a second each ten."""
    with serving(answer) as address:
        endpoint = resolve(address)
        requests = [http1_request(endpoint, "/", {}, b"BODY")]
        generator = Generator(partial(Http1Wire, endpoint, requests), connections, 1, timeout_s)
        try:
            return measure(generator.run(np.arange(count) / 100), count / 100, transport_is_grpc=False)
        finally:
            generator.close()


def good(_: int, wire: socket.socket) -> bool:
    wire.sendall(GOOD)
    return True


def test_a_stall_is_charged_to_everybody_who_came_meanwhile() -> None:
    def stall_once(number: int, wire: socket.socket) -> bool:
        if number == 10:
            time.sleep(0.5)
        return good(number, wire)

    found = load(stall_once, 100, connections=1)
    assert (found.requests, found.good) == (100, 100)
    over = [int(histogram.counts[1024 * 7 :].sum()) for histogram in (found.latency, found.service)]  # from 131 ms
    assert found.latency.percentile_us(90) > 131_000 and over[0] > 30
    assert over[0] > over[1] >= 1
    assert found.waited > 30


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length:2\r\n\r\n{}",
        b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        b"HTTP/1.1 200 OK\r\nX: y\r\nCONTENT-LENGTH:   0\r\n\r\n",
    ],
)
def test_answers_in_any_form_and_in_pieces(text: bytes) -> None:
    def in_pieces(number: int, wire: socket.socket) -> bool:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        half = number % len(text)
        wire.sendall(text[:half])
        wire.sendall(text[half:])
        return True

    assert load(in_pieces, 60).good == 60


def test_no_request_follows_an_answer_that_closes_its_connection() -> None:
    def close_later(_: int, wire: socket.socket) -> bool:
        wire.sendall(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        time.sleep(0.05)
        return False

    assert load(close_later, 20, connections=1).good == 20


def answer_and_close(accepted: socket.socket, context: ssl.SSLContext) -> None:
    """Answer one request; the end of the connection leaves with the answer, so no further request comes between."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)

    def until_done(step: Callable[[], object]) -> None:
        while True:
            try:
                step()
                return
            except ssl.SSLWantReadError:
                accepted.sendall(outgoing.read())
                incoming.write(accepted.recv(1 << 16))

    until_done(tls.do_handshake)
    until_done(lambda: tls.read(1 << 16))
    tls.write(GOOD)
    with suppress(ssl.SSLWantReadError):
        tls.unwrap()
    accepted.sendall(outgoing.read())
    accepted.recv(1 << 16)  # what the other side ends with: a connection closed before is reset, and the answer lost


def test_an_answer_counts_though_the_connection_with_tls_ends_after_it(tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    context = pair.client()
    serving_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving_context.load_cert_chain(pair.certificate, pair.key)

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted = listener.accept()[0]
                with suppress(OSError), accepted:
                    answer_and_close(accepted, serving_context)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        endpoint = resolve(f"127.0.0.1:{listener.getsockname()[1]}", context)
        generator = Generator(partial(Http1Wire, endpoint, [http1_request(endpoint, "/", {}, b"BODY")]), 1, 1, 60.0)
        try:
            found = measure(generator.run(np.arange(10) / 100), 0.1, transport_is_grpc=False)
        finally:
            generator.close()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert found.good == 10


def test_a_closed_connection_is_replaced() -> None:
    def close_each_fifth(number: int, wire: socket.socket) -> bool:
        if number % 10 == 9:
            return False  # without an answer
        wire.sendall(GOOD)
        return number % 5 != 0  # after an answer

    found = load(close_each_fifth, 60)
    assert set(found.failures) == {"connection lost"}
    assert found.good + found.failures["connection lost"] == 60 and found.good > 30


def test_refusals_and_missing_answers_are_failures_of_their_own() -> None:
    def refuse_or_wait(number: int, wire: socket.socket) -> bool:
        if number % 3 == 1:
            wire.sendall(b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n")
        elif number % 3 == 2:
            return True
        else:
            wire.sendall(GOOD)
        return True

    found = load(refuse_or_wait, 12, connections=12, timeout_s=5.0)
    assert found.failures == {"HTTP 429": 4, "timed out": 4}
    assert found.good == 4


def test_requests_for_which_no_connection_is_free_are_given_up() -> None:
    def never(_: int, __: socket.socket) -> bool:
        return True

    found = load(never, 5, connections=1, timeout_s=0.3)
    assert found.good == 0 and sum(found.failures.values()) == 5
    assert set(found.failures) <= {"timed out", "no connection was free"}


def test_another_protocol_is_a_lost_connection() -> None:
    def speak_otherwise(_: int, wire: socket.socket) -> bool:
        wire.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n\r\n")
        return True

    assert load(speak_otherwise, 5).failures == {"connection lost": 5}


def test_without_a_server_no_connection_opens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    endpoint = resolve(address)
    with pytest.raises(NoConnection, match="refused"):
        Generator(partial(Http1Wire, endpoint, [b""]), 2, 1, 1.0)


def test_a_stop_ends_a_window_early() -> None:
    done: list[int] = []
    with serving(good) as address:
        endpoint = resolve(address)
        requests = [http1_request(endpoint, "/", {}, b"BODY")]
        generator = Generator(
            partial(Http1Wire, endpoint, requests),
            2,
            1,
            60.0,
            should_stop=lambda: bool(done),
            on_progress=lambda answered, _failed, _seconds: done.extend([answered] if answered > 5 else []),
        )
        samples = generator.run(np.arange(100_000) / 100)
        generator.close()
    assert samples.stopped
    assert 5 < len(samples.due) < 100_000
