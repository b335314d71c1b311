"""What differs between two documents, bounded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.audit.changes import LONGEST_VALUE, MOST_CHANGES, cut, list_changes


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, []),
        ({"a": 1}, {"a": 1}, []),
        (None, {"a": 1}, [{"path": "a", "after": 1}]),
        ({"a": 1}, None, [{"path": "a", "before": 1}]),
        ({"split": {"1": 9000}}, {"split": {"1": 8000}}, [{"path": "split.1", "before": 9000, "after": 8000}]),
        ({"a": [1, 2]}, {"a": [1]}, [{"path": "a[1]", "before": 2}]),
        ({"a": [1]}, {"a": {"b": 1}}, [{"path": "a", "before": [1], "after": {"b": 1}}]),
        ({"a": 1}, {"a": True}, [{"path": "a", "before": 1, "after": True}]),
        ({"a": None}, {"a": 1}, [{"path": "a", "before": None, "after": 1}]),
        ({}, {"a": {"b": 1, "c": []}}, [{"path": "a.b", "after": 1}, {"path": "a.c", "after": []}]),
        ("1", "2", [{"path": "", "before": "1", "after": "2"}]),
    ],
)
def test_changes_by_path(before: Any, after: Any, expected: list[Any]) -> None:
    assert list_changes(before, after) == expected


def test_many_changes_and_long_values_are_cut() -> None:
    found = list_changes({}, {str(index): index for index in range(200)})
    assert len(found) == MOST_CHANGES + 1
    assert found[-1] == {"path": "", "more": 150}
    (long,) = list_changes({"a": "x" * 1000}, {})
    assert long["before"] == "x" * LONGEST_VALUE + "…"
    assert cut({"a": "y" * 400}) == '{"a": "' + "y" * (LONGEST_VALUE - 7) + "…"
    deep: Any = 1
    for _ in range(100):
        deep = {"a": deep}
    (only,) = list_changes(None, deep)
    assert len(only["path"]) <= LONGEST_VALUE


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@given(DOCUMENTS, DOCUMENTS)
def test_equal_documents_have_no_changes_and_others_have_some(before: Any, after: Any) -> None:
    assert list_changes(before, before) == []
    if before != after:
        assert list_changes(before, after)
