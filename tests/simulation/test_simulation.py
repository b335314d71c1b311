"""Some runs of the simulation, and that a run can be had again from its seed."""

from collections import Counter

import pytest

from tests.budgets import THOROUGH
from tests.simulation.seeded import simulate

RUNS = 200
PARTS = 8
TRIED = PARTS if THOROUGH else 3
"""Parts of this run; each is about every outcome."""

OUTCOMES = (
    *(f"rollout {state}" for state in ("promoted", "rolled_back", "inconclusive")),
    *(f"event {kind}.v1" for kind in ("candidate.passed", "candidate.refused", "experiment.finished")),
    *(f"fault {kind}" for kind in ("crash_loop", "forgetful", "freeze", "full", "replace", "restart", "sink", "slow")),
    *("push done", "retire done", "retrain done", "train done"),
)


@pytest.mark.parametrize("part", range(TRIED))
def test_the_invariants_hold_whatever_fails(part: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(part, RUNS, PARTS):
        counts.update(simulate(seed).counts)
    for outcome in OUTCOMES:  # the runs are about something
        assert counts[outcome], outcome


def test_a_run_follows_from_its_seed() -> None:
    assert simulate(7) == simulate(7)
    assert simulate(7) != simulate(8)
