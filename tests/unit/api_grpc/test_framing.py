"""gRPC messages in the data of a call: cut at their prefixes, inflated, and refused."""

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.grpc.framing import MessageBuffer, MessageReader, framed, inflated
from penstock.core.errors import Fault, Internal, TooLarge

MAX = 1000


def read_all(data: bytes, cuts: list[int], encoding: str = "identity") -> list[bytes]:
    """The messages of data that comes in pieces."""
    reader, found = MessageReader(MAX), []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(edges):
        reader.feed(data[start:stop])
        while True:
            announced = reader.has_message
            cut = reader.next()
            assert announced == (cut is not None)
            if cut is None:
                break
            is_compressed, message = cut
            found.append(inflated(message, encoding, MAX, None) if is_compressed else message)
    assert not reader
    return found


@given(st.lists(st.binary(max_size=MAX)), st.lists(st.integers(0)))
def test_messages_are_cut_wherever_the_data_is(messages: list[bytes], cuts: list[int]) -> None:
    assert read_all(b"".join(map(framed, messages)), cuts) == messages


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
def test_what_is_no_message(data: bytes, encoding: str, kind: type[Fault]) -> None:
    with pytest.raises(kind):
        read_all(data, [], encoding)
    buffer = MessageBuffer()
    buffer.add(data)
    with pytest.raises((kind, Internal)):
        buffer.message(encoding, MAX, None)
