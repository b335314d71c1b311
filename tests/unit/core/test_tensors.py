"""Raw tensor bytes in both directions, for every datatype."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from penstock.core.errors import InvalidInput
from penstock.core.tensors import NUMPY_TYPES, bytes_from_raw, element_count, from_raw, held_bytes, to_raw

FIXED = [name for name in NUMPY_TYPES if name != "BYTES"]
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(st.data(), st.sampled_from(FIXED), SHAPES)
def test_fixed_width_tensors_survive_the_wire(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(npst.arrays(NUMPY_TYPES[datatype], shape))
    back = from_raw("x", datatype, shape, to_raw(datatype, array))
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()


@given(st.lists(st.text()))
def test_texts_survive_the_wire(texts: list[str]) -> None:
    array = np.array(texts, object)
    assert bytes_from_raw("x", len(texts), to_raw("BYTES", array)).tolist() == texts


@given(st.lists(st.text(st.characters(max_codepoint=127))))
def test_texts_count_as_what_they_hold(texts: list[str]) -> None:
    assert held_bytes(np.array(texts, object)) == 8 * len(texts) + len("".join(texts).encode())
    assert held_bytes(np.zeros((2, 3), np.float32)) == 24


@given(st.binary(max_size=64), st.integers(0, 8))
def test_any_bytes_are_texts_or_refused(raw: bytes, count: int) -> None:
    try:
        items = bytes_from_raw("x", count, raw)
    except InvalidInput:
        return
    assert to_raw("BYTES", items) == raw


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "says"),
    [
        ("FP32", [2], b"\0" * 7, "needs 8 bytes, got 7"),
        ("FP32", [2], b"\0" * 9, "needs 8 bytes, got 9"),
        ("FLOAT", [1], b"\0" * 4, "unknown datatype 'FLOAT'"),
        ("FP32", [-1], b"", "impossible shape"),
        ("FP32", [1 << 40, 1 << 40], b"", "impossible shape"),
        ("BOOL", [2], b"\1\2", "a byte other than 0 and 1"),
        ("BYTES", [1], b"\5\0\0\0hi", "ends inside element 0"),
        ("BYTES", [1], b"\1\0\0\0hi", "1 bytes after its last"),
        ("BYTES", [9], b"\0\0\0\0", "needs 9 elements"),
        ("BYTES", [1], b"\1\0\0\0\xff", "not UTF-8"),
    ],
)
def test_what_does_not_fit_is_refused(datatype: str, shape: list[int], raw: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        from_raw("x", datatype, shape, raw)


def test_raw_tensors_are_views_not_copies() -> None:
    raw = np.arange(4, dtype="<f4").tobytes()
    array: Any = from_raw("x", "FP32", [2, 2], raw)
    assert np.shares_memory(array, np.frombuffer(raw, np.uint8))


def test_a_scalar_has_one_element() -> None:
    assert element_count("x", []) == 1


def test_texts_take_their_shape() -> None:
    array = np.array([["a", ""], ["bc", "d"]], object)
    back = from_raw("x", "BYTES", [2, 2], to_raw("BYTES", array))
    assert back.tolist() == array.tolist()
