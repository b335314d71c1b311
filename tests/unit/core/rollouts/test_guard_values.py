"""What guards keep and say, number by number: the document of evidence, limits of a verdict, the counts compared."""

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest

from penstock.core.buckets import FINE_EDGES_NS
from penstock.core.label_matching import describe_delay
from penstock.core.rollouts.guard_evidence import (
    EvidenceBatch,
    GuardState,
    LabelledCounts,
    allowed_bins,
    at_next_step,
    harm_now,
    observe,
)
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.guards import (
    GuardVerdict,
    decode_state,
    describe_evidence,
    encode_state,
    find_effect,
    judge_guard,
    requests_needed_by,
    requests_to_pass,
)
from penstock.core.statistics.confidence_sequences import Mean, find_confidence_sequence
from penstock.core.statistics.evidence import Evidence, split_batch, with_recent
from penstock.core.statistics.odds_ratio import rate_rises
from penstock.core.statistics.one_sample import share_above, share_below
from penstock.core.statistics.total_variation import distance_below
from penstock.core.statistics.two_sample import add_excess_batch, rate_below, rate_exceeds

ALPHA = 0.01
FAILS, PASSES = math.log(100), math.log(20)


def evidence(log_e: float, canary: Sequence[float] = (2.0, 98.0), begun_at: int = 0) -> Evidence:
    return Evidence(tuple(canary), (1.0, 399.0), log_e, log_e, (log_e,), (0.5, 0.5), 0.25, begun_at)


FULL = GuardState(
    evidence(1.0), evidence(2.0), evidence(3.0), 1.5, -2, 0.5, 0.25, (1, 0, 2), evidence(4.0), evidence(5.0), 3, 7.0
)


def test_a_guard_s_evidence_survives_as_json_values() -> None:
    """All of it; what older gateways did not keep has its default."""
    kept = json.loads(json.dumps(encode_state(FULL)))
    assert set(kept) == {field.name for field in fields(GuardState)}
    assert decode_state(kept) == FULL
    for name in ("exposure", "ages", "run_harm", "run_health", "copies", "failed_before"):
        older = {key: value for key, value in kept.items() if key != name}
        assert decode_state(older) == replace(FULL, **{name: getattr(GuardState(), name)})
    for name in ("harm", "health", "tail", "peak", "streak", "value"):
        with pytest.raises(KeyError, match=name):
            decode_state({key: value for key, value in kept.items() if key != name})


ERRORS = GuardSpec("errors", 0.02)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (GuardState(peak=FAILS), GuardVerdict.FAIL),
        (GuardState(peak=FAILS - 1e-9), GuardVerdict.UNDECIDED),
        (GuardState(health=Evidence(peak=PASSES)), GuardVerdict.PASS),
        (GuardState(health=Evidence(peak=PASSES - 1e-9)), GuardVerdict.UNDECIDED),
        (GuardState(harm=Evidence(log_e=math.log(5)), health=Evidence(peak=9.0)), GuardVerdict.UNDECIDED),
        (GuardState(harm=Evidence(log_e=math.log(5) - 1e-9), health=Evidence(peak=9.0)), GuardVerdict.PASS),
        (GuardState(peak=FAILS, copies=2, harm=Evidence((3.0, 9.0))), GuardVerdict.UNDECIDED),
        (GuardState(peak=FAILS, copies=2, harm=Evidence((4.0, 9.0))), GuardVerdict.FAIL),
        (GuardState(peak=FAILS, copies=1, harm=Evidence((1.0, 9.0))), GuardVerdict.UNDECIDED),
        (GuardState(peak=FAILS, copies=2, harm=Evidence((8.0, 9.0)), failed_before=5.0), GuardVerdict.UNDECIDED),
        (GuardState(peak=FAILS, copies=2, harm=Evidence((8.0, 9.0)), failed_before=4.0), GuardVerdict.FAIL),
        (GuardState(peak=FAILS, copies=2), GuardVerdict.UNDECIDED),
        (GuardState(peak=FAILS, copies=0, harm=Evidence((1.0, 9.0))), GuardVerdict.FAIL),
    ],
)
def test_a_verdict_at_its_limits(state: GuardState, expected: GuardVerdict) -> None:
    assert judge_guard(ERRORS, state, ALPHA) is expected


