"""A kept connection takes one request after the other, survives servers that close it, and has a deadline."""

import http.client
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from penstock.control.calls.kept_connection import KeptConnection

WAIT_S = 0.2
BODY, MOST = b"the end of a request", 1000
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"


class Server:
    """A server that gives each connection its answers (b"": it closes without one), and counts both."""

    def __init__(self, connections: Sequence[Sequence[bytes]]) -> None:
        self.connections = self.requests = 0
        self._answers = connections
        self.closed = threading.Event()

    def serve(self, listener: socket.socket) -> None:
        for answers in self._answers:
            accepted, _ = listener.accept()
            self.connections += 1
            with accepted, suppress(OSError):
                for answer in answers:
                    received = b""
                    while not received.endswith(BODY):
                        received += accepted.recv(1 << 16)
                    self.requests += 1
                    accepted.sendall(answer)
                if answers[-1:] == [b"wait"]:
                    accepted.recv(1)  # until the client has had enough
            self.closed.set()


@contextmanager
def serving(*connections: Sequence[bytes]) -> Iterator[tuple[Server, KeptConnection]]:
    server = Server(connections)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        kept = KeptConnection(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces?x=1", WAIT_S)
        try:
            yield server, kept
        finally:
            kept.close()
            thread.join()


def post(kept: KeptConnection) -> tuple[int, bytes]:
    answer = kept.post(BODY, {"x-field": "1"}, MOST)
    return answer.status, answer.content


def test_one_connection_takes_several_requests() -> None:
    with serving([OK, b"HTTP/1.1 503 X\r\ncontent-length: 3\r\n\r\nno!", OK]) as (server, kept):
        assert [post(kept) for _ in range(3)] == [(200, b"hi"), (503, b"no!"), (200, b"hi")]
    assert (server.connections, server.requests) == (1, 3)


@pytest.mark.parametrize(
    "first",
    [
        [CLOSING],
        [b"HTTP/1.1 200 OK\r\n\r\nhi"],  # without a length
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + b"a" * 9999],  # more than is read
        [OK],  # closed while nothing was expected
        [OK + b"HTTP/1.1 200 OK\r\n"],  # what nobody has asked for
    ],
)
def test_a_connection_that_cannot_be_used_again_is_replaced(first: list[bytes]) -> None:
    with serving(first, [OK]) as (server, kept):
        assert post(kept)[0] == 200
        server.closed.wait()
        assert post(kept) == (200, b"hi")
    assert (server.connections, server.requests) == (2, 2)


def test_a_request_whose_kept_connection_ends_is_sent_once_more() -> None:
    with serving([OK, b""], [OK]) as (server, kept):
        assert [post(kept), post(kept)] == [(200, b"hi"), (200, b"hi")]
    assert (server.connections, server.requests) == (2, 3)


def test_one_that_ends_without_an_answer_at_once_is_not() -> None:
    with serving([b""], [OK]) as (server, kept):
        with pytest.raises(http.client.RemoteDisconnected):
            post(kept)
        assert post(kept) == (200, b"hi")
    assert server.requests == 2


def test_a_server_that_says_nothing_is_given_up() -> None:
    with serving([OK, b"wait"], [OK]) as (server, kept):
        assert post(kept) == (200, b"hi")
        with pytest.raises((OSError, http.client.HTTPException)):
            post(kept)
        assert post(kept) == (200, b"hi")
    assert server.connections == 2


def test_an_address_without_a_listener_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError):
        post(KeptConnection(url, WAIT_S))
