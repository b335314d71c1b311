"""Which columns a monitor document shows."""

from typing import Any

import pytest

from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns, limit_columns

NAMES, DRIFTS, EVIDENCE = ["age", "Income", "wage", "zip"], [False, False, True, False], [1.0, 5.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (ShownColumns(4), [2, 1, 3, 0]),
        (ShownColumns(2), [2, 1]),
        (ShownColumns(9, "AGE"), [2, 0]),
        (ShownColumns(9, "x"), []),
        (ALL_COLUMNS, [2, 1, 3, 0]),
    ],
)
def test_drifting_columns_come_first_then_the_greatest_evidence(shown: ShownColumns, expected: list[int]) -> None:
    assert shown.choose(NAMES, DRIFTS, EVIDENCE) == expected


def test_a_document_with_all_columns_is_limited() -> None:
    columns = [
        {"name": name, "state": "drift" if drifts else "ok", "log_e": log_e}
        for name, drifts, log_e in zip(NAMES, DRIFTS, EVIDENCE, strict=True)
    ]
    document = {"features": columns[:2], "outputs": columns[2:], "rows": 7}
    limited = limit_columns(document, ShownColumns(2))
    assert [item["name"] for item in limited["features"]] == ["Income"]
    assert [item["name"] for item in limited["outputs"]] == ["wage"]
    assert limited["columns"] == {"all": 4, "drifting": 1, "shown": 2}
    assert limited["rows"] == 7
    assert limit_columns(document, ALL_COLUMNS) == document
    empty: dict[str, Any] = {"features": [], "outputs": [], "reference": None}
    assert limit_columns(empty, ShownColumns(2)) == empty
