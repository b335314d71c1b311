"""gRPC messages in the data of a call: cut at their prefixes, inflated, and refused."""

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.common.parts import SMALL, size_of
from penstock.api.grpc.framing import LARGE, MessageBuffer, MessageReader, add_prefix, in_parts, inflate
from penstock.core.errors import Fault, Internal, TooLarge
from tests.calls import join_payload

MAX = 1000


def read_all(data: bytes, cuts: list[int], encoding: str = "identity", most: int = MAX) -> list[bytes]:
    """The messages of data that comes in pieces."""
    reader, found = MessageReader(most), []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(edges):
        before = len(reader)
        reader.feed(data[start:stop])
        assert len(reader) == before + stop - start
        while True:
            announced = reader.has_message
            cut = reader.next()
            assert announced == (cut is not None)
            if cut is None:
                break
            is_compressed, message = cut
            found.append(inflate(message, encoding, most, None) if is_compressed else message)
    assert not reader
    return found


@given(st.lists(st.binary(max_size=MAX)), st.lists(st.integers(0)))
def test_messages_are_cut_wherever_the_data_is(messages: list[bytes], cuts: list[int]) -> None:
    assert read_all(b"".join(map(add_prefix, messages)), cuts) == messages


@given(st.lists(st.sampled_from([0, 1, LARGE - 1, LARGE, 3 * LARGE]), max_size=5), st.lists(st.integers(0), max_size=9))
def test_large_messages_are_cut_as_small_ones_are(sizes: list[int], cuts: list[int]) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    assert read_all(b"".join(map(add_prefix, messages)), cuts, most=3 * LARGE) == messages


def test_a_large_message_over_the_limit_is_refused_before_it_has_come() -> None:
    reader = MessageReader(2 * LARGE)
    reader.feed(add_prefix(b"a") + b"\0" + (2 * LARGE + 1).to_bytes(4))
    assert reader.next() == (False, b"a")
    with pytest.raises(TooLarge):
        reader.next()


@given(st.lists(st.sampled_from([0, 1, SMALL - 1, SMALL, LARGE]), max_size=9))
def test_parts_are_put_together_as_far_as_they_are_small(sizes: list[int]) -> None:
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    found = in_parts(parts, sum(map(len, parts)))
    assert join_payload(found) == b"".join(parts)
    assert isinstance(found, bytes) == (size_of(found) < LARGE)
    if isinstance(found, list):
        assert all(found)
        assert sum(1 for item in found if len(item) >= SMALL) >= sum(1 for item in parts if len(item) >= SMALL)


@given(st.lists(st.tuples(st.binary(max_size=MAX), st.booleans())), st.sampled_from(["gzip", "deflate"]))
def test_each_message_says_whether_it_is_compressed(messages: list[tuple[bytes, bool]], encoding: str) -> None:
    data = b""
    for message, is_small in messages:
        small = (gzip.compress(message) if encoding == "gzip" else zlib.compress(message)) if is_small else message
        data += bytes((is_small,)) + len(small).to_bytes(4) + small
    assert read_all(data, [3], encoding) == [message for message, _ in messages]


@pytest.mark.parametrize(
    ("data", "encoding", "kind"),
    [
        (b"\2\0\0\0\0", "identity", Internal),
        (b"\0" + (MAX + 1).to_bytes(4), "identity", TooLarge),
        (b"\0\xff\xff\xff\xff", "identity", TooLarge),
        (b"\1\0\0\0\1x", "identity", Internal),
        (b"\1\0\0\0\1x", "gzip", Internal),
        (b"\1" + len(gzip.compress(bytes(MAX + 1))).to_bytes(4) + gzip.compress(bytes(MAX + 1)), "gzip", TooLarge),
    ],
    ids=["a flag of 2", "too long", "4 GiB", "compressed by nothing", "no gzip", "too long once inflated"],
)
def test_malformed_messages_are_refused(data: bytes, encoding: str, kind: type[Fault]) -> None:
    with pytest.raises(kind):
        read_all(data, [], encoding)
    buffer = MessageBuffer()
    buffer.add(data)
    with pytest.raises((kind, Internal)):
        buffer.message(encoding, MAX, None)
