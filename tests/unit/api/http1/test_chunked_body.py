"""Bodies in chunks: the same as httptools reads, however they are cut, and within bounds."""

from typing import Any

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.api.http1.chunked_body import MAX_CHUNKS_A_CALL, MAX_LINE, ChunkedBody
from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.request_head import HeadError
from penstock.core.errors import TooLarge


def read(
    data: bytes, cuts: list[int] | None = None, limit: int = 1 << 20, overhead: int = 1 << 16
) -> tuple[bytes, int]:
    """The body that ``data`` begins with, and the bytes of it; ``cuts`` are where one read ends and the next begins."""
    body = ChunkedBody(limit, overhead, HttpLimits().body_too_large)
    parts: list[memoryview] = []
    unread, came = b"", b""
    total = at = 0
    for end in [*sorted(cuts or ()), len(data)]:
        came = unread + data[at:end]
        at = max(at, end)
        done = 0
        while not body.is_done and (stop := body.read(came, done, parts)) > done:
            done = stop
        total += done
        unread = came[done:]
    if not body.is_done:
        raise EOFError
    return b"".join(parts), total


def coded(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"05\r\nhello\r\n00\r\n\r\n", b"hello"),
        (b"000000000000000A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"5;name=value;other\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b'5;name="a quoted \xff value"\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"2\r\nhe\r\n3\r\nllo\r\n0\r\nContent-Length: 77\r\nX: y\r\n\r\n", b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    ],
)
def test_bodies_are_framed_by_length_or_chunks(data: bytes, body: bytes) -> None:
    assert read(data + b"GET / HTTP/1.1") == (body, len(data))
    for cut in range(1, len(data)):
        assert read(data, [cut]) == (body, len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5 ;a\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5;a\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;\0\r\nhello\r\n",
        b"5,\r\nhello\r\n",
        b"10000000000000000\r\n",
        b"00000000000000005\r\nhello\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhellohello\r\n0\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n: no name\r\n\r\n",
        b"0\r\na: b\n\r\n",
        b"0\r\n a: b\r\n\r\n",
        b"0\r\na b: c\r\n\r\n",
        b"0\r\na: \0\r\n\r\n",
    ],
)
def test_malformed_bodies_are_refused(data: bytes) -> None:
    with pytest.raises(HeadError) as refused:
        read(data)
    assert refused.value.status == 400


def test_a_chunk_over_the_limit_is_refused_by_its_size() -> None:
    for data in (b"ffffffffffffffff\r\n", b"7fffffff\r\n", b"65\r\n", coded(bytes(90)) + b"b\r\n"):
        parts: list[memoryview] = []
        body = ChunkedBody(100, 1000, HttpLimits().body_too_large)
        with pytest.raises(TooLarge):
            body.read(data.replace(b"0\r\n\r\n", b""), 0, parts)
        assert len(b"".join(parts)) <= 100


@pytest.mark.parametrize(
    "data",
    [
        b"5;" + b"a" * MAX_LINE,
        b"5;" + b"a" * (MAX_LINE - 10) + b"\r\n",
        b"".join(b"1;%b\r\na\r\n" % (b"a" * 100) for _ in range(11)),
        b"0\r\n" + b"a: b\r\n" * 200,
        b"0\r\na: " + b"b" * MAX_LINE,
        b"0\r\na: " + b"b" * 1000 + b"\r\n\r\n",
    ],
    ids=[
        "an extension",
        "a whole extension",
        "extensions",
        "trailer fields",
        "a trailer field",
        "a whole trailer field",
    ],
)
def test_extensions_and_trailer_fields_have_one_bound(data: bytes) -> None:
    for cuts in ([], list(range(0, len(data), 50))):
        with pytest.raises(HeadError) as refused:
            read(data, cuts, overhead=999)
        assert refused.value.status == 431


def test_no_more_than_so_many_chunks_are_read_at_a_time() -> None:
    data = coded(*[b"ab"] * 5000)
    parts: list[memoryview] = []
    body = ChunkedBody(1 << 20, 100, HttpLimits().body_too_large)
    at = steps = 0
    while not body.is_done:
        was = len(parts)
        at = body.read(data, at, parts)
        steps += 1
        assert len(parts) - was <= MAX_CHUNKS_A_CALL
    assert b"".join(parts) == b"ab" * 5000
    assert steps > 3


class Oracle:
    """What httptools reads of a body in chunks."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.whole = 0
        self.error = False
        self._parser = httptools.HttpRequestParser(self)
        head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        try:
            self._parser.feed_data(head + data)
        except httptools.HttpParserError:
            self.error = True

    def on_body(self, body: bytes) -> None:
        if not self.whole:
            self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


SIZES = st.one_of(
    st.integers(0, 20).map(lambda size: b"%x" % size),
    st.sampled_from([b"", b"00", b"0A", b"1;a=b", b"1 ", b" 1", b"1;", b"-1", b"0x1", b"ffffffffffffffff", b"1\t;a"]),
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"", b"\r\n\r\n"])
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=6).map(coded),
        st.tuples(SIZES, ENDS, st.binary(max_size=20), ENDS).map(b"".join),
        st.sampled_from([b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"\r\n", b"a: b\r\n"]),
    ),
    max_size=6,
).map(b"".join)


@given(PIECES, st.lists(st.integers(0, 100), max_size=3))
@example(b"1;a\rb\r\nx\r\n0\r\n\r\n", [])
@example(b"1;a=b:1\r\nx\r\n0\r\n\r\n", [])
@example(b'1;a="b"c\r\nx\r\n0\r\n\r\n', [])
@example(b"1; a\r\nx\r\n0\r\n\r\n", [])
def test_where_a_body_ends_is_where_httptools_sees_it_end(data: bytes, cuts: list[int]) -> None:
    found: Any
    try:
        found = read(data, [cut for cut in cuts if cut < len(data)])
    except (HeadError, TooLarge):
        return  # stricter is safe
    except EOFError:
        assert not Oracle(data).whole
        return
    body, size = found
    oracle = Oracle(data[:size])
    assert (oracle.body, oracle.whole, oracle.error) == (body, 1, False)
    assert not Oracle(data[: size - 1]).whole
