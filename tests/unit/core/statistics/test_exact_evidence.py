"""The evidence of each test against the formula it is named after, worked out in plain Python from the counts alone."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from penstock.core.statistics import one_sample, two_sample
from penstock.core.statistics.evidence import (
    FROM_THE_START,
    MEMORY,
    MOST_DIVIDED,
    ONSET_SCALE,
    Evidence,
    average_evidence,
    decode_evidence,
    onset_weight,
    split_batch,
    with_batch,
    with_batch_any_onset,
    with_recent,
)
from penstock.core.statistics.odds_ratio import ODDS_RATIOS, WEIGHTS, rate_rises

EXACT = 1e-9


def hypergeometric_gain(a: tuple[int, int], b: tuple[int, int], ratio: float) -> float:
    """``ratio^x / E[ratio^X]`` of the hypergeometric distribution, by whole numbers."""
    n_a, n_b, total = sum(a), sum(b), a[0] + b[0]
    weights = {x: math.comb(n_a, x) * math.comb(n_b, total - x) for x in range(min(n_a, total) + 1) if total - x <= n_b}
    every = sum(weights.values())
    return a[0] * math.log(ratio) - math.log(math.fsum(weight / every * ratio**x for x, weight in weights.items()))


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 4), (0, 95)), ((3, 2), (7, 12)), ((4, 1), (18, 2)), ((0, 9), (5, 1)), ((2, 3), (4, 0)), ((9, 1), (1, 0))],
)
def test_failures_are_weighed_by_fishers_noncentral_distribution(a: tuple[int, int], b: tuple[int, int]) -> None:
    found = rate_rises(Evidence(), a, b)
    fresh = 0.4 * sum(a) / (sum(a) + ONSET_SCALE)
    sums = [math.exp(hypergeometric_gain(a, b, ratio)) * FROM_THE_START + fresh for ratio in ODDS_RATIOS]
    assert [math.exp(bet) for bet in found.bets] == pytest.approx(sums, rel=EXACT)
    whole = sum(weight * item for weight, item in zip(WEIGHTS, sums, strict=True)) + 0.4 - fresh
    assert math.exp(found.log_e) == pytest.approx(whole, rel=EXACT)
    assert (found.canary, found.control) == (tuple(map(float, a)), tuple(map(float, b)))
    assert found.peak == max(0.0, found.log_e)


@pytest.mark.parametrize(
    ("a", "b"), [((900, 9100), (2000, 58_000)), ((30_000, 10_000), (15_000, 5_000)), ((19_000, 1000), (100, 49_900))]
)
def test_large_batches_are_weighed_by_all_terms_that_matter(a: tuple[int, int], b: tuple[int, int]) -> None:
    found = rate_rises(replace(Evidence(), bets=(0.0,) * len(ODDS_RATIOS)), a, b)
    n_a, n_b, total = sum(a), sum(b), a[0] + b[0]

    def log_comb(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    span = range(max(0, total - n_b), min(n_a, total) + 1)
    terms = np.array([log_comb(n_a, x) + log_comb(n_b, total - x) for x in span])
    for bet, ratio in zip(found.bets, ODDS_RATIOS, strict=True):
        tilted = terms + np.array(span) * math.log(ratio)
        expected = a[0] * math.log(ratio) - (np.logaddexp.reduce(tilted) - np.logaddexp.reduce(terms))
        fresh = 0.4 * n_a / (n_a + ONSET_SCALE)
        assert bet == pytest.approx(float(np.logaddexp(expected, math.log(fresh))), rel=1e-6, abs=1e-6)


def test_a_batch_is_compared_where_both_have_some_and_not_all_failed() -> None:
    start = math.log(FROM_THE_START)
    for a, b in (((0, 0), (3, 9)), ((3, 9), (0, 0)), ((0, 9), (0, 90)), ((9, 0), (90, 0))):
        fresh = 0.4 * sum(a) / (sum(a) + ONSET_SCALE)
        expected = math.log(FROM_THE_START + fresh) if fresh else start
        assert rate_rises(Evidence(), a, b).bets == pytest.approx([expected] * len(ODDS_RATIOS), rel=EXACT)
    for a, b in (((1, 0), (8, 1)), ((0, 1), (9, 0)), ((1, 0), (0, 1)), ((0, 1), (1, 0))):
        assert rate_rises(Evidence(), a, b).log_e != pytest.approx(0.0, abs=1e-6)


def test_bets_grow_by_their_gains_and_begin_anew_at_each_batch() -> None:
    a, b = np.array([3.0, 7.0]), np.array([1.0, 29.0])
    one = with_batch_any_onset(Evidence(), a, b, [0.5, -0.25], [0.75, 0.25])
    first, second = 0.4 * 10 / 20_010, 0.4 * 20 / 20_020
    bets = [0.6 * math.exp(0.5) + first, 0.6 * math.exp(-0.25) + first]
    assert [math.exp(bet) for bet in one.bets] == pytest.approx(bets, rel=EXACT)
    assert math.exp(one.log_e) == pytest.approx(0.75 * bets[0] + 0.25 * bets[1] + 0.4 - first, rel=EXACT)
    two = with_batch_any_onset(one, a, b, [-1.0, 2.0], [0.75, 0.25])
    bets = [bets[0] * math.exp(-1) + second - first, bets[1] * math.exp(2) + second - first]
    assert [math.exp(bet) for bet in two.bets] == pytest.approx(bets, rel=EXACT)
    assert math.exp(two.log_e) == pytest.approx(0.75 * bets[0] + 0.25 * bets[1] + 0.4 - second, rel=EXACT)
    assert (two.canary, two.control, two.peak) == ((6.0, 14.0), (2.0, 58.0), max(one.log_e, two.log_e))
    assert (two.n_canary, two.n_control) == (20, 60)
    assert onset_weight(20.0) == pytest.approx(second)


def test_bets_of_equal_weights_are_averaged() -> None:
    a, b = np.array([3.0, 7.0]), np.array([1.0, 29.0])
    one = with_batch(Evidence(), a, b, [1.0, -1.0])
    two = with_batch(one, a, b, [-3.0, 0.5])
    assert (one.bets, two.bets) == ((1.0, -1.0), (-2.0, -0.5))
    assert one.log_e == one.peak == two.peak == pytest.approx(math.log(math.cosh(1)))
    assert two.log_e == pytest.approx(math.log((math.exp(-2) + math.exp(-0.5)) / 2))
    assert with_batch(two, a, b, [0.25]).bets == (0.25,), "bets of another test begin again"
    assert average_evidence([0.0, math.log(3)], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert average_evidence([800.0, 800.0], [0.5, 0.5]) == pytest.approx(800.0)


def test_what_was_seen_of_late_fades() -> None:
    """Rows fade by ``exp(-1 / MEMORY)`` each, those of a batch as if they came evenly."""
    one = with_recent(Evidence(), np.array([100.0, 400.0]))
    assert one == pytest.approx((100 * (1 - math.exp(-1)), 400 * (1 - math.exp(-1))))
    two = with_recent(replace(Evidence(), recent=one), np.array([50.0, 0.0]))
    kept = math.exp(-50 / MEMORY)
    assert two == pytest.approx((one[0] * kept + MEMORY * (1 - kept), one[1] * kept))
    assert with_recent(replace(Evidence(), recent=(3.0, 4.0)), np.zeros(2)) == (3.0, 4.0)
    assert with_recent(Evidence(), np.zeros(2)) == (0.0, 0.0)
    assert with_recent(Evidence(), np.array([1.0, 0.0]))[0] == pytest.approx(MEMORY * (1 - math.exp(-1 / MEMORY)))


@pytest.mark.parametrize(
    ("n_a", "n_b", "sizes"),
    [
        (95, 400, [95]),
        (96, 400, [32, 64]),
        (223, 400, [74, 149]),
        (224, 400, [32, 64, 128]),
        (224, 3, [32, 64, 128]),
        (224, 2, [224]),
        (96, MOST_DIVIDED - 97, [32, 64]),
        (96, MOST_DIVIDED - 96, [96]),
        (0, 50, [0]),
    ],
)
def test_a_batch_is_divided_into_parts_that_double(n_a: int, n_b: int, sizes: list[int]) -> None:
    canary, control = np.array([n_a - n_a // 3, n_a // 3], float), np.array([n_b // 2, n_b - n_b // 2], float)
    found = list(split_batch(Evidence(), canary, control))
    assert [int(a.sum()) for a, _ in found] == sizes
    assert np.sum([a for a, _ in found], axis=0).tolist() == canary.tolist()
    assert np.sum([b for _, b in found], axis=0).tolist() == control.tolist()
    total = 2 ** len(sizes) - 1
    ends = [round(n_b * (2 ** (at + 1) - 1) / total) for at in range(len(sizes))]
    assert np.cumsum([b.sum() for _, b in found]).tolist() == ends
    again = list(split_batch(Evidence(), canary, control))
    assert all((x == y).all() for one, other in zip(found, again, strict=True) for x, y in zip(one, other, strict=True))


def test_counts_that_are_not_whole_numbers_stay_one_part() -> None:
    whole, broken = np.array([200.0, 200.0]), np.array([199.5, 200.5])
    assert len(list(split_batch(Evidence(), whole, whole))) == 3
    assert len(list(split_batch(Evidence(), broken, whole))) == len(list(split_batch(Evidence(), whole, broken))) == 1


def test_the_order_of_rows_is_drawn_from_the_sizes() -> None:
    """Other counts before, or other sizes, give another order: the parts are not always the same rows."""
    a, b = np.array([200.0, 200.0]), np.array([300.0, 300.0])
    plain = [x.tolist() for x, _ in split_batch(Evidence(), a, b)]
    assert plain != [x.tolist() for x, _ in split_batch(Evidence((1.0, 0.0), (0.0, 0.0)), a, b)]
    assert plain != [x.tolist() for x, _ in split_batch(Evidence((0.0, 0.0), (1.0, 0.0)), a, b)]
    assert plain != [x.tolist() for x, _ in split_batch(Evidence(), a, b + 1)]


def test_evidence_survives_as_json_values() -> None:
    full = Evidence((1.0, 2.0), (3.0, 4.0), 0.5, 0.75, (0.1, 0.2), (5.0, 6.0), 7.5, 3)
    names = ("canary", "control", "log_e", "peak", "bets", "recent", "variance", "begun_at")
    values = {name: getattr(full, name) for name in names}
    assert (
        decode_evidence({name: list(value) if isinstance(value, tuple) else value for name, value in values.items()})
        == full
    )
    for name in names:
        without = decode_evidence({key: value for key, value in values.items() if key != name})
        assert without == replace(full, **{name: getattr(Evidence(), name)})
    assert full.restart() == Evidence((1.0, 2.0), (3.0, 4.0), recent=(5.0, 6.0), begun_at=3)


def bernoulli(bad: float, other: float, theta: float, null: float) -> float:
    return bad * math.log(theta / null) + other * math.log((1 - theta) / (1 - null))


@pytest.mark.parametrize("limit", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("recent", [(), (30.0, 70.0), (0.0, 100.0)])
def test_a_share_above_a_limit(limit: float, recent: tuple[float, ...]) -> None:
    bad, other = recent or (0.0, 0.0)
    theta = (bad + 10 * limit) / (bad + other + 10)
    bets = [theta, *(min(0.95, ratio * limit) for ratio in (1.5, 3.0, 10.0))]
    gains = [bernoulli(3, 17, bet, limit) if bet > limit else 0.0 for bet in bets]
    fresh = 0.4 * 20 / 20_020
    sums = [0.6 * math.exp(gain) + fresh for gain in gains]
    found = one_sample.share_above(replace(Evidence(), recent=recent), (3, 17), limit)
    assert [math.exp(bet) for bet in found.bets] == pytest.approx(sums, rel=EXACT)
    assert math.exp(found.log_e) == pytest.approx(sum(sums) / 4 + 0.4 - fresh, rel=EXACT)
    assert (found.canary, found.control) == ((3.0, 17.0), (0.0, 0.0))
    assert found.recent == with_recent(replace(Evidence(), recent=recent), np.array([3.0, 17.0]))


@pytest.mark.parametrize(
    ("canary", "start"), [((), (0.0, 0.0)), ((1.0, 99.0), (1.0, 99.0)), ((90.0, 10.0), (90.0, 10.0))]
)
def test_a_share_below_a_limit(canary: tuple[float, ...], start: tuple[float, float]) -> None:
    theta = (start[0] + 10 * 0.1) / (sum(start) + 10)
    found = one_sample.share_below(replace(Evidence(), canary=canary), (1, 39), 0.2)
    gain = bernoulli(1, 39, theta, 0.2) if theta < 0.2 else 0.0
    assert found.bets == pytest.approx((gain,), rel=EXACT)
    assert (found.log_e, found.recent) == (found.bets[0], ())
    assert (found.canary, found.control) == ((start[0] + 1, start[1] + 39), (0.0, 0.0))


def test_a_share_at_its_limit_gains_nothing() -> None:
    at_limit = replace(Evidence(), recent=(20.0, 80.0), canary=(20.0, 80.0), control=(0.0, 0.0))
    assert one_sample.share_above(at_limit, (5, 0), 0.2).bets[0] == pytest.approx(
        math.log(0.6 + onset_weight(105) - onset_weight(100))
    )
    below = replace(Evidence(), canary=(30.0, 80.0), control=(0.0, 0.0))
    assert one_sample.share_below(below, (0, 9), 31 / 120).bets == (0.0,)


def test_a_split_against_its_share_is_a_dirichlet_mixture() -> None:
    """The probability of the counts if the share is beta distributed, over that at the share."""

    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    one = one_sample.ratio_mismatch(Evidence(), 7, 33, 0.1)
    first = log_beta(10 + 7, 90 + 33) - log_beta(10, 90) - 7 * math.log(0.1) - 33 * math.log(0.9)
    assert one.log_e == pytest.approx(first, rel=1e-9)
    two = one_sample.ratio_mismatch(one, 2, 8, 0.1)
    second = log_beta(19, 131) - log_beta(17, 123) - 2 * math.log(0.1) - 8 * math.log(0.9)
    assert two.log_e == pytest.approx(first + second, rel=1e-9)
    assert (two.canary, two.control) == ((9.0,), (41.0,))


A, B = (4.0, 16.0), (6.0, 74.0)
CANARY, CONTROL, RECENT = (5.0, 15.0), (8.0, 192.0), (3.0, 7.0)
SEEN = Evidence(CANARY, CONTROL, recent=RECENT)


def estimated(canary: Sequence[float], control: Sequence[float]) -> tuple[list[float], list[float]]:
    """The control's shares with one row of both more, and the canary's with 200 rows of the control's more."""
    bins = len(canary)
    pooled = [x + y + 1 / bins for x, y in zip(canary, control, strict=True)]
    theta_b = [(y + p / sum(pooled)) / (sum(control) + 1) for y, p in zip(control, pooled, strict=True)]
    theta_a = [(x + 200 * t) / (sum(canary) + 200) for x, t in zip(canary, theta_b, strict=True)]
    return theta_a, theta_b


