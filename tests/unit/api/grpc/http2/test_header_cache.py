"""Header blocks are remembered as long as they mean the same, and never for longer."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, Http2StreamError
from penstock.api.grpc.http2.header_cache import MAX_BLOCK_BYTES, MAX_BLOCKS, HeaderDecoder
from penstock.api.grpc.http2.request_head import Http2RequestHead

Fields = list[tuple[str, str]]

PSEUDO = [(":method", "POST"), (":scheme", "http"), (":path", "/a")]
USUAL = [*PSEUDO, ("content-type", "application/grpc"), ("te", "trailers")]

REQUESTS: st.SearchStrategy[Fields] = st.builds(
    lambda path, more: [*PSEUDO[:2], (":path", path), *USUAL[3:], *more],
    st.sampled_from(["/a", "/b"]),
    st.lists(
        st.tuples(st.sampled_from(["x", "y", ":odd", "Upper"]), st.sampled_from(["1", "2", "3" * 200])), max_size=2
    ),
)


def decoder() -> HeaderDecoder:
    return HeaderDecoder(1 << 14, lambda head: head)


def fields_of(by: HeaderDecoder, block: bytes) -> list[tuple[bytes, bytes]]:
    by.begin(block)
    while not by.is_done:
        by.step()
    return by.fields()


def request_of(by: HeaderDecoder, block: bytes) -> Http2RequestHead:
    """As a connection does it: what is remembered is not decoded again."""
    if block in by.known:
        return by.known[block]
    fields_of(by, block)
    return by.request()


def said(by: HeaderDecoder, block: bytes) -> object:
    try:
        head = request_of(by, block)
    except Http2StreamError as error:
        return error.code
    return head.method, head.path, head.field_list


@given(st.lists(st.tuples(REQUESTS, st.booleans(), st.sampled_from([None, 0, 100, 4096]), st.booleans()), max_size=12))
def test_a_remembered_block_says_what_it_says_to_a_plain_decoder(
    requests: list[tuple[Fields, bool, int | None, bool]],
) -> None:
    encoder, remembering, plain = hpack.Encoder(), decoder(), decoder()
    for fields, has_trailers, table_size, huffman in requests:
        if table_size is not None:
            encoder.header_table_size = table_size
        block = encoder.encode(fields, huffman=huffman)
        plain.known = {}
        assert said(remembering, block) == said(plain, block)
        if has_trailers:
            trailers = encoder.encode([("z", fields[2][1])])
            assert fields_of(remembering, trailers) == fields_of(plain, trailers)


def test_a_block_that_leaves_the_table_as_it_is_is_read_once() -> None:
    encoder, reader = hpack.Encoder(), decoder()
    first, second = encoder.encode(USUAL), encoder.encode(USUAL)
    assert first != second
    assert reader.known == {}
    request_of(reader, first)
    assert reader.known == {}
    head = request_of(reader, second)
    assert request_of(reader, second) is head is reader.known[second]
    request_of(reader, encoder.encode([*USUAL, ("x", "1")]))  # changes the table
    assert reader.known == {}


def test_connections_share_nothing() -> None:
    """The same bytes mean what their own connection's table says."""
    block = bytes([0x80 | 62])  # the newest entry of the dynamic table
    for value in (b"1", b"2"):
        reader, entry = decoder(), b"\x40\x01x\x01" + value
        request_of(reader, hpack.Encoder().encode(PSEUDO) + entry)
        assert fields_of(reader, block) == [(b"x", value)]
    with pytest.raises(Http2ConnectionError):
        fields_of(decoder(), block)


def test_what_is_remembered_is_bounded() -> None:
    reader = decoder()
    for number in range(3 * MAX_BLOCKS):
        request_of(reader, hpack.Encoder().encode(PSEUDO[:2]) + b"\x04\x02/a" + b"\x00\x01x\x03%03d" % number)
        assert 0 < len(reader.known) <= MAX_BLOCKS
    known = dict(reader.known)
    long = b"a" * MAX_BLOCK_BYTES
    request_of(reader, hpack.Encoder().encode(PSEUDO[:2]) + b"\x04\x02/a" + b"\x00\x01x\x7f\x81\x1f" + long)
    assert reader.known == known


def test_the_application_reads_a_head_once() -> None:
    read: list[Http2RequestHead] = []

    def interpret(head: Http2RequestHead) -> Http2RequestHead:
        read.append(head)
        return head

    reader, encoder = HeaderDecoder(1 << 14, interpret), hpack.Encoder()
    blocks = [encoder.encode(USUAL) for _ in range(4)]
    for block in blocks:
        request_of(reader, block)
    assert len(read) == 2  # the first block changes the table, the others are alike


@pytest.mark.parametrize("block", [b"\xff\xff\xff", b"\xbf", b"\x00\x05abc", b"\x3f\xff\xff\xff\xff\x7f"])
def test_malformed_header_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(Http2ConnectionError) as caught:
        fields_of(decoder(), block)
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR
