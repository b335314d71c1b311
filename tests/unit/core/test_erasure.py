"""Keys of subjects: their form, the values that they match, and the places that a column may mean."""

from typing import Any

import numpy as np
import pytest

from penstock.core.erasure import (
    MAX_CHARACTERS,
    ColumnPlace,
    ErasureReport,
    SubjectKey,
    decode_report,
    places_of,
    subject_key,
)
from penstock.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ("email=a@b", "email", "a@b"),
        (" name = x=y ", "name", " x=y "),
        ("x[3]=1.5", "x[3]", "1.5"),
        ("output:y=1", "output:y", "1"),
    ],
)
def test_subject_keys_are_read(text: str, column: str, value: str) -> None:
    assert subject_key(text) == SubjectKey(column, value)


@pytest.mark.parametrize("text", ["", "email", "=x", " =x", "email=", "x" * MAX_CHARACTERS + "x=1", "x=" + "1" * 1025])
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        subject_key(text)


def texts(*values: Any) -> Any:
    return np.array(values, object)


@pytest.mark.parametrize(
    ("value", "values", "found"),
    [
        ("ann", texts("ann", b"ann", "Ann", "anna"), [True, True, False, False]),
        ("0.1", np.array([0.1, 0.2], "<f4"), [True, False]),
        ("0.1", np.array([0.1, 0.2]), [True, False]),
        ("7", np.array([7, 8]), [True, False]),
        ("7.0", np.array([7, 8]), [False, False]),
        ("-1", np.array([1, 255], np.uint8), [False, False]),
        ("ann", np.array([1.0]), [False]),
        ("True", np.array([True, False]), [True, False]),
        ("1e999", np.array([1.0], "<f4"), [False]),
        ("123456789", np.array([123456789, 123456790], float), [True, False]),
    ],
)
def test_values_of_a_subject_match_in_any_form(value: str, values: Any, found: list[bool]) -> None:
    assert SubjectKey("x", value).find(values).tolist() == found


def test_the_shape_stays() -> None:
    assert SubjectKey("x", "a").find(np.array([["a", "b"], ["c", "a"]], object)).tolist() == [
        [True, False],
        [False, True],
    ]


def test_the_places_of_a_subject_key_are_found() -> None:
    features = {"age": ColumnPlace("x", 2)}
    assert places_of("age", features) == [ColumnPlace("x", 2), ColumnPlace("age")]
    assert places_of("x[10]", features) == [ColumnPlace("x[10]"), ColumnPlace("x", 10)]
    assert places_of("x[y]", features) == [ColumnPlace("x[y]")]


def test_reports_add_up() -> None:
    total = ErasureReport(1, 2, 3, 4, 5, 6, ("a",)) + ErasureReport(rows=1, problems=("b",))
    assert total == ErasureReport(1, 3, 3, 4, 5, 6, ("a", "b"))
    assert decode_report(total.document()) == total
