"""Masks of tensors: by name, by index, by a part of a name, and by patterns of values."""

from typing import Any

import numpy as np
import pytest

from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns
from penstock.monitor.value_masks import MAX_SEARCHED_CHARACTERS, MAX_TEXT_CHARACTERS, NO_MASK, ValueMask

SPECS = [TensorSpec("x", "FP32", (-1, 3)), TensorSpec("word", "BYTES", (-1, 1))]
NUMBERS = Tensor("x", "FP32", np.array([[1, 2, 3], [4, 5, 6]], "<f4"))


def words(*values: Any) -> Tensor:
    data = np.empty((len(values), 1), object)
    data[:, 0] = values
    return Tensor("word", "BYTES", data)


def mask(*masked: str, patterns: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> ValueMask:
    specs = SPECS[:1] if names else SPECS
    return ValueMask(input_columns(specs, True, list(names)), masked, patterns)


@pytest.mark.parametrize(
    ("masked", "hidden"),
    [
        (("x[1]",), [1]),
        (("x[*]",), [0, 1, 2]),
        (("x[0]", "x[2]"), [0, 2]),
        (("*[1]",), [1]),
        (("y", "x[3]", "x[", "X[1]"), []),
    ],
)
def test_columns(masked: tuple[str, ...], hidden: list[int]) -> None:
    data = mask(*masked)(NUMBERS)
    assert data is not None
    assert np.flatnonzero(np.isnan(data).all(axis=0)).tolist() == hidden
    assert not np.isnan(NUMBERS.data).any()


@pytest.mark.parametrize("masked", ["income", "x[1]", "inc*", "*come"])
def test_features(masked: str) -> None:
    data = mask(masked, names=("age", "income", "years"))(NUMBERS)
    assert data is not None and np.isnan(data[0]).tolist() == [False, True, False]


@pytest.mark.parametrize("masked", ["x", "*"])
def test_a_tensor(masked: str) -> None:
    assert mask(masked)(NUMBERS) is None
    assert [tensor.name for tensor in mask(masked).apply([NUMBERS, words("a")])] == ([] if masked == "*" else ["word"])
    assert mask(masked).hides("x") and mask("x[1]").hides("x") and not mask("x").hides("word")


def test_patterns_of_values() -> None:
    tensor = words("mail a@b.c", b"from 10.0.0.1", "nothing")
    data = mask(patterns=("email", "ip"))(tensor)
    assert data is not None and data.ravel().tolist() == ["mail ***", "from ***", "nothing"]
    assert tensor.data.ravel().tolist() == ["mail a@b.c", b"from 10.0.0.1", "nothing"]
    assert mask(patterns=("email",))(NUMBERS) is NUMBERS.data


def test_long_texts_are_not_searched() -> None:
    data = mask(patterns=("email",))(words("a" * (MAX_TEXT_CHARACTERS + 1), "b"))
    assert data is not None and data.ravel().tolist() == ["***", "b"]
    assert mask(patterns=("email",))(words(*["a" * (1 << 14)] * (1 + MAX_SEARCHED_CHARACTERS // (1 << 14)))) is None


def test_without_a_mask_nothing_is_hidden() -> None:
    assert NO_MASK.inputs.is_empty and NO_MASK.outputs.apply([NUMBERS])[0].data is NUMBERS.data
