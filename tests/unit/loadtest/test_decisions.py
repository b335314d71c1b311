"""What a load test decides without a clock: schedules, objectives, the search for the capacity, and comparisons."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.loadtest.capacity import CONFIRMATIONS, TOLERANCE, CapacityTrial, conclude, next_probe
from penstock.loadtest.comparison import compare_pairs
from penstock.loadtest.objectives import judge, judge_ratio, parse_objective
from penstock.loadtest.schedule import Arrivals, Ramp, due_moments, parse_ramp, steady_rate

FEWEST_PAIRS = 6
"""Fewer pairs have no interval with 95 % confidence."""

# Schedules.


@given(
    st.floats(0, 500),
    st.floats(0.1, 500),
    st.floats(0.1, 3),
    st.floats(0, 5),
    st.sampled_from(["poisson", "constant"]),
    st.integers(0, 9),
)
def test_moments_are_in_order_within_the_time_and_the_same_again(
    start: float, end: float, ramped: float, seconds: float, arrivals: Arrivals, seed: int
) -> None:
    ramp = Ramp(start, end, ramped)
    moments = due_moments(ramp, seconds, arrivals, seed)
    assert (np.diff(moments) >= -1e-9).all()
    assert ((moments >= 0) & (moments <= seconds + 1e-6)).all()
    assert (moments == due_moments(ramp, seconds, arrivals, seed)).all()


def test_constant_arrivals_have_equal_distances() -> None:
    moments = due_moments(steady_rate(50), 2, "constant", 1)
    assert len(moments) == 100
    assert np.diff(moments) == pytest.approx(0.02)


def test_a_ramp_asks_more_and_more_and_then_the_same() -> None:
    moments = due_moments(Ramp(0, 100, 4), 6, "constant", 1)
    counts = np.histogram(moments, bins=6, range=(0, 6))[0]
    assert counts.tolist() == pytest.approx([12.5, 37.5, 62.5, 87.5, 100, 100], abs=1)


def test_random_arrivals_have_the_mean_and_the_spread_of_a_poisson_process() -> None:
    gaps = np.diff(due_moments(steady_rate(1000), 20, "poisson", 3))
    assert gaps.mean() == pytest.approx(0.001, rel=0.03)
    assert gaps.std() == pytest.approx(0.001, rel=0.03)


def test_a_schedule_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most 10,000,000 requests"):
        due_moments(steady_rate(1e6), 60, "constant", 1)


@pytest.mark.parametrize("text", ["", "10", "10:20", "a:b:c", "10:20:0", "-1:5:1", "10:0:5", "10:20:inf", "nan:2:2"])
def test_a_ramp_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected A:B:S"):
        parse_ramp(text)


def test_a_ramp_is_read() -> None:
    assert parse_ramp("10:500:30") == Ramp(10, 500, 30)


# Objectives.


@pytest.mark.parametrize(
    ("text", "metric", "relation", "limit"),
    [
        ("p99<20ms", "p99", "<", 20),
        (" p99.9 <= 1.5s ", "p99.9", "<=", 1500),
        ("p50<500us", "p50", "<", 0.5),
        ("max<2s", "max", "<", 2000),
        ("errors<0.1%", "errors", "<", 0.001),
        ("errors<=0", "errors", "<=", 0),
        ("rate>500", "rate", ">", 500),
        ("rate>=500/s", "rate", ">=", 500),
        ("p99_ratio<1.1", "p99_ratio", "<", 1.1),
    ],
)
def test_an_objective_is_read(text: str, metric: str, relation: str, limit: float) -> None:
    found = parse_objective(text)
    assert (found.metric, found.relation) == (metric, relation)
    assert found.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    "text", ["", "p99", "p99<", "p99<20", "p99<20%", "p98<2ms", "errors<1ms", "rate>5ms", "p99=2ms", "p99_ratio<2ms"]
)
def test_an_objective_of_another_form_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="--slo: expected"):
        parse_objective(text)


@pytest.mark.parametrize(
    ("text", "figure", "outcome"),
    [
        ("p99<20ms", 19.9, "pass"),
        ("p99<20ms", 20.0, "breach"),
        ("p99<=20ms", 20.0, "pass"),
        ("p99<20ms", math.inf, "breach"),
        ("p99<20ms", math.nan, "undecided"),
        ("rate>5", 5.0, "breach"),
        ("rate>=5", 5.0, "pass"),
    ],
)
def test_an_objective_is_judged(text: str, figure: float, outcome: str) -> None:
    objective = parse_objective(text)
    assert [verdict.outcome for verdict in judge([objective], {objective.metric: figure})] == [outcome]


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(0.9, 1.05, "pass"), (1.05, 1.2, "undecided"), (1.15, 1.3, "breach")]
)
def test_a_ratio_is_judged_by_its_whole_interval(low: float, high: float, outcome: str) -> None:
    assert judge_ratio(parse_objective("p99_ratio<1.1"), (low + high) / 2, low, high).outcome == outcome


@given(st.floats(0.001, 1e4), st.floats(0.001, 1e4))
def test_an_objective_and_its_opposite_never_agree(limit: float, figure: float) -> None:
    below, above = (parse_objective(f"p99{sign}{limit:.4f}ms") for sign in ("<", ">="))
    outcomes = {verdict.outcome for verdict in judge([below, above], {"p99": figure})}
    assert outcomes == {"pass"} | {"breach"}


# The search for the capacity.


def search(capacity: float, start: float, noise: float = 0.0, seed: int = 1, most: int = 60) -> list[CapacityTrial]:
    """Trials against a gateway that keeps the objectives below a rate, give or take noise."""
    chance, trials = random.Random(seed), list[CapacityTrial]()
    while len(trials) < most and (probe := next_probe(trials, start)) is not None:
        kept = probe.rate <= capacity * (1 + noise * chance.uniform(-1, 1))
        trials.append(CapacityTrial(probe.rate, kept, probe.confirming))
    return trials


@given(st.floats(1, 1e5), st.floats(1, 1e4))
def test_a_search_finds_the_capacity_within_its_tolerance(capacity: float, start: float) -> None:
    trials = search(capacity, start)
    found = conclude(trials, start)
    assert found.confirmed and found.limit == "objective"
    assert found.rate is not None and found.rate <= capacity
    assert found.rate * (1 + TOLERANCE) * 1.02 >= capacity  # rates have three digits
    assert found.kept_windows >= CONFIRMATIONS
    assert len(trials) <= 40


@given(st.floats(10, 1e4), st.integers(0, 1000))
def test_a_noisy_search_ends_near_the_capacity(capacity: float, seed: int) -> None:
    trials = search(capacity, 50, noise=0.1, seed=seed)
    found = conclude(trials, 50)
    assert found.confirmed
    assert found.rate is not None and 0.8 * capacity <= found.rate <= 1.1 * capacity


def test_a_gateway_that_keeps_nothing_has_no_capacity() -> None:
    trials = search(0.0, 100)
    found = conclude(trials, 100)
    assert (found.rate, found.confirmed, found.kept_windows) == (None, True, 0)
    assert len(trials) < 15


def test_a_limit_of_the_generator_is_not_reported_as_one_of_the_gateway() -> None:
    trials = [CapacityTrial(100, kept=True), CapacityTrial(200, kept=False, limited=True)]
    assert conclude(trials, 100).limit == "generator"
    assert conclude([*trials, CapacityTrial(150, kept=False)], 100).limit == "objective"


def test_a_search_that_was_cut_is_not_confirmed() -> None:
    found = conclude([CapacityTrial(100, kept=True)], 100)
    assert (found.rate, found.breached, found.limit, found.confirmed) == (100, None, "none", False)
    assert conclude([], 100).confirmed is False


def test_a_breach_while_confirming_lowers_the_rate() -> None:
    trials = [
        CapacityTrial(100, kept=True),
        CapacityTrial(104, kept=False),
        CapacityTrial(100, kept=False, confirming=True),
    ]
    probe = next_probe(trials, 100)
    assert probe is not None and probe.rate < 100


def test_more_kept_windows_are_surer() -> None:
    three, ten = (conclude([CapacityTrial(9, kept=True)] * count, 9).breach_share for count in (3, 10))
    assert three == pytest.approx(1 - 0.05 ** (1 / 3)) and ten < three


# Comparisons.


def test_the_interval_is_that_of_the_signed_rank_test() -> None:
    ratios = [1.1, 1.2, 1.05, 1.15, 1.12, 1.08, 1.3, 1.02]
    found = compare_pairs(ratios, [1.0] * 8)
    means = [math.sqrt(a * b) for place, a in enumerate(ratios) for b in ratios[place:]]
    assert found.estimate == pytest.approx(float(np.median(means)), rel=1e-3)
    assert found.low == pytest.approx(sorted(means)[3])
    assert found.low > 1 and found.direction == "slower"
    assert found.confidence == pytest.approx(1 - 2 * 5 / 256)  # of the 256 signs five have a rank sum of at most 3


@pytest.mark.parametrize("pairs", range(FEWEST_PAIRS))
def test_too_few_pairs_decide_nothing(pairs: int) -> None:
    found = compare_pairs([2.0] * pairs, [1.0] * pairs)
    assert (found.low, found.high) == (0.0, math.inf)
    assert found.direction == "no difference found"


def test_pairs_without_two_figures_are_left_out() -> None:
    found = compare_pairs([1.0, math.inf, math.nan, 2.0], [1.0, math.inf, 1.0, 0.0])
    assert (found.pairs, found.estimate) == (1, 1.0)


@pytest.mark.parametrize(("failed", "outcome"), [(10, "breach"), (9, "breach"), (5, "undecided"), (0, "pass")])
def test_a_version_that_fails_is_not_faster(failed: int, outcome: str) -> None:
    found = compare_pairs([math.inf] * failed + [0.5] * (10 - failed), [1.0] * 10)
    verdict = judge_ratio(parse_objective("p99_ratio<1.1"), found.estimate, found.low, found.high)
    assert verdict.outcome == outcome


@given(st.lists(st.tuples(*[st.sampled_from([0.5, 1.0, math.inf])] * 2), max_size=12))
def test_failures_keep_the_order_of_an_interval(pairs: list[tuple[float, float]]) -> None:
    found = compare_pairs([own for own, _ in pairs], [other for _, other in pairs])
    assert math.isnan(found.estimate) or found.low <= found.estimate <= found.high


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=FEWEST_PAIRS, max_size=12))
def test_the_other_way_round_the_ratio_is_its_inverse(pairs: list[tuple[float, float]]) -> None:
    own, others = zip(*pairs, strict=True)
    there, back = compare_pairs(own, others), compare_pairs(others, own)
    assert there.low <= there.estimate * (1 + 1e-9) and there.estimate <= there.high * (1 + 1e-9)
    assert there.estimate * back.estimate == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


def test_intervals_of_equal_versions_contain_one_as_often_as_they_state() -> None:
    chance = np.random.default_rng(5)
    found = [compare_pairs(*np.exp(chance.standard_t(3, (2, 10)) / 20).tolist()) for _ in range(600)]  # heavy tails
    contained = [interval.low <= 1 <= interval.high for interval in found]
    assert sum(contained) / len(found) > found[0].confidence - 0.03