@pytest.mark.parametrize(
    ("streak", "expected"),
    [
        (3, GuardVerdict.PASS),
        (2, GuardVerdict.UNDECIDED),
        (0, GuardVerdict.UNDECIDED),
        (-2, GuardVerdict.UNDECIDED),
        (-3, GuardVerdict.FAIL),
    ],
)
def test_a_query_has_to_agree_three_times(streak: int, expected: GuardVerdict) -> None:
    assert judge_guard(GuardSpec("promql", query="up", least=1.0), GuardState(streak=streak), ALPHA) is expected


LATENCY = GuardSpec("latency", 1.2)


@pytest.mark.parametrize(
    ("runs", "requests", "run_peak", "expected"),
    [
        (5, 100, 0.0, GuardVerdict.PASS),  # no more than a twentieth of the requests: too few to say anything
        (6, 100, 0.0, GuardVerdict.UNDECIDED),
        (6, 100, PASSES, GuardVerdict.PASS),
    ],
)
def test_both_times_have_to_be_healthy(runs: int, requests: int, run_peak: float, expected: GuardVerdict) -> None:
    state = GuardState(
        Evidence((float(requests),)),
        Evidence(peak=9.0),
        run_harm=Evidence((float(runs),)),
        run_health=Evidence(peak=run_peak),
    )
    assert judge_guard(LATENCY, state, ALPHA) is expected
    assert state.passed == (9.0 if runs == 5 else run_peak)


def test_harm_of_latency_is_the_mean_of_three_tests() -> None:
    state = GuardState(Evidence(log_e=1.0), tail=Evidence(log_e=2.0), run_harm=Evidence(log_e=3.0))
    assert harm_now(LATENCY, state) == pytest.approx(math.log(0.5 * math.e + 0.2 * math.e**2 + 0.3 * math.e**3))
    assert harm_now(GuardSpec("outputs", 0.1), state) == 2.0
    assert harm_now(ERRORS, state) == 1.0


def test_guards_report_their_effects() -> None:
    harm = Evidence((5.0, 15.0), (2.0, 78.0))
    assert find_effect(ERRORS, GuardState(harm)) == pytest.approx(0.25 - 0.025)
    assert find_effect(GuardSpec("error_ratio", 0.01), GuardState(harm)) == 0.25
    assert find_effect(GuardSpec("error_ratio", 0.01), GuardState(replace(harm, control=()))) == 0.25
    for lacking in (replace(harm, canary=()), replace(harm, control=())):
        assert find_effect(ERRORS, GuardState(lacking)) is None
    assert find_effect(GuardSpec("disagreement", 0.1), GuardState()) is None
    moved = GuardState(harm, Evidence((1.0, 3.0), (3.0, 1.0)))
    assert find_effect(GuardSpec("outputs", 0.1), moved) == pytest.approx(0.5)
    slower = Evidence((0.0, 1.0, 3.0), (2.0, 2.0, 0.0))
    bins = (
        1.75 - 0.5 + 3
    )  # the canary's counts are kept that many bins lower: 1.2 times is less than 3 / 8 of an octave
    assert allowed_bins(LATENCY) == 3
    assert find_effect(LATENCY, GuardState(slower)) == pytest.approx(2 ** (bins / 8))


@pytest.mark.parametrize(("limit", "bins"), [(1.0, 0), (2 ** (1 / 8), 1), (2 ** (1 / 8) + 1e-6, 2), (2.0, 8), (1.2, 3)])
def test_so_many_bins_are_allowed(limit: float, bins: int) -> None:
    assert allowed_bins(GuardSpec("latency", limit)) == bins


