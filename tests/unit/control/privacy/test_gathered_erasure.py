"""Erasure from rows that were gathered for a reference."""

import numpy as np
import pytest

from penstock.control.monitoring.references.gathered_rows import GatheredRows, pack, unpack
from penstock.control.privacy.gathered_erasure import packed_without_subject, rows_without_subject
from penstock.core.erasure import ColumnPlace, SubjectKey
from penstock.monitor.columns import RowValues

NAMES = (["age", "x[1]", "who"], ["y"])
FEATURES = {"age": ColumnPlace("x", 0)}


def rows() -> GatheredRows:
    numbers = np.array([[1, 0.1], [2, 0.2], [3, 0.3]], "<f4").astype(float)
    return GatheredRows(NAMES, RowValues(numbers, (["ann", "bob", "ann"],)), RowValues(numbers[:, :1] * 10, ()))


@pytest.mark.parametrize(
    ("column", "value", "left"),
    [
        ("who", "ann", [2]),
        ("age", "3", [1, 2]),
        ("x[0]", "3", [1, 2]),
        ("x[1]", "0.2", [1, 3]),
        ("output:y", "10", [2, 3]),
        ("y", "10", [1, 2, 3]),
        ("other", "ann", [1, 2, 3]),
    ],
)
def test_rows_without_a_subject(column: str, value: str, left: list[float]) -> None:
    key = SubjectKey(column, value)
    found = rows_without_subject(rows(), key, FEATURES)
    assert found.inputs.numbers[:, 0].tolist() == left
    assert found.outputs.numbers[:, 0].tolist() == [10 * number for number in left]
    changed = packed_without_subject(pack(rows())[1], key, FEATURES)
    if len(left) == 3:
        assert changed is None
    else:
        assert changed is not None and changed[:2] == (3 - len(left), len(left))
        assert unpack(changed[2]).inputs.numbers[:, 0].tolist() == left


def test_no_row_is_left() -> None:
    alone = GatheredRows((["who"], []), RowValues(np.zeros((2, 0)), (["ann", "ann"],)), RowValues(np.zeros((2, 0)), ()))
    assert packed_without_subject(pack(alone)[1], SubjectKey("who", "ann"), {}) == (2, 0, b"")
