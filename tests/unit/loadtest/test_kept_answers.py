"""Answers that a connection keeps for its caller: whole, split, and within a bound."""

import select
import socket
import struct
from collections.abc import Callable

import pytest

from penstock.loadtest import http1_wire, http2_wire
from penstock.loadtest.http1_wire import Http1Wire, split_answer
from penstock.loadtest.http2_wire import Http2Wire
from penstock.loadtest.wire import BrokenWire, Endpoint, Wire, resolve

HTTP1 = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
TRAILERS = b"\x00\x0bgrpc-status\x010"


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, 1) + payload


HTTP2 = frame(0, 8, b"\x02hello" + b"\0\0") + frame(0, 0, b" you") + frame(1, 5, TRAILERS)
"""A frame with two bytes of padding, another one, and trailers."""


def received(make: Callable[[Endpoint], Wire], data: bytes) -> Wire:
    """A connection that has received an answer from a socket of this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = make(resolve(f"127.0.0.1:{server.getsockname()[1]}"))
        peer, _ = server.accept()
        with peer:
            wire.open_further()
            wire.keeps_answers = True
            wire.send(0)
            peer.sendall(data)
            try:
                while not select.select([wire], [], [], 60)[0] or not wire.receive():
                    pass
            finally:
                wire.close()
    return wire


def http1(endpoint: Endpoint) -> Wire:
    return Http1Wire(endpoint, [b"x"])


def http2(endpoint: Endpoint) -> Wire:
    return Http2Wire(endpoint, b"", [b"x"], {})


def test_an_answer_is_kept_whole_without_interim_ones() -> None:
    fields, body = split_answer(received(http1, HTTP1).answer)
    assert (fields, body) == ({"content-length": "5", "x-a": "b"}, b"hello")


def test_a_message_is_kept_without_padding() -> None:
    wire = received(http2, HTTP2)
    assert (wire.outcome, wire.answer) == (0, b"hello you")


@pytest.mark.parametrize(("module", "make", "data"), [(http1_wire, http1, HTTP1), (http2_wire, http2, HTTP2)])
def test_a_kept_answer_is_bounded(
    module: object, make: Callable[[Endpoint], Wire], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ANSWER", 8)
    with pytest.raises(BrokenWire, match="too long"):
        received(make, data)