def test_guards_estimate_the_requests_they_need() -> None:
    """In proportion to the evidence since the test began."""
    growing = GuardState(evidence(-1.0), evidence(1.0))
    assert requests_needed_by(ERRORS, growing, ALPHA) == math.ceil(100 * (PASSES - 1))
    assert requests_to_pass(growing) == math.ceil(100 * (PASSES - 1))
    renewed = GuardState(evidence(-1.0), evidence(1.0, begun_at=60))
    assert requests_needed_by(ERRORS, renewed, ALPHA) == requests_to_pass(renewed) == math.ceil(40 * (PASSES - 1))
    twice = GuardState(evidence(-1.0), evidence(2.0))
    assert requests_needed_by(ERRORS, twice, ALPHA) == requests_to_pass(twice) == math.ceil(50 * (PASSES - 2))
    harmful = GuardState(evidence(4.0), evidence(-1.0), peak=4.5)
    assert requests_needed_by(ERRORS, harmful, ALPHA) == math.ceil(100 * (FAILS - 4.5) / 4.5)
    both = GuardState(evidence(4.0), evidence(1.0), peak=4.5)
    assert requests_needed_by(ERRORS, both, ALPHA) == math.ceil(100 * (FAILS - 4.5) / 4.5)
    held_up = GuardState(evidence(2.0), evidence(1.0), peak=2.0)
    assert requests_needed_by(ERRORS, held_up, ALPHA) == math.ceil(50 * (FAILS - 2))
    for none in (
        GuardState(),
        GuardState(evidence(0.0), evidence(0.0)),
        GuardState(health=evidence(1.0, begun_at=100)),
    ):
        assert requests_needed_by(ERRORS, none, ALPHA) is None
        assert requests_to_pass(none) is None
    nearly = GuardState(health=evidence(PASSES - 1e-6))
    assert requests_needed_by(ERRORS, nearly, ALPHA) == requests_to_pass(nearly) == 1
    assert requests_to_pass(GuardState(health=evidence(9.0))) == 1
    assert requests_needed_by(ERRORS, GuardState(peak=FAILS), ALPHA) == 0
    assert requests_needed_by(GuardSpec("error_ratio", 0.1), growing, ALPHA) is None
    assert requests_needed_by(GuardSpec("promql", query="up", most=1.0), growing, ALPHA) is None


def test_the_slower_of_two_healthy_times_is_waited_for() -> None:
    state = GuardState(evidence(-1.0), evidence(2.0), run_harm=evidence(-1.0), run_health=evidence(1.0))
    assert requests_needed_by(LATENCY, state, ALPHA) == math.ceil(100 * (PASSES - 1))
    few = replace(state, run_harm=Evidence((0.0, 5.0)))
    assert requests_needed_by(LATENCY, few, ALPHA) == math.ceil(50 * (PASSES - 2))


def test_what_people_are_shown_of_a_guard() -> None:
    state = GuardState(evidence(1.23456), Evidence(peak=2.34567), peak=1.98766)
    assert describe_evidence(ERRORS, state, ALPHA) == {
        "metric": "errors",
        "verdict": "undecided",
        "log_e": 1.9877,
        "log_e_fail_at": 4.6052,
        "log_e_pass": 2.3457,
        "log_e_pass_at": 2.9957,
        "n_canary": 100,
        "n_control": 400,
        "effect": 0.0175,
        "needed": math.ceil(100 * (FAILS - 1.98766) / 1.98766),
        "max_increase": 0.02,
    }
    third = GuardState(Evidence((1.0, 2.0), (0.0, 3.0)))
    assert describe_evidence(ERRORS, third, ALPHA)["effect"] == 0.333333
    assert describe_evidence(ERRORS, GuardState(), ALPHA)["effect"] is None


def test_what_people_are_shown_of_the_time_of_runs() -> None:
    runs = Evidence((0.0, 1.0, 3.0), (2.0, 2.0, 0.0), 0.123456)
    found = describe_evidence(LATENCY, GuardState(run_harm=runs), ALPHA)
    assert {name: value for name, value in found.items() if name.startswith("run")} == {
        "run_effect": round(2 ** (4.25 / 8), 6),
        "run_log_e": 0.1235,
        "run_n_canary": 4,
        "run_n_control": 4,
    }
    assert found["max_ratio"] == 1.2
    for lacking in (replace(runs, canary=()), replace(runs, control=())):
        assert describe_evidence(LATENCY, GuardState(run_harm=lacking), ALPHA)["run_effect"] is None


def test_what_people_are_shown_of_labels() -> None:
    guard = GuardSpec("performance", 0.05)
    state = GuardState(Evidence((30.0, 70.0), (20.0, 180.0)), ages=(5, 0, 95, 200))
    canary, control = (find_confidence_sequence(Mean(n, bad, bad), 0.025) for n, bad in ((100, 30.0), (200, 20.0)))
    found = describe_evidence(guard, state, ALPHA)
    assert found["interval"] == [round(canary.low - control.high, 6), round(canary.high - control.low, 6)]
    assert found["label_delay_seconds"] == {"median_below": 8.0, "all_below": 8.0}
    assert "interval" not in describe_evidence(ERRORS, state, ALPHA)
    assert "run_effect" not in found


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ({}, None),
        ({3: 0}, None),
        ({0: 1}, {"median_below": 1.0, "all_below": 1.0}),
        ({0: 5, 2: 5}, {"median_below": 1.0, "all_below": 4.0}),
        ({2: 6, 0: 5}, {"median_below": 4.0, "all_below": 4.0}),
        ({0: 1, 1: 3, 4: 2}, {"median_below": 2.0, "all_below": 16.0}),
    ],
)
def test_ages_of_labels(ages: dict[int, int], expected: dict[str, float] | None) -> None:
    assert describe_delay(ages) == expected


