"""NumPy's files: what NumPy writes is read, and nothing else; nothing is unpickled or allocated on a promise."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import FrameLimits
from penstock.core.frames.numpy_file import read_array, write_array

DTYPES = ["f2", "<f4", ">f4", "f8", "i1", "<i8", ">i8", "u8", "?"]


def saved(array: Any) -> bytes:
    """The bytes that NumPy saves."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@given(st.data(), st.sampled_from(DTYPES), npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
@settings(max_examples=60)
def test_arrays_survive_a_round_trip(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(npst.arrays(dtype, shape))
    for form in (array, np.asfortranarray(array)):
        back = read_array(saved(form))
        assert back.dtype == array.dtype.newbyteorder("=")
        assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert read_array(write_array(array)).tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


def test_texts_survive_a_round_trip() -> None:
    texts = np.array([["a", "\u00e9"], ["", "x\ny"]], object)
    assert read_array(write_array(texts)).tolist() == texts.tolist()
    assert read_array(saved(np.array([b"a", b"bc"]))).tolist() == ["a", "bc"]


def with_header(header: str) -> bytes:
    """A file with this header, and no data."""
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (saved(np.array([{}], object)), "plain numbers"),
        (saved(np.zeros(2, [("a", "f4")])), "plain numbers"),
        (with_header("{'descr': '<U0', 'fortran_order': False, 'shape': (2,)}\n"), "plain numbers"),
        (saved(np.zeros(3))[:-1], "3 values, and has 23 bytes"),
        (saved(np.zeros(3)) + b"x", "3 values, and has 25 bytes"),
        (saved(np.array([b"\xff"])), "not UTF-8"),
        (b"", "not a .npy file"),
        (b"PK\x03\x04", "not a .npy file"),
        (b"\x80\x04\x95", "not a .npy file"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,)}\n"), "has 0 bytes"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (2, -1)}\n"), "impossible shape"),
        (with_header("(" * 3000 + ")" * 3000), "not a .npy file"),
        (with_header("[" * 60000), "not a .npy file"),
        (b"\x93NUMPY\x09\x00" + saved(np.zeros(3))[8:], "plain numbers"),
    ],
)
def test_only_plain_arrays_are_accepted(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_array(data)


def test_arrays_are_bounded() -> None:
    with pytest.raises(InvalidInput, match="3 values"):
        read_array(saved(np.zeros(3)), FrameLimits(cells=2))
