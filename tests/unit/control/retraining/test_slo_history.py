"""Counts that burn rates look back on: written down as they are taken, read again by whoever leads next."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.control.retraining.slo_history import STEPS, SloHistories
from penstock.core.errors import NotReady
from penstock.core.policies import MonitorPolicy, parse_policy
from penstock.core.triggers.burn_rate import RequestCounts

T = TypeVar("T")
KEY = ("m", "1")
LONG, SHORT = 600, 60
POLICY = parse_policy(
    {
        "slo": {"error_ratio": 0.01},
        "triggers": [
            {
                "name": "r",
                "when": {"slo": {"long_seconds": LONG, "short_seconds": SHORT, "burn_rate": 10}},
                "send": ["l"],
            }
        ],
        "sinks": {"l": {"file": {"path": "events"}}},
    },
    parse_schedule,
)


class Notes:
    """Counts in memory, as the database has them; ``away`` says that it is."""

    def __init__(self) -> None:
        self.rows: list[RequestCounts] = []
        self.kept_s = 0.0
        self.away = False

    def requests_over_time(self, key: tuple[str, str], slow_ms: float) -> Sequence[RequestCounts]:
        assert (key, slow_ms) == (KEY, 0.0)
        return tuple(self.rows)

    def note_requests(self, key: tuple[str, str], _: float, counts: RequestCounts, kept_s: float) -> None:
        if self.away:
            raise NotReady("the database is away")
        assert key == KEY
        self.rows.append(counts)
        self.kept_s = kept_s


async def run(work: Callable[..., T], *arguments: Any) -> T:
    return work(*arguments)


def add(histories: SloHistories, now: float, answered: int, policy: MonitorPolicy = POLICY) -> list[tuple[float, int]]:
    monitor = {"requests": {"answered": answered, "failed": 0, "slow": 0}}
    return [(item.at, item.requests) for item in asyncio.run(histories.add(KEY, policy, monitor, now))]


def test_counts_are_taken_a_step_apart_and_written_down() -> None:
    notes = Notes()
    histories = SloHistories(notes, run)
    step = SHORT / STEPS
    assert add(histories, 0, 10) == [(0, 0)]
    assert add(histories, step / 2, 15) == [(0, 0)]
    assert add(histories, step, 30) == [(0, 0), (step, 20)]
    assert [(row.at, row.requests) for row in notes.rows] == [(0, 10), (step, 30)]
    assert notes.kept_s >= LONG


def test_the_next_leader_goes_on_with_the_stored_counts() -> None:
    notes = Notes()
    first = SloHistories(notes, run)
    before = [add(first, number * 10, number * 100) for number in range(5)][-1]
    assert add(SloHistories(notes, run), 50, 500) == [*before, (50, 500)]
    first.forget()
    assert add(first, 60, 600) == [*before, (50, 500), (60, 600)]


def test_counts_that_could_not_be_written_down_were_not_taken() -> None:
    notes = Notes()
    histories = SloHistories(notes, run)
    add(histories, 0, 0)
    notes.away = True
    with pytest.raises(NotReady):
        add(histories, 10, 100)
    notes.away = False
    assert add(histories, 11, 110) == [(0, 0), (11, 110)]


def test_counts_of_a_clock_that_was_set_back_are_left_out() -> None:
    notes = Notes()
    notes.rows = [RequestCounts(0, 0), RequestCounts(1000, 900)]
    assert add(SloHistories(notes, run), 10, 100) == [(0, 0), (10, 100)]


def test_models_without_such_rules_have_no_history() -> None:
    notes = Notes()
    histories = SloHistories(notes, run)
    assert add(histories, 0, 10, MonitorPolicy()) == []
    assert not notes.rows
    add(histories, 0, 10)
    histories.forget_others({"other"})
    notes.rows.clear()
    assert add(histories, 10, 20) == [(10, 0)]
