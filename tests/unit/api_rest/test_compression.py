"""Content codings: what is inflated, how far, and which coding a client gets."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.rest.compression import deflated, inflate, preferred
from penstock.core.errors import InvalidInput, TooLarge, Unsupported


@given(st.binary(max_size=500), st.sampled_from([b"gzip", b"deflate"]))
def test_round_trip(body: bytes, coding: bytes) -> None:
    assert inflate(deflated(body, coding), coding, 500) == body


def test_members_of_gzip_follow_each_other() -> None:
    assert inflate(gzip.compress(b"ab", mtime=0) + gzip.compress(b"cd", mtime=0), b"gzip", 4) == b"abcd"


@pytest.mark.parametrize("coding", [b"", b"identity", b" Identity "])
def test_no_coding(coding: bytes) -> None:
    assert inflate(b"plain", coding, 100) == b"plain"


def test_a_bomb_is_stopped_while_it_unfolds() -> None:
    with pytest.raises(TooLarge, match="over the limit of 1000 bytes"):
        inflate(gzip.compress(bytes(50_000_000)), b"gzip", 1000)
    with pytest.raises(TooLarge):
        inflate(gzip.compress(b"x" * 600) * 2, b"gzip", 1000)


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"abc", mtime=0)[:-3], zlib.compress(b"abc")])
def test_broken_bodies(body: bytes) -> None:
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
def test_the_coding_a_client_likes_best(header: bytes, coding: bytes) -> None:
    assert preferred(header) == coding