@pytest.mark.parametrize(("any_onset", "canary"), [(False, CANARY), (True, RECENT)])
def test_estimates_of_the_next_batch(any_onset: bool, canary: tuple[float, ...]) -> None:
    theta_a, theta_b = two_sample.estimate_batch(SEEN, 2, any_onset)
    expected = estimated(canary, CONTROL)
    assert theta_a.tolist() == pytest.approx(expected[0], rel=EXACT)
    assert theta_b.tolist() == pytest.approx(expected[1], rel=EXACT)
    fresh_a, fresh_b = two_sample.estimate_batch(Evidence(), 4)
    assert fresh_a.tolist() == fresh_b.tolist() == [0.25] * 4


def least_divergence(theta_a: float, theta_b: float, margin: float) -> float:
    """The control's rate at which both estimates are nearest to rates ``margin`` apart, by golden section."""

    def distance(p: float) -> float:
        q = p + margin
        return -20 * (theta_a * math.log(q) + (1 - theta_a) * math.log(1 - q)) - 80 * (
            theta_b * math.log(p) + (1 - theta_b) * math.log(1 - p)
        )

    low, high = max(0.0, -margin) + 1e-12, min(1.0, 1 - margin) - 1e-12
    for _ in range(200):
        left, right = low + (high - low) * 0.382, high - (high - low) * 0.382
        low, high = (low, right) if distance(left) < distance(right) else (left, high)
    return (low + high) / 2


