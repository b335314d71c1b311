"""The state of a version in short: drift by the fleet's verdict, quality by what this gateway sees."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from penstock.control.monitoring.short_state import short_state
from penstock.core.statistics.column_state import ColumnPhase
from penstock.monitor.verdicts import VersionMonitor

OK, DRIFT, FEW = ColumnPhase.OK, ColumnPhase.DRIFT, ColumnPhase.INSUFFICIENT_DATA


@dataclass
class Monitor:
    phases: list[ColumnPhase]
    violated: list[str] = field(default_factory=list)

    joint: list[ColumnPhase] = field(default_factory=list)

    def states(self) -> list[ColumnPhase]:
        return [*self.phases, *self.joint]

    def column_states(self) -> list[ColumnPhase]:
        return self.phases

    def affected_columns(self, about: str) -> list[str]:
        assert about == "quality"
        return self.violated


def short(monitor: Monitor | None, of_fleet: Any = None) -> Any:
    return short_state(cast("VersionMonitor | None", monitor), of_fleet)


def test_a_version_without_a_reference_is_not_watched() -> None:
    assert short(None) is None
    assert short(None, {}) is None


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ([OK, DRIFT, FEW, DRIFT], ("drift", 2)),
        ([OK, FEW], ("ok", 0)),
        ([FEW, FEW], ("insufficient_data", 0)),
        ([], ("insufficient_data", 0)),
    ],
)
def test_drift_is_that_of_the_columns(phases: list[ColumnPhase], expected: tuple[str, int]) -> None:
    found = short(Monitor(phases))
    assert (found["drift"]["state"], found["drift"]["columns"]) == expected
    assert found["quality"] == {"state": "ok", "columns": 0}


def test_the_verdict_of_the_fleet_decides() -> None:
    summary = {"columns": {"a": ["drift", 9.0], "b": ["ok", 0.0]}}
    assert short(Monitor([OK, OK], ["b"]), summary) == {
        "drift": {"state": "drift", "columns": 1},
        "quality": {"state": "violated", "columns": 1},
    }
    assert short(None, summary)["quality"] == {"state": "ok", "columns": 0}


def test_a_drift_of_whole_rows_is_a_drift_of_no_column() -> None:
    assert short(Monitor([OK, DRIFT], joint=[DRIFT]))["drift"] == {"state": "drift", "columns": 1}
    assert short(Monitor([OK, OK], joint=[DRIFT]))["drift"] == {"state": "drift", "columns": 0}
    of_fleet = {"columns": {"a": ["drift", 0.1], "(joint)": ["drift", 0.2]}}
    assert short(None, of_fleet)["drift"] == {"state": "drift", "columns": 1}
