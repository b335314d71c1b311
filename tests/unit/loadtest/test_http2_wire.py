"""What the HTTP/2 connection of load tests writes and reads, without a socket."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.loadtest.http2_wire import grpc_body, grpc_head, grpc_status
from penstock.loadtest.wire import BrokenWire, Endpoint

ENDPOINT = Endpoint(2, ("127.0.0.1", 1), "host:1")


@given(st.text("abc", min_size=1, max_size=5000))
def test_a_head_is_read_by_another_implementation(token: str) -> None:
    decoded = hpack.Decoder(max_header_list_size=1 << 20).decode(grpc_head(ENDPOINT, "/s/m", {"x": token}))
    assert {str(name): str(value) for name, value in decoded} == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/s/m",
        ":authority": "host:1",
        "te": "trailers",
        "content-type": "application/grpc",
        "x": token,
    }


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"grpc-status": "0"}, 0),
        ({"grpc-status": "8", "grpc-message": "full"}, 8),
        ({":status": "200", "content-type": "application/grpc", "grpc-status": "5"}, 5),
        ({":status": "503", "content-type": "text/html"}, 14),
        ({":status": "401"}, 16),
        ({":status": "418"}, 2),
        ({}, 2),
    ],
)
def test_the_status_of_a_call(fields: dict[str, str], status: int) -> None:
    assert grpc_status(hpack.Encoder().encode(fields.items())) == status


def test_a_malformed_block_breaks_the_connection() -> None:
    with pytest.raises(BrokenWire):
        grpc_status(b"\xff\xff\xff\xff\xff\xff\xff")


def test_a_message_has_the_prefix_of_grpc() -> None:
    assert grpc_body(b"abc") == b"\x00\x00\x00\x00\x03abc"
