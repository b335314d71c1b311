"""Some runs of the simulation, and that a run can be had again from its seed."""

import os
from collections import Counter
from functools import cache

import pytest

from tests.budgets import THOROUGH
from tests.simulation.seeded import Outcome, simulate

RUNS = 200
PARTS = 8
TRIED = PARTS if THOROUGH else 1
"""Parts of this run; each is about every outcome."""

OUTCOMES = (
    *(f"rollout {state}" for state in ("promoted", "rolled_back", "inconclusive")),
    *(f"event {kind}.v1" for kind in ("candidate.passed", "candidate.refused", "experiment.finished")),
    *(f"fault {kind}" for kind in ("crash_loop", "forgetful", "freeze", "full", "replace", "restart", "sink", "slow")),
    *("push done", "retire done", "retrain done", "train done"),
)


@cache
def first_outcome(seed: int) -> Outcome:
    """What the first of this process's runs of a seed has come to."""
    return simulate(seed)


@pytest.mark.parametrize("part", range(TRIED))
def test_the_invariants_hold_whatever_fails(part: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(part, RUNS, PARTS):
        counts.update(first_outcome(seed).counts)
    for outcome in OUTCOMES:  # the runs are about something
        assert counts[outcome], outcome


def test_a_run_follows_from_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = PARTS, 2 * PARTS  # both are runs of the test before
    first_outcome(first)
    monkeypatch.setattr(os, "getpid", lambda: 1)  # nor from the process
    again = simulate(first)
    assert again == first_outcome(first)
    assert again != first_outcome(second)
