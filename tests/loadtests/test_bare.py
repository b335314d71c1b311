"""Penstock beside bare runs: the ratios of the rounds, and who runs first."""

import pytest

from loadtests.bare import Figures, Pair, bare_runs, cells, cpu_ratio, lone_cells, rate_ratio
from loadtests.ceiling import Outputs, without_run
from loadtests.graphs import find_repository
from loadtests.models import MODELS, Floats
from loadtests.processes import split_cores

PAIRS = [
    Pair(own=Figures(90.0, 12.0), bare=Figures(100.0, 10.0)),
    Pair(own=Figures(48.0, 25.0), bare=Figures(50.0, 20.0)),
    Pair(own=Figures(220.0, 5.0), bare=Figures(200.0, 5.0)),
]


def test_ratios_are_taken_round_by_round_and_less_is_worse() -> None:
    assert rate_ratio(PAIRS) == pytest.approx(0.96)
    assert cpu_ratio(PAIRS) == pytest.approx(10 / 12)
    assert cells(PAIRS) == ["100", "90", "0.960", "0.90-1.10", "10", "12", "1.200"]


def test_one_connection_is_compared_with_bare_runs_round_by_round() -> None:
    own, bare = [pair.own for pair in PAIRS], [pair.bare for pair in PAIRS]
    assert lone_cells(own, bare) == ["90", "11,111", "0.960", "0.90-1.10", "12"]
    assert lone_cells(bare, bare) == ["100", "10,000", "1.000", "1.00-1.00", "10"]


def test_a_ceiling_without_runs_answers_with_those_of_the_first_row() -> None:
    model = MODELS["tiny"]
    seen: list[int] = []

    def run(rows: Floats) -> Outputs:
        seen.append(len(rows))
        return [rows]

    again = without_run(run, model)
    first = model.rows(1)
    assert all((again(model.rows(1, seed))[0] == first).all() for seed in (1, 2))
    assert seen == [1]


def test_bare_runs_are_counted_with_their_processor_time_and_end_with_their_input() -> None:
    model = MODELS["tiny"]
    find_repository(model)
    with bare_runs(model, 1, split_cores()[0]) as runs:
        figures = runs.measure(2, 0.05)
        again = runs.measure(1, 0.05)
    assert figures.rate > 0
    assert again.cpu_us > 0
    with pytest.raises((ValueError, OSError)):
        runs.measure(1, 0.05)