@pytest.mark.parametrize(
    ("guard", "exposure", "control", "shown"),
    [
        (GuardSpec("errors"), 0.5, (5.0, 495.0), 0.02),
        (GuardSpec("errors"), 1.0, (5.0, 495.0), 0.01),
        (GuardSpec("errors"), 1.0, (), 0.002),
        (GuardSpec("errors", objective=0.001), 0.3, (5.0, 495.0), 0.003333),
        (GuardSpec("errors", 0.5), 0.3, (5.0, 495.0), 0.5),
        (GuardSpec("errors"), 0.0, (5.0, 495.0), None),
    ],
)
def test_the_limit_of_errors_that_is_shown(
    guard: GuardSpec, exposure: float, control: tuple[float, ...], shown: float | None
) -> None:
    state = GuardState(Evidence((0.0, 1.0), control), exposure=exposure)
    assert describe_evidence(guard, state, ALPHA).get("max_increase") == shown


# How batches become evidence: each guard's tests are those of the statistics package, on its own counts.

A, B = (3.0, 17.0), (4.0, 76.0)
SEEN = Evidence((5.0, 95.0), (8.0, 392.0), recent=(1.0, 9.0))


def test_errors_are_compared_by_their_limit() -> None:
    state = GuardState(SEEN, SEEN, copies=2)
    found = observe(ERRORS, state, EvidenceBatch(errors=(A, B), copies=1), 0.5)
    harm, health = rate_rises(SEEN, A, B), rate_below(SEEN, A, B, 0.02)
    assert found == GuardState(harm, health, copies=2, peak=harm.log_e)
    assert observe(ERRORS, state, EvidenceBatch(errors=(A, B), copies=3)).copies == 3


@pytest.mark.parametrize(
    ("exposure", "control", "limit"), [(0.5, (8.0, 392.0), 0.04), (1.0, (), 0.002), (0.25, (4.0, 796.0), 0.02)]
)
def test_the_default_limit_of_errors_is_the_control_s_rate(
    exposure: float, control: tuple[float, ...], limit: float
) -> None:
    state = GuardState(replace(SEEN, control=control), replace(SEEN, log_e=1.0, bets=(1.0,)), exposure=exposure)
    batch = EvidenceBatch(errors=(A, B))
    found = observe(GuardSpec("errors"), state, batch, exposure)
    assert found.health == rate_below(state.health, A, B, limit)
    assert found.exposure == exposure
    again = observe(GuardSpec("errors"), replace(state, exposure=0.1), batch, exposure)
    assert again.health == rate_below(state.health.restart(), A, B, limit)
    assert again.exposure == exposure


def test_labels_are_compared_stratum_by_stratum() -> None:
    guard = GuardSpec("performance", 0.05)
    strata = (LabelledCounts(2, A, B), LabelledCounts(0, (1.0, 1.0), (2.0, 3.0)))
    found = observe(guard, GuardState(SEEN, SEEN, ages=(4,)), EvidenceBatch(labelled=strata))
    harm = rate_rises(rate_rises(SEEN, A, B), (1.0, 1.0), (2.0, 3.0))
    health = rate_below(rate_below(SEEN, A, B, 0.05), (1.0, 1.0), (2.0, 3.0), 0.05)
    assert (found.harm, found.health) == (harm, health)
    assert found.ages == (11, 0, 100)


def test_absolute_limits_count_the_canary() -> None:
    ratio = observe(GuardSpec("error_ratio", 0.1), GuardState(SEEN), EvidenceBatch(errors=(A, B)))
    assert ratio.harm == share_above(SEEN, A, 0.1)
    pairs = observe(GuardSpec("disagreement", 0.1), GuardState(SEEN, SEEN), EvidenceBatch(disagreements=A))
    assert (pairs.harm, pairs.health) == (share_above(SEEN, A, 0.1), share_below(SEEN, A, 0.1))
    quality = observe(GuardSpec("quality", 0.1), GuardState(SEEN, SEEN), EvidenceBatch(quality=(A, B)))
    assert (quality.harm, quality.health) == (rate_rises(SEEN, A, B), rate_below(SEEN, A, B, 0.1))


