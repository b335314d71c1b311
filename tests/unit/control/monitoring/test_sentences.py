"""What logs and events say of a change."""

from typing import Any

from penstock.control.monitoring.drift.sentences import describe_change
from penstock.monitor.drift_changes import DRIFT, QUALITY, SLICE, DriftChange

FOUND = {
    "since": 1_764_333_000.0,
    "log_e": 13.24,
    "log_e_threshold": 11.675,
    "psi": 0.3,
    "psi_threshold": 0.06,
    "rows": 812,
    "moved": [{"bin": "40..50", "change": 0.125}],
    "cause": "changed world",
}


def test_a_drift_is_reported_with_column_time_and_evidence() -> None:
    assert describe_change(DriftChange(DRIFT, "age", True, FOUND), ["age", "income"]) == (
        "age drifts from its reference since 2025-11-28T12:30:00Z with log evidence 13.2 (an alarm needs 11.7); "
        "PSI 0.300 over 812 rows (chance gives up to 0.060), most in bin 40..50 (+12.5%), cause: changed world; "
        "also affected: income"
    )


def test_an_alarm_before_the_window_has_rows_says_nothing_of_sizes() -> None:
    found: dict[str, Any] = {"since": 0.0, "log_e": 12.0, "log_e_threshold": 11.7, "psi_threshold": None, "moved": []}
    reported = describe_change(DriftChange(SLICE, "age where shop is north", True, found), ["age where shop is north"])
    assert reported == "age where shop is north drifts from its reference with log evidence 12.0 (an alarm needs 11.7)"


def test_values_that_are_not_sound_and_ends() -> None:
    found = {"kind": "out_of_range", "since": None, "log_e": 15.0, "log_e_threshold": 14.5}
    reported = describe_change(DriftChange(QUALITY, "age", True, found), ["age"])
    assert (
        reported == "age has more out of range values than its reference with log evidence 15.0 (an alarm needs 14.5)"
    )
    assert describe_change(DriftChange(QUALITY, "age", False, found), []) == "age is sound again"
    many = [f"c{index}" for index in range(10)]
    assert describe_change(DriftChange(DRIFT, "age", False, found), many) == (
        "age looks like its reference again; still affected: c0, c1, c2, c3, c4, c5, c6, c7 and 2 more"
    )
