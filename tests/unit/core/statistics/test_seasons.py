"""Seasons: hours of the week, usual counts by the hour, and how far chunks lie from the whole."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.statistics.seasons import (
    MAX_SEASONAL_VARIATION,
    OF_DAY,
    OF_WEEK,
    SeasonalProfile,
    chunk_places,
    distinguishable_hours,
    hours_of,
    quarter_of,
    seasonal_variation,
    smooth,
)

MONDAY = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
WEEK_S = 604_800.0


@given(st.floats(0, 4e9))
def test_hours_are_those_of_the_calendar(seconds: float) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert hours_of(np.array([seconds]), OF_WEEK)[0] == moment.weekday() * 24 + moment.hour
    assert hours_of(np.array([seconds]), OF_DAY)[0] == moment.hour
    assert quarter_of(seconds, OF_WEEK) == (moment.weekday() * 24 + moment.hour) * 4 + moment.minute // 15


@pytest.mark.parametrize(
    ("rows", "span", "hours"),
    [
        (20_000, WEEK_S, OF_WEEK),
        (2_000, WEEK_S, OF_DAY),
        (20_000, 5 * 86_400, OF_DAY),
        (20_000, 40_000, 0),
        (100, WEEK_S, 0),
        (0, WEEK_S, 0),
    ],
)
def test_hours_are_reported_apart_where_there_are_rows_of_all(rows: int, span: float, hours: int) -> None:
    times = np.asarray(MONDAY + np.arange(rows) * (span / max(1, rows)), np.float64)
    assert distinguishable_hours(times) == hours


def test_an_hour_is_drawn_from_those_around_it_and_is_worth_more_rows_than_its_own() -> None:
    counts = np.tile([[60.0, 40.0]], (OF_WEEK, 1))
    found = smooth(counts)
    assert found.sum(axis=1) == pytest.approx(100 * 9 / (19 / 9), rel=1e-6)
    assert found[:, 0] / found.sum(axis=1) == pytest.approx(0.6)


@given(st.integers(0, 4 * OF_DAY - 1))
def test_what_is_usual_goes_over_from_hour_to_hour(quarter: int) -> None:
    chance = 0.5 + 0.3 * np.sin(2 * np.pi * np.arange(OF_DAY) / OF_DAY)
    usual = SeasonalProfile(1000 * np.stack([chance, 1 - chance], axis=1))
    now, later = usual.counts(quarter), usual.counts((quarter + 1) % (4 * OF_DAY))
    true = 0.5 + 0.3 * np.sin(2 * np.pi * ((quarter + 0.5) / 4 - 0.5) / OF_DAY)
    assert now[0] / now.sum() == pytest.approx(true, abs=0.02)
    assert abs(later[0] / later.sum() - now[0] / now.sum()) < 0.025
    assert 0 <= usual.divergence_nearby(quarter) < 0.1


def places(generator: np.random.Generator, probabilities: np.ndarray, rows: int) -> np.ndarray:
    """Rows [rows] of two places, of which the first's chance goes through these values."""
    return (generator.random(rows) >= np.repeat(probabilities, rows // len(probabilities))).astype(np.intp)


def test_rows_in_any_order_do_not_vary() -> None:
    found = [
        seasonal_variation(chunk_places(np.random.default_rng(seed).integers(0, 10, 20_000).astype(np.intp), 10))
        for seed in range(200)
    ]
    assert sum(item > 0 for item in found) <= 2


def test_what_moves_in_order_is_tolerated_in_full_but_not_beyond_a_bound() -> None:
    probabilities = 0.5 + 0.1 * np.sin(2 * np.pi * np.arange(100) / 100)
    moved = seasonal_variation(chunk_places(places(np.random.default_rng(1), probabilities, 50_000), 2))
    divergence = np.log((0.6**2 + 0.4**2) / 0.5)
    assert divergence <= moved <= 2.5 * divergence
    ordered = np.sort(np.random.default_rng(2).integers(0, 10, 50_000)).astype(np.intp)
    assert seasonal_variation(chunk_places(ordered, 10)) == MAX_SEASONAL_VARIATION


@pytest.mark.parametrize(("rows", "width"), [(0, 3), (100, 3), (1000, 3), (20_000, 1)])
def test_too_few_rows_or_places_say_nothing(rows: int, width: int) -> None:
    assert seasonal_variation(chunk_places(np.zeros(rows, np.intp), width)) == 0.0
