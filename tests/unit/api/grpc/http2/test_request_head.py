"""Which field lists are a request or its trailers (RFC 9113 section 8), and what a request then says."""

import pytest

from penstock.api.grpc.http2.abuse_limits import LARGE_BLOCK_STEPS, PER_SECOND, SOON_NS, AbuseLimits
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, Http2StreamError
from penstock.api.grpc.http2.request_head import NO_LENGTH, Field, check_trailers, request_head

POST: list[Field] = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a")]
SECOND = 1_000_000_000


def test_a_request_is_read_from_its_fields() -> None:
    head = request_head(
        [*POST, (b":authority", b"x"), (b"host", b"x"), (b"a", b" 1\t"), (b"a", b"2"), (b"content-length", b"7")]
    )
    assert (head.method, head.path, head.content_length, head.too_large) == (b"POST", "/a", 7, False)
    assert head.field_list == ((b"host", b"x"), (b"a", b"1"), (b"a", b"2"), (b"content-length", b"7"))
    assert head.fields[b"a"] == b"2"


@pytest.mark.parametrize(
    ("fields", "too_large"),
    [
        (POST, False),
        ([*POST, (b"host", b"x")], False),  # no :authority to differ from
        ([*POST, (b"te", b"Trailers")], False),
        ([*POST, (b"content-length", b"3"), (b"content-length", b"3")], False),
        ([(b":method", b"CONNECT"), (b":authority", b"x:1")], False),
        ([(b":method", b"POST")], True),  # the rest was not kept
    ],
)
def test_valid_requests_are_read(fields: list[Field], too_large: bool) -> None:
    head = request_head(fields, too_large)
    assert head.method == fields[0][1]
    assert head.too_large is too_large
    assert head.content_length in (3, NO_LENGTH)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "a method, a scheme and a path"),
        (POST[:2], "a method, a scheme and a path"),
        (POST[1:], "a method, a scheme and a path"),
        ([POST[0], POST[2]], "a method, a scheme and a path"),
        ([*POST[:2], (b":path", b"")], "a method, a scheme and a path"),
        ([*POST, (b":status", b"200")], "a method, a scheme and a path"),
        ([(b":method", b"CONNECT")], "a method, a scheme and a path"),
        ([(b":method", b"CONNECT"), (b":authority", b"x"), POST[2]], "a method, a scheme and a path"),
        ([(b":method", b"CONNECT"), (b":authority", b"x"), POST[1]], "a method, a scheme and a path"),
        ([*POST, POST[0]], "out of place"),
        ([(b"a", b"1"), *POST], "out of place"),
        ([*POST, (b":authority", b"x"), (b"host", b"y")], "differ"),
        ([*POST, (b":authority", b"x"), (b"host", b"y"), (b"host", b"x")], "differ"),
        ([*POST, (b"host", b"x"), (b"host", b"y")], "differ"),
        ([*POST, (b":authority", b"")], "the host is empty"),
        ([*POST, (b"Name", b"1")], "is not a field name"),
        ([*POST, (b"", b"1")], "is not a field name"),
        ([*POST, (b"a b", b"1")], "is not a field name"),
        ([*POST, (b"a", b"1\r\nb: 2")], "invalid character"),
        ([*POST, (b"a", b"\0")], "invalid character"),
        ([*POST, (b"connection", b"close")], "not allowed in HTTP/2"),
        ([*POST, (b"transfer-encoding", b"chunked")], "not allowed in HTTP/2"),
        ([*POST, (b"te", b"gzip")], "not allowed in HTTP/2"),
        ([*POST, (b"content-length", b"1"), (b"content-length", b"2")], "not a number"),
        ([*POST, (b"content-length", b"-1")], "not a number"),
        ([*POST, (b"content-length", b"1" * 19)], "not a number"),
    ],
)
def test_malformed_requests_are_refused(fields: list[Field], reason: str) -> None:
    with pytest.raises(Http2StreamError, match=reason) as caught:
        request_head(fields)
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


def test_trailers_have_no_pseudo_header_fields() -> None:
    fields: list[Field] = [(b"grpc-status", b" 0 ")]
    check_trailers(fields)
    with pytest.raises(Http2StreamError, match="pseudo-header"):
        check_trailers([(b":path", b"/a")])
    with pytest.raises(Http2StreamError, match="is not a field name"):
        check_trailers([*fields, (b"A", b"1")])
    assert fields == [(b"grpc-status", b" 0 ")]  # they are checked, and left as they are


def test_large_field_blocks_are_paid_for_by_time() -> None:
    limits = AbuseLimits(100, 0)
    for _ in range(LARGE_BLOCK_STEPS):
        limits.large_block_step(0)
    with pytest.raises(Http2ConnectionError, match="header fields"):
        limits.large_block_step(0)
    limits = AbuseLimits(100, 0)
    for step in range(2 * LARGE_BLOCK_STEPS):
        limits.large_block_step(int(step * SECOND / PER_SECOND))


def resets_until_too_many(lived_ns: int) -> int:
    limits = AbuseLimits(100, 0)
    for count in range(1000):
        try:
            limits.stream_reset(lived_ns, 0)
        except Http2ConnectionError:
            return count
    return 1000


def test_the_longer_a_stream_has_lived_the_less_its_reset_costs() -> None:
    assert [resets_until_too_many(lived) for lived in (0, SOON_NS - 1, SOON_NS)] == [20, 200, 1000]


def test_a_refused_stream_costs_less_than_a_malformed_one() -> None:
    limits = AbuseLimits(100, 0)
    for _ in range(100):
        limits.stream_refused(0)
    with pytest.raises(Http2ConnectionError, match="given up"):
        limits.stream_refused(0)
