"""Two workers against one: the ratios, and a machine that is too small for them."""

import pytest

from loadtests.scale import Scaling, format_cells, require_cores


def test_ratios_are_taken_round_by_round_for_both_numbers_of_connections() -> None:
    rounds = [Scaling(100.0, 190.0, 170.0), Scaling(50.0, 80.0, 75.0), Scaling(200.0, 400.0, 320.0)]
    assert format_cells(rounds) == ["100", "190", "1.90", "1.60-2.00", "170", "1.60", "1.50-1.70"]


@pytest.mark.parametrize("cores", [[], [0]])
def test_a_machine_without_a_core_for_each_worker_gets_no_figure(cores: list[int]) -> None:
    with pytest.raises(SystemExit, match="run it on one with four cores"):
        require_cores(cores)


def test_two_cores_for_the_workers_are_enough() -> None:
    require_cores([0, 1])
