"""Content codings: what is inflated, how far, and which coding a client gets."""

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.common import compression
from penstock.api.common.content_coding import encode_body, inflate, preferred_coding
from penstock.api.common.work import LargeWork
from penstock.core.errors import InvalidInput, TooLarge, Unsupported
from penstock.core.slices import no_pause


@given(st.binary(max_size=500), st.sampled_from([b"gzip", b"deflate"]))
def test_compressed_bodies_survive_a_round_trip(body: bytes, coding: bytes) -> None:
    packed = encode_body([body], coding, None)
    assert packed is not None
    assert inflate(b"".join(packed), coding, 500) == body


def test_long_bodies_are_for_threads_and_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "PIECE", 1000)
    monkeypatch.setattr(compression, "INPUT_PIECE", 100)
    pauses = []
    body = b"".join(b"%d," % number for number in range(60_000))
    with pytest.raises(LargeWork):
        encode_body([body], b"gzip", None)
    packed = encode_body([body[:70_000], memoryview(body)[70_000:]], b"gzip", lambda: pauses.append(1))
    assert packed is not None
    with pytest.raises(LargeWork):
        inflate(b"".join(packed), b"gzip", 1 << 20, None)
    assert inflate(b"".join(packed), b"gzip", 1 << 20, lambda: pauses.append(1)) == body
    assert len(pauses) > len(body) // 1000
    assert inflate(gzip.compress(bytes(100_000)), b"gzip", 1 << 20, None) == bytes(100_000)


def test_what_hardly_shrinks_is_left_as_it_is() -> None:
    noise = np.random.default_rng(0).bytes(1 << 20)
    assert encode_body([noise], b"gzip", no_pause) is None
    text = encode_body([noise[: 1 << 17], bytes(1 << 20)], b"gzip", no_pause)
    assert text is not None
    assert sum(map(len, text)) < 1 << 18


@pytest.mark.parametrize("more", [b"", b"x", b"\0" * 8])
def test_data_of_every_length_is_whole_or_refused(more: bytes) -> None:
    plain = np.random.default_rng(1).bytes(3000) + bytes(300_000)
    whole = gzip.compress(plain, mtime=0)
    if more:
        with pytest.raises(InvalidInput):
            inflate(whole + more, b"gzip", 1 << 20)
    else:
        assert inflate(whole, b"gzip", len(plain)) == plain
        for cut in (1, 5, 9, 100):
            with pytest.raises(InvalidInput):
                inflate(whole[:-cut], b"gzip", 1 << 20)


def test_members_of_gzip_follow_each_other() -> None:
    assert inflate(gzip.compress(b"ab", mtime=0) + gzip.compress(b"cd", mtime=0), b"gzip", 4) == b"abcd"


def test_many_members_are_for_threads_and_have_a_bound() -> None:
    empty = gzip.compress(b"", mtime=0)
    assert inflate(empty * compression.INLINE_MEMBERS, b"gzip", 100, None) == b""
    with pytest.raises(LargeWork):
        inflate(empty * (compression.INLINE_MEMBERS + 1), b"gzip", 100, None)
    assert inflate(empty * (compression.MAX_MEMBERS - 1) + gzip.compress(b"ab"), b"gzip", 100) == b"ab"
    with pytest.raises(TooLarge, match="more than 16384 gzip members"):
        inflate(empty * (compression.MAX_MEMBERS + 1), b"gzip", 100)


_EMPTY_BLOCKS = b"\x00\x00\x00\xff\xff" * (1 << 15)
LONG_AND_EMPTY = {
    "blocks": (b"deflate", b"\x78\x9c" + _EMPTY_BLOCKS + b"\x03\x00\x00\x00\x00\x01"),
    "name": (b"gzip", b"\x1f\x8b\x08\x08" + bytes(5) + b"\x03" + b"a" * (1 << 18) + b"\0\x03" + bytes(9)),
}


@pytest.mark.parametrize("name", LONG_AND_EMPTY)
def test_what_is_long_is_for_threads_though_it_inflates_to_nothing(name: str) -> None:
    coding, body = LONG_AND_EMPTY[name]
    assert inflate(body, coding, 100) == b""
    with pytest.raises(LargeWork):
        inflate(body, coding, 100, None)


@pytest.mark.parametrize("coding", [b"", b"identity", b" Identity "])
def test_bodies_without_a_coding_stay_unchanged(coding: bytes) -> None:
    assert inflate(b"plain", coding, 100) == b"plain"


def test_a_bomb_is_stopped_while_it_unfolds() -> None:
    with pytest.raises(TooLarge, match="over the limit of 1000 bytes"):
        inflate(gzip.compress(bytes(50_000_000)), b"gzip", 1000)
    with pytest.raises(TooLarge):
        inflate(gzip.compress(b"x" * 600) * 2, b"gzip", 1000)


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"abc", mtime=0)[:-3], zlib.compress(b"abc")])
def test_broken_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        inflate(body, b"gzip", 1000)


def test_other_codings_are_not_offered() -> None:
    with pytest.raises(Unsupported, match="gzip, deflate or no encoding"):
        inflate(b"", b"br", 1000)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"gzip, deflate, br", b"gzip"),
        (b"gzip;q=0.2, deflate;q=0.8", b"deflate"),
        (b"gzip;q=0, deflate;q=0", b""),
        (b"identity", b""),
        (b"identity;q=1, gzip;q=0.5", b""),
        (b"br", b""),
        (b"*", b"gzip"),
        (b"*;q=0", b""),
        (b"gzip;q=nonsense", b""),
    ],
)
def test_the_coding_that_a_client_prefers(header: bytes, coding: bytes) -> None:
    assert preferred_coding(header) == coding
