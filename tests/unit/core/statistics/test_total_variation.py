"""The test of the total variation of outputs: valid at the limit, and soon passed by what does not differ."""

import math

import numpy as np
import pytest

from penstock.core.statistics.distributions import total_variation
from penstock.core.statistics.evidence import Evidence
from penstock.core.statistics.total_variation import distance_below
from tests.budgets import THOROUGH


def test_total_variation_is_half_the_absolute_differences() -> None:
    assert total_variation((3, 1), (1, 3)) == 0.5
    assert total_variation((0, 0), (1, 3)) == 0.0


def moved(bins: int, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Equal shares, and others that are so far from them in total variation."""
    control, change = np.full(bins, 1 / bins), np.zeros(bins)
    half = bins // 2
    change[:half], change[half:] = distance / half, -distance / (bins - half)
    return control, control + change


def passes(bins: int, distance: float, seed: int, rows: int = 2000, canary: int = 50, control: int = 950) -> int | None:
    """Canary rows until the test falls whose limit is 0.1; None if it does not within so many."""
    generator = np.random.default_rng(seed)
    usual, other = moved(bins, distance)
    evidence = Evidence()
    for number in range(1, rows // canary + 1):
        evidence = distance_below(
            evidence, generator.multinomial(canary, other), generator.multinomial(control, usual), 0.1
        )
        if evidence.peak >= math.log(20):
            return number * canary
    return None


@pytest.mark.parametrize("bins", [3, 10, 30])
@pytest.mark.parametrize("distance", [0.1, 0.12])
def test_a_distance_at_or_above_the_limit_seldom_passes(bins: int, distance: float) -> None:
    runs = 60 if THOROUGH else 30
    passed = sum(passes(bins, distance, seed, rows=5000) is not None for seed in range(runs))
    assert passed <= runs // 12  # one in twenty is allowed on average


@pytest.mark.parametrize(("bins", "within"), [(3, 1500), (10, 2000)])
def test_equal_outputs_pass_soon(bins: int, within: int) -> None:
    assert all((passes(bins, 0.0, seed) or math.inf) <= within for seed in range(20))


def test_a_mix_of_outputs_that_changes_in_both_is_no_difference() -> None:
    """At a small weight by night and a large one by day: the sums of the arms differ, each batch does not."""
    generator = np.random.default_rng(1)
    night, day = moved(10, 0.4)
    evidence = Evidence()
    for mix, canary, control in ((night, 5, 95), (day, 50, 50)):
        for _ in range(100):
            evidence = distance_below(
                evidence, generator.multinomial(canary, mix), generator.multinomial(control, mix), 0.1
            )
    assert evidence.peak >= math.log(20)


def test_batches_of_one_arm_alone_say_nothing() -> None:
    assert (
        distance_below(Evidence(), [5, 5], [0, 0], 0.1) == distance_below(Evidence(), [0, 0], [5, 5], 0.1) == Evidence()
    )