@pytest.mark.parametrize("limit_ms", [20.0, FINE_EDGES_NS[40] / 1e6, (FINE_EDGES_NS[40] + 1) / 1e6])
def test_times_are_longer_where_all_of_their_bucket_is(limit_ms: float) -> None:
    counts = [1.0] * (len(FINE_EDGES_NS) + 1)
    lower_edges = [0, *FINE_EDGES_NS]
    longer = float(sum(edge >= limit_ms * 1e6 for edge in lower_edges))
    found = observe(GuardSpec("latency_p99", limit_ms), GuardState(), EvidenceBatch(latency=(counts, ())))
    assert found.harm.canary == (longer, len(counts) - longer)
    assert found.harm == share_above(Evidence(), (longer, len(counts) - longer), 0.01)


@pytest.mark.parametrize(
    ("streak", "value", "expected"),
    [(0, 1.0, 1), (2, 2.0, 3), (-2, 1.5, 1), (2, 0.999, -1), (0, 2.001, -1), (-3, 3.0, -4)],
)
def test_answers_within_bounds_follow_each_other(streak: int, value: float, expected: int) -> None:
    guard = GuardSpec("promql", query="up", least=1.0, most=2.0)
    found = observe(guard, GuardState(streak=streak), EvidenceBatch(values={"up": value}))
    assert (found.streak, found.value) == (expected, value)
    for unknown in ({}, {"up": math.nan}):
        assert observe(guard, GuardState(streak=streak), EvidenceBatch(values=unknown)).streak == streak


def down(counts: list[float], bins: int) -> list[float]:
    """All counts so many bins lower, at least in the first."""
    found = [0.0] * len(counts)
    for at, count in enumerate(counts):
        found[max(0, at - bins)] += count
    return found


def test_latencies_are_compared_whole_by_their_tail_and_by_their_runs() -> None:
    rng = np.random.default_rng(2)
    canary, control, runs_a, runs_b = (rng.integers(0, 5, 20).astype(float).tolist() for _ in range(4))
    before = rng.integers(3, 9, 20).astype(float)
    known = Evidence(tuple(before.tolist()), tuple((before + 1).tolist()))
    state = GuardState(known, known, Evidence((1.0, 9.0), (2.0, 30.0)), run_harm=known, run_health=known)
    guard = GuardSpec("latency", 1.5)  # 5 bins are allowed; 4 are surely proven
    found = observe(guard, state, EvidenceBatch(latency=(canary, control), runs=(runs_a, runs_b)))
    assert found.harm == add_excess_batch(known, down(canary, 5), control, any_onset=True)
    assert found.run_harm == add_excess_batch(known, down(runs_a, 5), runs_b, any_onset=True)
    upside = replace(known, canary=known.canary[::-1], control=known.control[::-1])
    health = add_excess_batch(upside, down(canary, 4)[::-1], control[::-1])
    assert found.health == replace(health, canary=health.canary[::-1], control=health.control[::-1])
    assert found.run_health.log_e == add_excess_batch(upside, down(runs_a, 4)[::-1], runs_b[::-1]).log_e
    share = np.cumsum(before + 1) / (before + 1).sum()
    at = int(np.argmax(share >= 0.99))
    split_a, split_b = ((sum(x[at + 1 :]), sum(x[: at + 1])) for x in (down(canary, 5), control))
    assert found.tail == rate_rises(state.tail, split_a, split_b)
    assert found.peak == max(0.0, harm_now(guard, found))
    alone = observe(guard, state, EvidenceBatch(latency=(canary, control)))
    assert (alone.harm, alone.run_harm, alone.run_health) == (found.harm, known, known)
    one_sided = observe(guard, state, EvidenceBatch(latency=(canary, control), runs=([0.0] * 20, [0.0] * 19 + [1.0])))
    assert one_sided.run_harm != known
    assert observe(guard, state, EvidenceBatch(runs=(runs_a, runs_b))) == state


