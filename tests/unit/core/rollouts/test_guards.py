"""Guards: how batches become evidence, and evidence one of three verdicts."""

import json
import math
from bisect import bisect_left
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.buckets import FINE_EDGES_NS
from penstock.core.errors import InvalidInput
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState, LabelledCounts, at_next_step, observe
from penstock.core.rollouts.guard_spec import GuardSpec, describe_guard, parse_guard
from penstock.core.rollouts.guards import (
    GuardVerdict,
    decode_state,
    describe_evidence,
    encode_state,
    find_effect,
    judge_guard,
    requests_needed_by,
)
from tests.budgets import examples

ALPHA = 0.005
BINS = 60


def after(guard: GuardSpec, batches: list[EvidenceBatch]) -> GuardState:
    state = GuardState()
    for batch in batches:
        state = observe(guard, state, batch)
    return state


def rates(field: str, canary: float, control: float, batches: int = 60, seed: int = 0) -> list[EvidenceBatch]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(batches):
        a, b = int(generator.binomial(20, canary)), int(generator.binomial(180, control))
        found.append(EvidenceBatch(**{field: ((a, 20 - a), (b, 180 - b))}))  # type: ignore[arg-type]
    return found


def labels(canary: float, control: float, batches: int = 60) -> list[EvidenceBatch]:
    """The same as labels of a few ages."""
    batches_of_rates = rates("errors", canary, control, batches)
    return [EvidenceBatch(labelled=(LabelledCounts(at % 3, *rate.errors),)) for at, rate in enumerate(batches_of_rates)]  # type: ignore[arg-type]


def times(run: tuple[float, float], own: float = 1.0, batches: int = 60, seed: int = 1) -> list[EvidenceBatch]:
    """Whole times that are the same for both, and times of runs with these middles; ``own`` is the share of requests
    that had a run of their own."""
    found, generator = [], np.random.default_rng(seed)

    def counts(middle: float, size: int) -> list[int]:
        drawn = np.clip(generator.normal(middle, 3, size).round(), 0, BINS - 1).astype(int)
        return list(np.bincount(drawn, minlength=BINS).tolist())

    for _ in range(batches):
        latency = (counts(30, 20), counts(30, 180))
        runs = (counts(run[0], generator.binomial(20, own)), counts(run[1], 180))
        found.append(EvidenceBatch(latency=latency, runs=runs))
    return found


def histograms(field: str, canary: float, control: float, spread: float, batches: int = 60) -> list[EvidenceBatch]:
    """Counts over bins, normal around two middles."""
    generator = np.random.default_rng(1)

    def counts(middle: float, size: int) -> list[int]:
        drawn = np.clip(generator.normal(middle, spread, size).round(), 0, BINS - 1).astype(int)
        return [int(item) for item in np.bincount(drawn, minlength=BINS)]

    return [EvidenceBatch(**{field: (counts(canary, 20), counts(control, 180))}) for _ in range(batches)]  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["errors", "error_ratio"])
@pytest.mark.parametrize("gateways", [2, 5])
def test_what_one_unit_may_have_caused_is_not_evidence_of_harm(metric: str, gateways: int) -> None:
    """A unit of a sticky split votes once by each gateway that it comes by, and once more at each step."""
    guard, alpha = GuardSpec(metric, 0.0001), 0.05

    def failed(units: float, steps: int, copies: int = gateways) -> GuardVerdict:
        state = GuardState()
        for step in range(steps):
            state = at_next_step(guard, state) if step else state
            bad = round(units * gateways)
            for counts in [((0, 1), (0, 100))] * 5 + [((bad, 0), (0, 100))]:
                state = observe(guard, state, EvidenceBatch(errors=counts, copies=copies))
        return judge_guard(guard, decode_state(json.loads(json.dumps(encode_state(state)))), alpha)

    assert failed(1, 6) is GuardVerdict.UNDECIDED
    assert failed(1, 6, copies=0) is GuardVerdict.FAIL  # as many requests, each a unit
    assert failed(3, 2) is GuardVerdict.FAIL


