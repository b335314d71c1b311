"""Numbers of variable length in protobuf messages, alone and many at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.protobuf_wire import (
    MAX_VARINT,
    MalformedMessage,
    encode_field,
    encode_varint,
    read_varint,
    read_varints,
    varints_at,
)

NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 127, 128, 2**14 - 1, 2**14, 2**63, 2**64 - 1])


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, b"\0"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (150, b"\x96\x01"),
        (2**14, b"\x80\x80\x01"),
        (2**64 - 1, b"\xff" * 9 + b"\x01"),
    ],
)
def test_seven_bits_go_in_a_byte_the_lowest_first(number: int, encoded: bytes) -> None:
    assert encode_varint(number) == encoded
    assert read_varint(b"\xff" + encoded + b"\xff", 1, len(encoded) + 2) == (number, len(encoded) + 1)
    assert read_varint(memoryview(encoded), 0, len(encoded)) == (number, len(encoded))


@pytest.mark.parametrize(("data", "stop"), [(b"", 0), (b"\x80", 1), (b"\x80\x01", 1), (b"\x80" * 10 + b"\x01", 11)])
def test_a_number_without_an_end_is_malformed(data: bytes, stop: int) -> None:
    with pytest.raises(MalformedMessage, match="cut off or too long"):
        read_varint(data, 0, stop)


def test_a_field_has_a_tag_and_a_length() -> None:
    assert encode_field(1, b"hi") == b"\x0a\x02hi"
    assert encode_field(16, b"x" * 128)[:4] == b"\x82\x01\x80\x01"


@given(st.lists(NUMBERS, max_size=20), st.sampled_from([b"", b"\x80", b"\xff\xff"]))
def test_many_numbers_are_read_as_far_as_they_are_complete(numbers: list[int], rest: bytes) -> None:
    data = b"".join(map(encode_varint, numbers))
    values, size = read_varints(np.frombuffer(data + rest, np.uint8))
    assert values.dtype == np.uint64
    assert (values.tolist(), size) == (numbers, len(data))


@pytest.mark.parametrize("length", [MAX_VARINT, MAX_VARINT + 1])
def test_the_longest_number_has_ten_bytes(length: int) -> None:
    data = np.frombuffer(b"\x80" * (length - 1) + b"\x01\x05", np.uint8)
    if length > MAX_VARINT:
        with pytest.raises(MalformedMessage, match="a number is too long"):
            read_varints(data)
    else:
        assert read_varints(data)[0].tolist() == [1 << 63, 5]


def test_numbers_are_read_between_other_bytes() -> None:
    data = np.frombuffer(b"\x40\x96\x01\x40\x05", np.uint8)
    assert varints_at(data, np.array([1, 4]), np.array([2, 4])).tolist() == [150, 5]
