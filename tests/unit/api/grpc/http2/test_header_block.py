"""Header blocks are cut into slices that mean what the whole means, however the block comes."""

from itertools import pairwise

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.grpc.http2.frames import Http2ConnectionError
from penstock.api.grpc.http2.header_block import HeaderBlock
from penstock.api.grpc.http2.header_cache import HeaderDecoder
from tests.budgets import examples

MOST = 4200
"""More than the dynamic table holds."""
NAMES = st.sampled_from([b"a", b"x-trace", b"n" * 150, b"n" * 9000])
VALUES = st.sampled_from([b"", b"1", b"v" * 60, b"v" * 300, b"v" * 9000])
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), min_size=1, max_size=12)
LAST = [(b"last", b"of all")]


def decoder() -> HeaderDecoder:
    return HeaderDecoder(MOST, lambda head: head)


def encoded(encoder: hpack.Encoder, fields: list[tuple[bytes, bytes, bool]], huffman: bool) -> bytes:
    """A block; the last of each field says whether it may go into the table."""
    encodable = [
        hpack.HeaderTuple(name, value) if kept else hpack.NeverIndexedHeaderTuple(name, value)
        for name, value, kept in fields
    ]
    return bytes(encoder.encode(encodable, huffman=huffman))


def decoded(by: HeaderDecoder, pieces: list[bytes]) -> tuple[bool, list[tuple[bytes, bytes]]]:
    """Whether a block that comes in pieces is too large, and what is kept of it."""
    by.begin(pieces[0], len(pieces) == 1)
    for number, piece in enumerate(pieces):
        if number:
            by.append(piece, number == len(pieces) - 1)
        while not by.is_done and not by.is_starved:
            by.step()
    assert by.is_done
    return by.too_large, list(by.fields())


@settings(max_examples=examples(300), deadline=None)
@given(blocks=st.lists(FIELDS, min_size=1, max_size=3), huffman=st.booleans(), data=st.data())
def test_pieces_mean_what_the_whole_means(
    blocks: list[list[tuple[bytes, bytes, bool]]], huffman: bool, data: st.DataObject
) -> None:
    encoder, at_once, in_pieces = hpack.Encoder(), decoder(), decoder()
    for fields in blocks:
        block = encoded(encoder, fields, huffman)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(block)), max_size=8)))
        pieces = [block[start:stop] for start, stop in pairwise([0, *cuts, len(block)])]
        assert decoded(in_pieces, pieces) == decoded(at_once, [block])
    block = bytes(encoder.encode(LAST))  # the tables are the same
    assert decoded(in_pieces, [block]) == decoded(at_once, [block]) == (False, LAST)


@pytest.mark.parametrize("pieces", [
    [b"\x00\x05abc", b"d"],  # it ends within a name
    [b"\x40\x01a", b""],  # and before a value
    [b"\x40\x01a\x7f", b""],
    [b"\x40\x7f" + b"\xff" * 4, b"\xff\xff"],  # a length without an end
    [b"\x40\x7f\xff\x7f" + b"n" * 5000, b"n"],  # within a name that is left out
    [b"\x40\x7f\x81\x26" + b"n" * 4992, b""],  # and before its value
])  # fmt: skip
def test_a_truncated_field_makes_the_block_malformed(pieces: list[bytes]) -> None:
    with pytest.raises(Http2ConnectionError):
        decoded(decoder(), pieces)


def test_little_of_a_block_is_kept() -> None:
    """However long a string is, no more of it waits than would be decoded."""
    block = HeaderBlock(b"\x00\x01a\x7f\x81\xff\xff\x04", 1000, is_whole=False)  # a value of 10 MB
    kept = 0
    for _ in range(1000):
        while not block.is_starved:
            block.slice(4096)
        block.append(b"v" * 100, False)
        kept = max(kept, len(block._block))
    assert kept <= 1200
