"""Users who fail again and again are no harm of a version: simulated through the votes, the guard and its verdict."""

from array import array

import numpy as np
import pytest

from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState, observe
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.guards import GuardVerdict, judge_guard
from penstock.monitor.unit_votes import COUNTS, PLACES, UnitVotes
from tests.budgets import THOROUGH

STREAMS = [30 if THOROUGH else 10, pytest.param(200, marks=pytest.mark.slow)]
ALPHA = 0.01
USERS, LOOKS = 200, 40
REQUESTS = 2.0
"""Mean number of a user's requests between two looks."""


class Simulation:
    """One rollout at 10 % of the users; ``broken`` is the share of users that fail at every request, of both versions,
    ``worse`` the share that only the canary fails."""

    def __init__(self, seed: int, broken: float, worse: float, by_votes: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.canary = self.random.random(USERS) < 0.1
        self.fails = (self.random.random(USERS) < broken) | (self.canary & (self.random.random(USERS) < worse))
        self.rate = self.random.gamma(0.5, 2 * REQUESTS, USERS)  # a few ask most
        self.votes = UnitVotes(memoryview(array("I", bytes(4 * PLACES)))) if by_votes else None
        if self.votes is not None:
            self.votes.live = frozenset({1})

    def counts(self) -> EvidenceBatch:
        found = np.zeros((2, 2))
        for user, times in enumerate(self.random.poisson(self.rate).tolist()):
            for _ in range(times):
                found[int(not self.canary[user]), int(not self.fails[user])] += self.counted(user)
        return EvidenceBatch(errors=(found[0].tolist(), found[1].tolist()), copies=int(self.votes is not None))

    def counted(self, user: int) -> bool:
        if self.votes is None:
            return True
        if self.fails[user]:
            return self.votes.failure(1, user)
        return bool(self.votes.answer(1, user) & COUNTS)

    def rolled_back(self) -> bool:
        guard, state = GuardSpec("errors", 0.02), GuardState()
        for _ in range(LOOKS):
            state = observe(guard, state, self.counts())
            if judge_guard(guard, state, ALPHA) is GuardVerdict.FAIL:
                return True
        return False


def share(streams: int, broken: float, worse: float, by_votes: bool = True) -> float:
    found = [Simulation(seed, broken, worse, by_votes).rolled_back() for seed in range(streams)]
    return sum(found) / len(found)


@pytest.mark.simulation
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("broken", [0.02, 0.1])
def test_users_that_always_fail_roll_no_equal_version_back(broken: float, streams: int) -> None:
    assert share(streams, broken, 0.0) <= ALPHA + 2.5 * (ALPHA / streams) ** 0.5


@pytest.mark.parametrize("streams", STREAMS)
def test_a_version_that_fails_for_many_users_is_rolled_back(streams: int) -> None:
    assert share(streams, 0.02, 0.6) >= 0.9


@pytest.mark.parametrize("streams", STREAMS)
def test_requests_instead_of_users_would_be_no_evidence(streams: int) -> None:
    """Why users are counted: by requests, chance alone puts too many of the broken ones on one side."""
    assert share(streams, 0.1, 0.0, by_votes=False) > 0.2
