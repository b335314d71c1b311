"""Columns through the monitor: shifts that last or end, small references, and rows that follow each other."""

import pytest

from loadtests.columns import (
    FOLLOWING,
    LASTING,
    SMALL,
    CorrelatedRows,
    LastingShift,
    SmallReference,
    find_following,
    find_lasting,
    find_small,
    run_correlated_rows,
    run_lasting_shift,
    run_small_reference,
)


@pytest.mark.parametrize(
    "case",
    [
        LastingShift("a small shift that lasts", ((20_000, 0.2),)),
        LastingShift("one that ends", ((3000, 0.5), (5000, 0.0)), 1),
        LastingShift("one that changes its size", ((3000, 0.5), (3000, 0.2), (3000, 0.8))),
    ],
    ids=lambda case: case.name,
)
def test_a_drift_is_reported_once_and_over_when_it_is(case: LastingShift) -> None:
    assert find_lasting(case, [run_lasting_shift(case, seed) for seed in range(3)]).holds


@pytest.mark.parametrize("columns", [2, 30])
@pytest.mark.parametrize("rows", [100, 300])
def test_small_references_raise_no_alarms_by_their_own_error(rows: int, columns: int) -> None:
    cases = [SmallReference(rows, columns, kind, 4000) for kind in ("binary", "binary (3 %)")]
    assert [run_small_reference(case, seed) for case in cases for seed in range(3)] == [0] * 6


def test_thresholds_are_exceeded_as_seldom_where_rows_follow_each_other() -> None:
    found = [
        run_correlated_rows(CorrelatedRows(correlation, windows=15), seed)
        for correlation in (0.6, 0.9)
        for seed in range(3)
    ]
    assert find_following(FOLLOWING[0], found).holds


@pytest.mark.slow
@pytest.mark.parametrize("case", LASTING, ids=lambda case: case.name)
def test_lasting_shifts_raise_alarms(case: LastingShift) -> None:
    found = find_lasting(case, [run_lasting_shift(case, seed) for seed in range(80_000, 80_200)])
    assert found.holds, found


@pytest.mark.slow
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_small_references_raise_few_alarms(case: SmallReference) -> None:
    found = find_small(case, [run_small_reference(case, seed) for seed in range(80_000, 80_200)])
    assert found.holds, found


@pytest.mark.slow
@pytest.mark.parametrize("case", FOLLOWING, ids=lambda case: case.name)
def test_rows_that_follow_each_other(case: CorrelatedRows) -> None:
    found = find_following(case, [run_correlated_rows(case, seed) for seed in range(80_000, 80_200)])
    assert found.holds, found
