"""Some runs of the simulation, and that a run can be had again from its seed."""

from collections import Counter

import pytest

from tests.simulation.seeded import simulate

RUNS = 24
PARTS = 6


@pytest.mark.parametrize("part", range(PARTS))
def test_the_invariants_hold_whatever_fails(part: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(part, RUNS, PARTS):
        counts.update(simulate(seed).counts)
    assert counts["rollout rolled_back"]  # the runs are about something
    assert counts["retrain done"]


def test_a_run_follows_from_its_seed() -> None:
    assert simulate(7) == simulate(7)
    assert simulate(7) != simulate(8)