def rate_gain(bet: float, theta_b: float, margin: float) -> float:
    null = least_divergence(bet, theta_b, margin)
    return bernoulli(*A, bet, null + margin) + bernoulli(*B, theta_b, null)


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.3, -0.02])
@pytest.mark.parametrize("any_onset", [False, True])
def test_a_rate_that_exceeds_another(margin: float, any_onset: bool) -> None:
    theta_a, theta_b = (theta[0] for theta in estimated(RECENT if any_onset else CANARY, CONTROL))
    bets = [theta_a, *(min(0.5, margin + theta_b * ratio) for ratio in (2.0, 4.0, 10.0))]
    gains = [rate_gain(bet, theta_b, margin) if bet > theta_b + margin else 0.0 for bet in bets]
    found = two_sample.rate_exceeds(SEEN, A, B, margin, any_onset)
    fresh = onset_weight(40) - onset_weight(20) if any_onset else 0.0
    start = 0.6 if any_onset else 1.0
    sums = [start * math.exp(gain) + fresh for gain in gains]
    assert [math.exp(bet) for bet in found.bets] == pytest.approx(sums, rel=1e-6)
    rest = 0.4 - onset_weight(40) if any_onset else 0.0
    assert math.exp(found.log_e) == pytest.approx(sum(sums) / 4 + rest, rel=1e-6)
    assert found.recent == (with_recent(SEEN, np.array(A)) if any_onset else RECENT)
    assert two_sample.rate_exceeds(SEEN, A, B, margin).bets == two_sample.rate_exceeds(SEEN, A, B, margin, False).bets


