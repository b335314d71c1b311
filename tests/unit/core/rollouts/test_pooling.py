"""Where requests are rare, a look has one version's requests only; they wait until both versions' can be compared."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.buckets import FINE_EDGES_NS
from penstock.core.rollouts.decision import RolloutActionKind, RolloutSnapshot, decide
from penstock.core.rollouts.documents import decode_rollout, encode_rollout, rollout_document
from penstock.core.rollouts.guard_evidence import EvidenceBatch
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.pooling import POOLED, WaitingPairs, find_stratum_size, pool_counts, waiting_counts
from penstock.core.rollouts.rollout import Rollout, add_batch, advance, start_rollout
from penstock.core.rollouts.spec import parse_spec
from tests.budgets import examples

WEIGHTS = [100, 1000, 5000, 9500]
STREAMS = [examples(20), pytest.param(200, marks=pytest.mark.slow)]
BINS = len(FINE_EDGES_NS) + 1

Pair = tuple[int, int]
Looks = Sequence[tuple[Pair, Pair]]

counts = st.tuples(st.integers(0, 20), st.integers(0, 20))
looks = st.lists(st.tuples(counts, counts), max_size=30)


def started(weight: int, *guards: GuardSpec) -> Rollout:
    spec = parse_spec({"to": "2", "steps": [weight]}, "1")
    return start_rollout(replace(spec, guards=guards or (GuardSpec("errors"),)), 0.0)


Counts = Sequence[int]


def one_request(
    canary: bool,
    errors: Counts = (0, 1),
    latency: Counts = (),
    outputs: Counts = (),
    quality: Counts = (0, 0),
) -> EvidenceBatch:
    """What a look sees where one request came since the last."""

    def arms(one: Counts) -> tuple[Counts, Counts]:
        return (one, [0] * len(one)) if canary else ([0] * len(one), one)

    return EvidenceBatch(arms(errors), arms(latency), outputs=arms(outputs), quality=arms(quality))


def after_one(rollout: Rollout, batch: EvidenceBatch, canary: bool) -> Rollout:
    return add_batch(rollout, batch, (int(canary), int(not canary)), sticky=False)


def rolled_back(rollout: Rollout) -> bool:
    action = decide(RolloutSnapshot(rollout, 1.0))
    return action is not None and action.kind is RolloutActionKind.ROLL_BACK


@given(looks, st.integers(0, 10_000))
def test_nothing_is_lost_and_nothing_counted_twice(seen_looks: Looks, weight: int) -> None:
    waiting: WaitingPairs = {}
    closed = np.zeros((2, 2))
    for a, b in seen_looks:
        batch, waiting = pool_counts(waiting, EvidenceBatch(errors=(a, b)), weight)
        closed += np.asarray(batch.errors)
    left = np.asarray(waiting.get("errors", ((0, 0), (0, 0))))
    assert (closed + left).tolist() == sum((np.asarray(look) for look in seen_looks), np.zeros((2, 2))).tolist()
    assert left.sum() < max(1, find_stratum_size(weight))


@given(looks, st.integers(1, 9_999), st.data())
def test_when_counts_are_compared_depends_neither_on_the_version_nor_on_the_outcome(
    seen_looks: Looks, weight: int, data: st.DataObject
) -> None:
    def closings(given_looks: Looks) -> list[bool]:
        waiting: WaitingPairs = {}
        found = []
        for a, b in given_looks:
            batch, waiting = pool_counts(waiting, EvidenceBatch(errors=(a, b)), weight)
            found.append(any(waiting_counts(batch.errors)))
        return found

    mixed = []
    for a, b in seen_looks:
        one, other, third, fourth = data.draw(st.permutations([*a, *b]))
        mixed.append(((one, other), (third, fourth)))
    assert closings(mixed) == closings(seen_looks)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("failing", [1.0, 0.5])
def test_a_canary_that_fails_is_found_by_single_requests(weight: int, failing: float) -> None:
    for seed in range(2):
        draw, rollout, failed = np.random.default_rng(seed), started(weight), 0
        while not rolled_back(rollout):
            canary = bool(draw.random() < weight / 10_000)
            bad = canary and bool(draw.random() < failing)
            failed += bad
            rollout = after_one(rollout, one_request(canary, (int(bad), int(not bad))), canary)
            assert failed < 3 * find_stratum_size(weight) + 40


@pytest.mark.parametrize("guard", ["latency", "outputs", "quality"])
@pytest.mark.parametrize("weight", [1000, 5000])
def test_every_comparison_works_by_single_requests(guard: str, weight: int) -> None:
    draw, rollout = np.random.default_rng(7), started(weight, GuardSpec(guard, 1.2 if guard == "latency" else 0.1))
    for _ in range(20_000):
        canary = bool(draw.random() < weight / 10_000)
        middle = 120 if canary else 60
        at = int(np.clip(draw.normal(middle, 6), 0, BINS - 1))
        latency, outputs = [0] * BINS, [0, 0, 0]
        latency[at], outputs[int(canary)] = 1, 1
        quality = [int(canary), int(not canary)]
        rollout = after_one(rollout, one_request(canary, (0, 1), latency, outputs, quality), canary)
        if rolled_back(rollout):
            break
    assert rolled_back(rollout)


@pytest.mark.simulation
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("weight", [1000, 5000, 9500])
def test_bursts_of_failures_of_both_versions_are_not_evidence_of_harm(streams: int, weight: int) -> None:
    """Failures come in bursts that hit whoever asks then: the split of a stratum is random whatever happens in it."""
    found = 0
    for seed in range(streams):
        draw, rollout = np.random.default_rng([seed, weight]), started(weight)
        failing = False
        for _ in range(1000):
            failing ^= bool(draw.random() < (0.3 if failing else 0.02))
            canary, bad = bool(draw.random() < weight / 10_000), failing
            rollout = after_one(rollout, one_request(canary, (int(bad), int(not bad))), canary)
        found += rolled_back(rollout)
    assert found <= 0.01 * streams + 1  # alpha is 0.01


def test_what_waits_is_shown_kept_and_compared_before_the_weight_changes() -> None:
    rollout = started(1000)
    for canary in (True, False, True):
        rollout = after_one(rollout, one_request(canary), canary)
    evidence = rollout_document(rollout)["evidence"]["errors"]
    assert (evidence["n_canary"], evidence["n_control"]) == (2, 1)
    assert rollout.guards[0].harm.n_canary == 0
    assert decode_rollout(json.loads(json.dumps(encode_rollout(rollout)))) == rollout
    after = advance(rollout, 0, 1.0, "go on")
    assert (after.guards[0].harm.n_canary, after.guards[0].harm.n_control, after.waiting) == (2, 1, {})


def test_counts_that_are_many_do_not_wait() -> None:
    batch = EvidenceBatch(
        errors=((1, 29), (0, 270)), latency=([30], [270]), outputs=([30], [270]), quality=((0, 30), (0, 270))
    )
    closed, waiting = pool_counts({}, batch, 1000)
    assert not waiting
    assert all(waiting_counts(getattr(closed, name)) == waiting_counts(getattr(batch, name)) for name in POOLED)