@pytest.mark.simulation
def test_an_equal_canary_is_seldom_called_slower_by_either_time() -> None:
    """At most alpha of the rollouts, over both times together: the e-values are averaged."""
    guard, failed, runs = GuardSpec("latency", 1.0), 0, examples(40)
    for seed in range(runs):
        state = after(guard, times((20, 20), batches=30, seed=seed))
        failed += judge_guard(guard, state, 0.05) is GuardVerdict.FAIL
    assert failed <= max(1, runs // 10)  # of 40, 2 are expected at most; the probability of more than 4 is 0.05


@pytest.mark.parametrize(
    ("guard", "batches", "expected"),
    [
        (GuardSpec("errors", 0.02), rates("errors", 0.005, 0.005), GuardVerdict.PASS),
        (GuardSpec("errors", 0.02), rates("errors", 0.0, 0.0), GuardVerdict.PASS),
        (GuardSpec("errors", 0.02), rates("errors", 0.2, 0.005), GuardVerdict.FAIL),
        (GuardSpec("errors", 0.02), rates("errors", 0.0, 0.2), GuardVerdict.PASS),
        (GuardSpec("errors", 0.02), rates("errors", 0.5, 0.5, batches=2), GuardVerdict.UNDECIDED),
        (GuardSpec("errors", 0.02), [], GuardVerdict.UNDECIDED),
        (GuardSpec("quality", 0.01), rates("quality", 0.3, 0.0), GuardVerdict.FAIL),
        (GuardSpec("quality", 0.01), rates("quality", 0.0, 0.0), GuardVerdict.PASS),
        (GuardSpec("performance", 0.05), labels(0.3, 0.1), GuardVerdict.FAIL),
        (GuardSpec("performance", 0.05), labels(0.1, 0.1, batches=200), GuardVerdict.PASS),
        (GuardSpec("latency", 1.2), times((20, 20)), GuardVerdict.PASS),
        (GuardSpec("latency", 1.2), times((15, 20)), GuardVerdict.PASS),
        (GuardSpec("latency", 1.2), times((28, 20)), GuardVerdict.FAIL),
        (GuardSpec("latency", 1.2), times((20, 20), own=0.0), GuardVerdict.PASS),  # all share their runs
        (GuardSpec("latency", 1.2), times((23.5, 20), batches=12), GuardVerdict.UNDECIDED),  # both have to be healthy
        (GuardSpec("latency", 1.2), histograms("latency", 30, 30, 4), GuardVerdict.PASS),
        (GuardSpec("latency", 1.2), histograms("latency", 25, 30, 4), GuardVerdict.PASS),
        (GuardSpec("latency", 1.2), histograms("latency", 40, 30, 4), GuardVerdict.FAIL),
        (GuardSpec("latency", 2.0), histograms("latency", 34, 30, 4), GuardVerdict.PASS),
        (GuardSpec("latency", 1.0), histograms("latency", 33, 30, 4), GuardVerdict.FAIL),
        (GuardSpec("outputs", 0.1), histograms("outputs", 30, 30, 4), GuardVerdict.PASS),
        (GuardSpec("outputs", 0.1), histograms("outputs", 24, 30, 4), GuardVerdict.FAIL),
        (GuardSpec("outputs", 0.5), histograms("outputs", 31, 30, 4), GuardVerdict.PASS),
        (GuardSpec("disagreement", 0.02), [EvidenceBatch(disagreements=(0, 20))] * 20, GuardVerdict.PASS),
        (GuardSpec("disagreement", 0.02), [EvidenceBatch(disagreements=(4, 16))] * 20, GuardVerdict.FAIL),
        (GuardSpec("disagreement", 0.02), [EvidenceBatch(disagreements=(0, 20))], GuardVerdict.UNDECIDED),
        (GuardSpec("promql", query="q", most=1.0), [EvidenceBatch(values={"q": 0.5})] * 3, GuardVerdict.PASS),
        (GuardSpec("promql", query="q", most=1.0), [EvidenceBatch(values={"q": 2.0})] * 3, GuardVerdict.FAIL),
        (GuardSpec("promql", query="q", most=1.0), [EvidenceBatch(values={"q": 0.5})] * 2, GuardVerdict.UNDECIDED),
        (
            GuardSpec("promql", query="q", least=1.0),
            [EvidenceBatch(values={"q": value}) for value in (0.5, 0.5, 2.0, 0.5)],
            GuardVerdict.UNDECIDED,
        ),
        (
            GuardSpec("promql", query="q", least=1.0),
            [EvidenceBatch(values={"q": math.nan})] * 5,
            GuardVerdict.UNDECIDED,
        ),
    ],
)
def test_guards_reach_their_verdicts(guard: GuardSpec, batches: list[EvidenceBatch], expected: GuardVerdict) -> None:
    assert judge_guard(guard, after(guard, batches), ALPHA) is expected


def test_what_failed_once_has_failed() -> None:
    guard = GuardSpec("errors", 0.02)
    state = after(guard, rates("errors", 0.3, 0.0, batches=40) + rates("errors", 0.0, 0.3, batches=400))
    assert judge_guard(guard, state, ALPHA) is GuardVerdict.FAIL


def test_effects_are_in_the_unit_of_the_limit() -> None:
    assert find_effect(GuardSpec("errors", 0.02), after(GuardSpec("errors", 0.02), rates("errors", 0.1, 0.0))) == (
        pytest.approx(0.1, abs=0.03)
    )
    slower = GuardSpec("latency", 1.2)
    assert find_effect(slower, after(slower, histograms("latency", 38, 30, 3))) == pytest.approx(2.0, rel=0.1)
    moved = GuardSpec("outputs", 0.1)
    assert find_effect(moved, after(moved, histograms("outputs", 10, 40, 3))) == pytest.approx(1.0, abs=0.01)
    assert find_effect(moved, GuardState()) is None
    pairs = GuardSpec("disagreement", 0.5)
    assert find_effect(pairs, after(pairs, [EvidenceBatch(disagreements=(1, 3))])) == 0.25


def test_how_many_more_requests_are_needed_shrinks_to_none() -> None:
    guard = GuardSpec("errors", 0.02)
    state, left = GuardState(), []
    for batch in rates("errors", 0.0, 0.0, batches=30):
        state = observe(guard, state, batch)
        left.append(requests_needed_by(guard, state, ALPHA))
    assert left[-1] == 0
    assert judge_guard(guard, state, ALPHA) is GuardVerdict.PASS
    needed_steps = [item for item in left if item]
    assert needed_steps
    assert needed_steps[-1] <= needed_steps[0]
    assert requests_needed_by(guard, GuardState(), ALPHA) is None


@pytest.mark.parametrize(
    "stated",
    [
        {"metric": "errors"},
        {"metric": "errors", "max_increase": 0.5},
        {"metric": "latency", "max_ratio": 1.5},
        {"metric": "outputs", "max": 0.3},
        {"metric": "disagreement", "max": 0.05},
        {"metric": "promql", "query": "up", "min": 1.0},
        {"metric": "promql", "query": "up", "min": 1.0, "max": 2.0},
    ],
)
def test_guards_come_back_as_they_were_stated(stated: dict[str, Any]) -> None:
    assert stated.items() <= describe_guard(parse_guard(stated)).items()
    assert parse_guard(describe_guard(parse_guard(stated))) == parse_guard(stated)


@pytest.mark.parametrize(
    "stated",
    [
        {},
        7,
        {"metric": "speed"},
        {"metric": "errors", "max": 1},
        {"metric": "errors", "max_increase": "much"},
        {"metric": "errors", "max_increase": True},
        {"metric": "latency", "max_ratio": 0.5},
        {"metric": "disagreement", "max": 2},
        {"metric": "promql"},
        {"metric": "promql", "query": "up"},
        {"metric": "promql", "query": "", "max": 1},
        {"metric": "promql", "query": "up", "max": "1"},
        {"metric": "promql", "query": "up", "max": 1, "more": 1},
    ],
)
def test_an_unknown_guard_is_refused(stated: Any) -> None:
    with pytest.raises(InvalidInput, match="guard"):
        parse_guard(stated)


@given(st.sampled_from([GuardSpec("latency", 1.2), GuardSpec("outputs", 0.1)]), st.integers(1, 30))
def test_evidence_goes_on_after_a_restart_as_if_there_had_been_none(guard: GuardSpec, cut: int) -> None:
    batches = histograms(guard.metric, 33, 30, 4, batches=30)
    state = after(guard, batches[:cut])
    restored = decode_state(json.loads(json.dumps(encode_state(state))))
    for batch in batches[cut:]:
        state, restored = observe(guard, state, batch), observe(guard, restored, batch)
    assert restored == state
    assert describe_evidence(guard, restored, ALPHA) == describe_evidence(guard, state, ALPHA)


@pytest.mark.parametrize(("share", "fails"), [(0.001, False), (0.0005, False), (0.01, True), (1.0, True)])
def test_an_absolute_limit_on_errors_needs_no_control(share: float, fails: bool) -> None:
    guard = GuardSpec("error_ratio", 0.001)
    generator = np.random.default_rng(3)
    bad = [int(generator.binomial(100, share)) for _ in range(300)]
    state = after(guard, [EvidenceBatch(errors=((item, 100 - item), (0, 0))) for item in bad])
    assert (judge_guard(guard, state, ALPHA) is GuardVerdict.FAIL) is fails
    assert parse_guard(describe_guard(guard)) == guard
    assert requests_needed_by(guard, state, ALPHA) is None
    assert find_effect(guard, state) == pytest.approx(sum(bad) / 30_000)


@pytest.mark.parametrize(("slow", "fails"), [(0.0, False), (0.008, False), (0.05, True)])
def test_an_absolute_limit_on_latency_counts_what_is_longer_for_certain(slow: float, fails: bool) -> None:
    guard = GuardSpec("latency_p99", 20.0)
    at_limit, longer = bisect_left(FINE_EDGES_NS, 20e6), bisect_left(FINE_EDGES_NS, 40e6)
    generator = np.random.default_rng(4)
    batches = []
    for _ in range(300):
        counts, slow_count = [0] * (len(FINE_EDGES_NS) + 1), int(generator.binomial(100, slow))
        counts[at_limit], counts[longer] = 100 - slow_count, slow_count
        batches.append(EvidenceBatch(latency=(counts, ())))
    assert (judge_guard(guard, after(guard, batches), ALPHA) is GuardVerdict.FAIL) is fails