@pytest.mark.parametrize(("total", "tail"), [(99, False), (100, True)])
def test_a_tail_is_split_off_when_a_hundredth_is_one(total: int, tail: bool) -> None:
    state = GuardState(Evidence((1.0, 0.0, 0.0), (total - 1.0, 1.0, 0.0)))
    found = observe(GuardSpec("latency", 1.0), state, EvidenceBatch(latency=((0.0, 1.0, 2.0), (5.0, 1.0, 1.0))))
    assert found.tail == (rate_rises(Evidence(), (3.0, 0.0), (2.0, 5.0)) if tail else Evidence())


def test_a_small_limit_of_latency_is_proven_at_a_fifth() -> None:
    """Healthy is less than 1.2 times as slow: 2.1 bins, so 2."""
    canary, control = [1.0, 5.0, 3.0, 2.0], [4.0, 9.0, 8.0, 7.0]
    known = Evidence((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0))
    found = observe(GuardSpec("latency", 1.0), GuardState(known, known), EvidenceBatch(latency=(canary, control)))
    upside = replace(known, canary=known.canary[::-1], control=known.control[::-1])
    assert found.health.log_e == add_excess_batch(upside, down(canary, 2)[::-1], control[::-1]).log_e
    assert found.harm == add_excess_batch(known, canary, control, any_onset=True)


def test_outputs_are_bet_on_by_the_bins_that_gained() -> None:
    guard = GuardSpec("outputs", 0.1)
    known = Evidence((4.0, 6.0, 10.0), (50.0, 100.0, 50.0), recent=(4.0, 6.0, 9.0))
    bets, near = Evidence((2.0, 1.0), (3.0, 4.0), 0.5, 0.5, (0.5,)), Evidence((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    a, b = (1.0, 2.0, 5.0), (9.0, 9.0, 6.0)
    found = observe(guard, GuardState(known, near, bets), EvidenceBatch(outputs=(a, b)))
    # Of late the shares are 4/19, 6/19, 9/19 against 1/4, 1/2, 1/4: the third bin gained.
    before = replace(bets, canary=(10.0, 10.0), control=(50.0, 150.0), recent=(9.0, 10.0))
    assert found.tail == rate_exceeds(before, (5.0, 3.0), (6.0, 18.0), 0.1, any_onset=True)
    assert found.health == distance_below(near, a, b, 0.1)
    assert (found.harm.canary, found.harm.control) == ((5.0, 8.0, 15.0), (59.0, 109.0, 56.0))
    assert found.harm.recent == with_recent(known, np.array(a))
    assert found.peak == max(0.0, found.tail.log_e)
    first = observe(guard, GuardState(), EvidenceBatch(outputs=(a, b)))
    assert (first.tail, first.harm.canary, first.harm.control) == (Evidence(), a, b)
    for lacking in (((0.0,) * 3, b), (a, (0.0,) * 3), ((), ())):
        assert observe(guard, GuardState(known, near, bets), EvidenceBatch(outputs=lacking)).harm == known


def test_a_large_batch_of_outputs_is_bet_on_part_by_part() -> None:
    guard, a, b = GuardSpec("outputs", 0.1), (20.0, 20.0, 56.0), (90.0, 90.0, 20.0)
    state = GuardState()
    whole = observe(guard, state, EvidenceBatch(outputs=(a, b)))
    for one, other in split_batch(Evidence(), np.array(a), np.array(b)):
        state = observe(guard, state, EvidenceBatch(outputs=(one.tolist(), other.tolist())))
    assert (whole.harm, whole.tail) == (state.harm, state.tail)
    assert whole.tail != Evidence()


@pytest.mark.parametrize(
    ("metric", "renewed", "counts_units"),
    [
        ("errors", True, True),
        ("latency", True, False),
        ("quality", True, False),
        ("outputs", False, False),
        ("error_ratio", False, True),
    ],
)
def test_at_the_next_step_health_has_to_show_again(metric: str, renewed: bool, counts_units: bool) -> None:
    state = replace(FULL, failed_before=1.0)
    found = at_next_step(GuardSpec(metric, 1.0), state)
    expected = replace(state, failed_before=2.0) if counts_units else state
    if renewed:
        expected = replace(expected, health=state.health.restart(), run_health=state.run_health.restart())
    assert found == expected
    fresh = at_next_step(GuardSpec(metric, 1.0), GuardState(failed_before=3.0))
    assert fresh.failed_before == (0.0 if counts_units else 3.0)
