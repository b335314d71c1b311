"""Rows that were gathered: packed within bounds, drawn by chance that is everywhere the same, and put in turns."""

import json
import zlib

import numpy as np
import pytest

from penstock.control.monitoring.references.gathered_rows import (
    GatheredRows,
    concatenate_gathered,
    draw_rows,
    interleave,
    learn,
    pack,
    seed_of,
    unpack,
)
from penstock.monitor.columns import RowValues
from penstock.monitor.confidence import ConfidenceHistogram

NAMES = (["x", "colour"], ["y"])


def rows(number: int, first: float = 0.0, sure: tuple[int, ...] | None = None) -> GatheredRows:
    values = first + np.arange(number, dtype=float)
    inputs = RowValues(values[:, None], ([f"c{int(value) % 3}" for value in values],))
    confidence = None if sure is None else ConfidenceHistogram(2, sure)
    return GatheredRows(NAMES, inputs, RowValues(-values[:, None], ()), confidence)


def values(found: GatheredRows) -> list[float]:
    np.testing.assert_array_equal(found.inputs.numbers, -found.outputs.numbers)
    assert [f"c{int(number) % 3}" for number in found.inputs.numbers[:, 0]] == list(found.inputs.labels[0])
    return [float(number) for number in found.inputs.numbers[:, 0]]


def test_rows_are_unpacked_as_they_were() -> None:
    number, packed = pack(rows(7, sure=(3, 4)))
    found = unpack(packed)
    assert (number, values(found), found.confidence) == (7, values(rows(7)), ConfidenceHistogram(2, (3, 4)))
    assert found.names == NAMES


def test_only_as_many_rows_are_packed_as_fit() -> None:
    whole = rows(4000)
    capacity = len(pack(whole)[1]) // 3
    number, packed = pack(whole, capacity)
    assert len(packed) <= capacity
    assert 250 <= number == len(unpack(packed)) <= 1000
    assert pack(rows(1), 10) == (0, b"")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no",
        zlib.compress(b"[]"),
        zlib.compress(b"{}"),
        zlib.compress(b'{"inputs": {"rows": 3}}'),
        zlib.compress(json.dumps({"names": NAMES, "inputs": {"rows": 0}}).encode()),
    ],
)
def test_rows_of_another_form_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="submi"):
        unpack(packed)


def test_rows_are_drawn_in_their_order_and_everywhere_the_same() -> None:
    whole = rows(100, sure=(60, 40))
    found = draw_rows(whole, 30, seed_of("m", "1", "a"))
    assert values(found) == sorted(values(found))
    assert values(draw_rows(whole, 30, seed_of("m", "1", "a"))) == values(found)
    assert values(draw_rows(whole, 30, seed_of("m", "1", "b"))) != values(found)
    assert found.confidence == ConfidenceHistogram(2, (18, 12))
    assert draw_rows(whole, 100, 0) is whole


def test_rows_of_the_same_time_take_turns_and_those_of_one_part_stay_as_they_are() -> None:
    assert values(interleave([rows(4), rows(2, 100)])) == [0, 100, 1, 2, 101, 3]
    assert values(interleave([rows(4)])) == [0, 1, 2, 3]
    assert values(concatenate_gathered([rows(2), rows(2, 100)])) == [0, 1, 100, 101]


def test_a_reference_has_confidences_of_answers_only_where_all_rows_have_them() -> None:
    both = interleave([rows(20, sure=(5, 15)), rows(20, sure=(1, 19))])
    assert learn(both).confidence == ConfidenceHistogram(2, (6, 34))
    assert learn(interleave([rows(20, sure=(5, 15)), rows(20)])).confidence is None
    assert learn(both).rows == 40