@pytest.mark.parametrize("margin", [0.05, 0.2, 0.01, -0.001])
def test_a_rate_that_stays_below_another(margin: float) -> None:
    theta_a, theta_b = (theta[0] for theta in estimated(CANARY, CONTROL))
    gain = rate_gain(theta_a, theta_b, margin) if theta_a < theta_b + margin else 0.0
    found = two_sample.rate_below(SEEN, A, B, margin)
    assert found.bets == pytest.approx((gain,), rel=1e-6)
    assert (found.log_e, found.recent) == (found.bets[0], RECENT)
    assert (found.canary, found.control) == ((9.0, 31.0), (14.0, 266.0))


@pytest.mark.parametrize(("a", "b"), [((0, 0), B), (A, (0, 0))])
def test_a_batch_of_one_arm_only_trains_the_bet(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    for found in (
        two_sample.rate_exceeds(SEEN, a, b, 0.01),
        two_sample.rate_below(SEEN, a, b, 0.01),
        two_sample.add_difference_batch(SEEN, a, b),
        two_sample.add_excess_batch(SEEN, a, b),
    ):
        assert set(found.bets) == {0.0}
        assert found.n_canary + found.n_control == SEEN.n_canary + SEEN.n_control + sum(a) + sum(b)


def test_the_first_batch_only_trains_the_bet() -> None:
    for found in (
        two_sample.rate_exceeds(Evidence(), A, B, 0.01),
        two_sample.rate_below(Evidence(), A, B, 0.01),
        two_sample.add_difference_batch(Evidence(), A, B),
        two_sample.add_excess_batch(Evidence(), A, B),
    ):
        assert (set(found.bets), found.canary, found.control) == ({0.0}, A, B)


BINS_A, BINS_B = (3.0, 0.0, 5.0, 12.0), (40.0, 25.0, 0.0, 15.0)
BINS_SEEN = Evidence((6.0, 6.0, 0.0, 8.0), (110.0, 50.0, 30.0, 10.0), recent=(1.0, 2.0, 3.0, 4.0))


def ratio_gain(theta: Sequence[float], theta_b: Sequence[float]) -> float:
    null = [(20 * x + 80 * y) / 100 for x, y in zip(theta, theta_b, strict=True)]
    return sum(n * math.log(t / z) for n, t, z in zip(BINS_A, theta, null, strict=True)) + sum(
        n * math.log(t / z) for n, t, z in zip(BINS_B, theta_b, null, strict=True)
    )


def test_a_distribution_that_differs() -> None:
    theta_a, theta_b = estimated(BINS_SEEN.canary, BINS_SEEN.control)
    found = two_sample.add_difference_batch(BINS_SEEN, BINS_A, BINS_B)
    assert found.bets == pytest.approx((ratio_gain(theta_a, theta_b),), rel=EXACT)
    assert (found.log_e, found.recent) == (found.bets[0], BINS_SEEN.recent)
    assert found.canary == (9.0, 6.0, 5.0, 20.0)


def moved(theta: list[float], bins: int) -> list[float]:
    """Nineteen twentieths of each bin lie higher, at most in the last."""
    bins, raised = min(bins, len(theta) - 1), [0.0] * len(theta)
    for at, share in enumerate(theta):
        raised[min(at + bins, len(theta) - 1)] += share
    return [0.95 * x + 0.05 * y for x, y in zip(raised, theta, strict=True)]


def monotone(values: list[float], weights: list[float]) -> list[float]:
    """Isotonic regression by its min-max formula."""
    count = range(len(values))

    def mean(first: int, last: int) -> float:
        part = range(first, last + 1)
        return sum(values[i] * weights[i] for i in part) / sum(weights[i] for i in part)

    return [max(min(mean(i, j) for j in count if j >= at) for i in count if i <= at) for at in count]


@pytest.mark.parametrize("any_onset", [False, True])
def test_a_distribution_that_lies_higher(any_onset: bool) -> None:
    theta_a, theta_b = estimated(BINS_SEEN.recent if any_onset else BINS_SEEN.canary, BINS_SEEN.control)
    gains = []
    for bet in (theta_a, *(moved(theta_b, bins) for bins in (2, 5, 10))):
        ratio = monotone([x / y for x, y in zip(bet, theta_b, strict=True)], theta_b)
        gains.append(ratio_gain([x * y for x, y in zip(ratio, theta_b, strict=True)], theta_b))
    fresh = onset_weight(40) - onset_weight(20) if any_onset else 0.0
    sums = [(0.6 if any_onset else 1.0) * math.exp(gain) + fresh for gain in gains]
    found = two_sample.add_excess_batch(BINS_SEEN, BINS_A, BINS_B, any_onset)
    assert [math.exp(bet) for bet in found.bets] == pytest.approx(sums, rel=1e-9)
    assert found.recent == (with_recent(BINS_SEEN, np.array(BINS_A)) if any_onset else BINS_SEEN.recent)
    assert two_sample.add_excess_batch(BINS_SEEN, BINS_A, BINS_B) == two_sample.add_excess_batch(
        BINS_SEEN, BINS_A, BINS_B, False
    )


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ([1, 2, 3], [1, 1, 1]),
        ([3, 2, 1], [1, 2, 3]),
        ([1, 3, 2, 2, 5, 4, 0.5], [1, 2, 1, 3, 1, 1, 4]),
        ([2, 2], [1, 1]),
    ],
)
def test_isotonic_regression_pools_adjacent_violators(values: list[float], weights: list[float]) -> None:
    found = two_sample.fit_isotonic(np.array(values, float), np.array(weights, float))
    assert found.tolist() == pytest.approx(monotone(values, weights), rel=EXACT)


def test_values_without_weight_are_pooled_as_nothing() -> None:
    assert two_sample.fit_isotonic(np.array([3.0, 1.0, 2.0]), np.array([0.0, 0.0, 1.0])).tolist() == [0.0, 0.0, 2.0]


def test_a_long_batch_is_weighed_part_by_part() -> None:
    """The same as its parts one after the other, by what each test learned from the parts before."""
    a, b = np.array([20.0, 76.0]), np.array([30.0, 600.0])
    seen = Evidence((5.0, 15.0), (8.0, 192.0))
    for test in (
        two_sample.add_difference_batch,
        two_sample.add_excess_batch,
        lambda evidence, x, y: two_sample.rate_exceeds(evidence, x, y, 0.01, True),
        lambda evidence, x, y: two_sample.rate_below(evidence, x, y, 0.01),
    ):
        expected = seen
        for one, other in split_batch(seen, a, b):
            expected = test(expected, one, other)
        assert test(seen, a, b) == expected
