"""Decisions of the core at their limits: one below, exactly at, one above."""

import json
from dataclasses import replace

import pytest

from penstock.core.batching import BatchRules, RunCost, batch_rules, fit_cost, next_run, plan_runs
from penstock.core.exams import ExamResult, Exams, decode_exams, encode_exams
from penstock.core.experiments import bounded_weights, experiment_document, limit_change, start_experiment
from penstock.core.experiments import parse_spec as experiment_spec_in
from penstock.core.label_matching import OLDEST, LabelMatching, age_class
from penstock.core.queueing import (
    ConcurrencyLimit,
    class_limits,
    expected_wait_ns,
    misses_deadline,
    next_limit,
    tolerated_ns,
    update_expected_ns,
)
from penstock.core.row_shares import (
    GatewayShare,
    RequestProgress,
    RowAmount,
    even_amounts,
    gateway_limit,
    missing_gateways,
    select_gateways,
)
from penstock.core.statistics.confidence_sequences import Mean, find_confidence_sequence
from penstock.core.triggers.burn_rate import BurnRates, History, RequestCounts, burn_rates, find_error_budgets

# Runs.


def test_the_cost_of_runs() -> None:
    assert fit_cost(5, 100, 180) == RunCost(80.0, 20.0)
    assert fit_cost(5, 100, 90) == RunCost(100.0, 0.0)
    assert fit_cost(2, 10, 90) == RunCost(0.0, 80.0)
    cost = RunCost(80.0, 20.0)
    assert cost.run_ns(3) == 140.0
    assert [cost.most_rows(budget) for budget in (0.0, 100.0, 139.0, 140.0, 1e9)] == [1, 1, 2, 3, 64]
    assert RunCost(80.0, 0.0).most_rows(1.0) == 64
    assert [RunCost(base, 10.0).worthwhile_rows() for base in (0.0, 0.2, 0.4, 18.8, 19.2)] == [1, 1, 2, 63, 64]


@pytest.mark.parametrize(
    ("rows", "runs"),
    [
        ([2, 2, 2, 2], [[0, 1], [2, 3]]),
        ([3, 1, 1], [[0, 1], [2]]),
        ([1, 1, 1, 1, 1], [[0, 1, 2, 3], [4]]),
        ([5, 1], [[0], [1]]),
        ([0, 1, 0, 1], [[0], [1, 3], [2]]),
    ],
)
def test_calls_share_runs_of_four_rows(rows: list[int], runs: list[list[int]]) -> None:
    assert plan_runs(["k"] * len(rows), rows, 4) == runs


def test_what_runs_may_be_made_of() -> None:
    cost = RunCost(10.0, 10.0)
    assert batch_rules(None, 8) == BatchRules()
    assert batch_rules(cost, 0).most_rows == 34
    assert batch_rules(cost, 8).most_rows == 8
    assert batch_rules(cost, 0, (4, 64, 100)) == BatchRules(64, (4, 64), 0)
    assert batch_rules(cost, 32, (), 5) == BatchRules(32, (), 5)
    assert batch_rules(cost, 0, promised_ns=700).most_rows == 34
    assert batch_rules(cost, 0, promised_ns=699).most_rows == 33
    assert batch_rules(cost, 0, (4,), promised_ns=40).preferred == ()


@pytest.mark.parametrize(
    ("rows", "rules", "waited", "found"),
    [
        ([1, 1], BatchRules(1), 0, ([0], 0)),
        ([0, 1], BatchRules(8), 0, ([0], 0)),
        ([1, 1], BatchRules(8), 0, ([0, 1], 0)),
        ([1, 1], BatchRules(8, (), 10), 9, ([], 10)),
        ([1, 1], BatchRules(8, (), 10), 10, ([0, 1], 0)),
        ([4, 4], BatchRules(8, (), 10), 0, ([0, 1], 0)),
        ([4, 5], BatchRules(8, (), 10), 0, ([0], 0)),
        ([2, 2, 1], BatchRules(8, (4,), 10), 0, ([0, 1], 0)),
        ([2, 1], BatchRules(8, (4,), 10), 0, ([], 10)),
        ([3, 2], BatchRules(8, (4,), 10), 0, ([0], 0)),
        ([4, 1], BatchRules(8, (4, 6), 10), 0, ([0], 0)),
        ([2, 2, 2], BatchRules(8, (4, 6), 10), 0, ([0, 1, 2], 0)),
        ([4, 1], BatchRules(8, (4, 6), 10), 10, ([0, 1], 0)),
    ],
)
def test_what_a_free_thread_runs(rows: list[int], rules: BatchRules, waited: int, found: tuple[list[int], int]) -> None:
    assert next_run(["k"] * len(rows), rows, 0, rules, waited) == found


# Queues.


def test_expectations_of_a_queue() -> None:
    assert update_expected_ns(0.0, 50.0) == 50.0
    assert update_expected_ns(100.0, 50.0) == 90.0
    assert [expected_wait_ns(before, 2, 10.0) for before in (0, 1, 2, 3, 4)] == [0.0, 0.0, 10.0, 10.0, 20.0]
    assert not misses_deadline(1, 2, 10.0, 500.0, 1)
    assert [misses_deadline(2, 2, 10.0, 5.0, left) for left in (14, 15)] == [True, False]
    assert class_limits(9.0) == [9.0, 9.0, 4.5]
    assert class_limits(0.5) == [1.0, 1.0, 1.0]
    assert [tolerated_ns(*of) for of in ((1.0, 1.0, 1), (1e6, 1.0, 1), (1e6, 1.0, 7), (1.0, 2e6, 1))] == [
        5e6,
        16e6,
        5e6,
        8e6,
    ]


LIMIT = ConcurrencyLimit(10.0, 2.0, 20.0, inside=100, patient=64)


@pytest.mark.parametrize(
    ("before", "inside", "refused", "tolerated", "value", "rising"),
    [
        (LIMIT, 110, 0, 5.0, 10.5, 0),
        (LIMIT, 111, 0, 5.0, 10.5, 1),
        (replace(LIMIT, rising=1), 111, 0, 5.0, 5.0, 2),
        (replace(LIMIT, rising=1), 110, 0, 5.0, 10.5, 0),
        (replace(LIMIT, rising=1), 111, 0, 111.0, 10.5, 2),
        (replace(LIMIT, rising=1, patient=111), 111, 0, 5.0, 10.5, 2),
        (replace(LIMIT, rising=1, patient=110), 111, 0, 5.0, 5.0, 2),
        (replace(LIMIT, inside=0, rising=1), 111, 0, 5.0, 10.5, 0),
        (LIMIT, 10, 1, 5.0, 5.0, 0),
        (LIMIT, 10, 1, 1.0, 2.0, 0),
        (LIMIT, 10, 1, 50.0, 20.0, 0),
        (replace(LIMIT, value=19.9), 10, 0, 5.0, 20.0, 0),
    ],
)
def test_a_limit_after_a_window(
    before: ConcurrencyLimit, inside: int, refused: int, tolerated: float, value: float, rising: int
) -> None:
    assert next_limit(before, inside, refused, tolerated) == replace(before, value=value, inside=inside, rising=rising)


# Rows of a fleet.


def test_gateways_that_are_asked() -> None:
    members = [
        GatewayShare("a", "h1", 15.0),
        GatewayShare("b", "h1", 0.0),
        GatewayShare("c", "h2", 15.1),
        GatewayShare("d", "", 0.0),
        GatewayShare("e", "", 600.0),
        GatewayShare("f", "h3", 600.1),
        GatewayShare("g", "mine", 0.0),
        GatewayShare("me", "h9", 0.0),
    ]
    found = select_gateways(members[::-1], "me", "mine")
    assert found.asked == ("a", "d")
    assert found.missing == {"c": "it has been silent for 15 s", "e": "it has been silent for 600 s"}


def test_gateways_that_are_waited_for() -> None:
    progress = RequestProgress({"a"}, {"b": 15.0, "c": 15.1}, 1.0)
    assert missing_gateways(["a", "b", "c"], progress) is None
    assert missing_gateways(["a", "c", "d"], progress) == {
        "c": "it has been silent for 15 s",
        "d": "it has left the fleet",
    }
    expired = replace(progress, left_s=0.0)
    assert missing_gateways(["b"], expired) == {"b": "it did not answer within 120 s"}


def test_amounts_of_rows() -> None:
    assert RowAmount(5, 50) + RowAmount(1, 2) - RowAmount(3, 10) == RowAmount(3, 42)
    assert RowAmount(5, 50).is_within(RowAmount(5, 50))
    assert not RowAmount(6, 50).is_within(RowAmount(5, 50))
    assert not RowAmount(5, 51).is_within(RowAmount(5, 50))
    assert [gateway_limit(RowAmount(9, 90), count) for count in (0, 1, 2, 4)] == [
        RowAmount(9, 90),
        RowAmount(9, 90),
        RowAmount(9, 90),
        RowAmount(9, 45),
    ]
    amounts = {"a": RowAmount(1, 100), "b": RowAmount(9, 10), "c": RowAmount(9, 100)}
    assert even_amounts(amounts, RowAmount(10, 100)) == {
        "a": RowAmount(1, 45),
        "b": RowAmount(4, 10),
        "c": RowAmount(5, 45),
    }


# Labels.


def test_labels_fall_into_cells_by_age_and_time() -> None:
    assert [age_class(age) for age in (0.0, 0.9, 1.0, 1.9, 2.0, 4.0)] == [0, 0, 1, 1, 2, 3]
    matching = LabelMatching(["1", "2"])
    matching.add("1", 5.5, 2.0 ** (OLDEST - 1) - 1, 1.0)
    matching.add("1", 5.5, 2.0 ** (OLDEST - 1), 1.0)
    matching.add("1", -0.1, 0.0, 1.0)
    matching.add("3", 5.5, 0.0, 1.0)
    assert matching.waiting() == {"1": 1, "2": 0}
    both = LabelMatching(["1", "2"])
    for version, at, value in (("1", 5.9, 0.5), ("2", 5.1, 1.0), ("1", 5.0, 0.25)):
        both.add(version, at, 0.0, value)
    assert both.close(6.9) == []
    (stratum,) = both.close(7.0)
    assert (stratum.closed_s, stratum.age) == (7, 0)
    assert stratum.sums == {"1": (2, 0.75, 0.3125), "2": (1, 1.0, 1.0)}
    assert json.loads(json.dumps(both.export_state()))["closed_s"] == 7.0


# Experiments.


@pytest.mark.parametrize(
    ("shares", "least", "most", "weights"),
    [
        ({"1": 0.5, "2": 0.5}, 500, 10_000, {"1": 5000, "2": 5000}),
        ({"1": 1.0, "2": 0.0}, 500, 10_000, {"1": 9500, "2": 500}),
        ({"1": 1.0, "2": 0.0}, 500, 8000, {"1": 8000, "2": 2000}),
        ({"1": 0.6, "2": 0.4, "3": 0.0}, 1000, 5000, {"1": 5000, "2": 3800 + 200, "3": 1000}),
        ({"1": 0.9, "2": 0.1, "3": 0.0}, 0, 5000, {"1": 5000, "2": 5000, "3": 0}),
        ({"1": 0.0, "2": 0.0}, 500, 10_000, {"1": 5000, "2": 5000}),
        ({"1": 1 / 3, "2": 1 / 3, "3": 1 / 3}, 0, 10_000, {"1": 3334, "2": 3333, "3": 3333}),
        ({"1": 0.5, "2": 0.5}, 5000, 5000, {"1": 5000, "2": 5000}),
    ],
)
def test_weights_within_their_bounds(shares: dict[str, float], least: int, most: int, weights: dict[str, int]) -> None:
    assert bounded_weights(shares, least, most) == weights


@pytest.mark.parametrize(
    ("wanted", "moved"),
    [
        ({"1": 7000, "2": 3000}, {"1": 7000, "2": 3000}),
        ({"1": 7001, "2": 2999}, {"1": 7000, "2": 3000}),
        ({"1": 9000, "2": 1000}, {"1": 7000, "2": 3000}),
        ({"1": 1000, "2": 9000}, {"1": 3000, "2": 7000}),
    ],
)
def test_a_bandit_moves_a_fifth_at_a_time(wanted: dict[str, int], moved: dict[str, int]) -> None:
    assert limit_change({"1": 5000, "2": 5000}, wanted) == moved


def test_what_people_are_shown_of_an_experiment() -> None:
    spec = experiment_spec_in({"arms": {"1": 5000, "2": 5000}, "alpha": 0.1})
    rewards = {"1": Mean(300, 30.0, 30.0), "2": Mean(300, 200.0, 200.0)}
    found = experiment_document(
        replace(start_experiment(spec, 0.0), rewards=rewards, requests={"1": 400}, ages={1: 600})
    )
    for arm, requests in (("1", 400), ("2", 0)):
        interval = find_confidence_sequence(rewards[arm], 0.05)
        assert found["arms"][arm] == {
            "weight": 5000,
            "requests": requests,
            "rewards": 300,
            "mean": round(rewards[arm].value, 6),
            "low": round(interval.low, 6),
            "high": round(interval.high, 6),
            "label_delay_seconds": {"median_below": 2.0, "all_below": 2.0},
        }
    assert (found["best"], found["state"], found["reason"]) == ("2", "running", "")
    fresh = experiment_document(start_experiment(spec, 0.0))
    assert (fresh["best"], fresh["arms"]["1"]["mean"]) == (None, None)


# Exams.


def test_exams_survive_as_json_values() -> None:
    exams = Exams("1", 3, {"2": ExamResult("g", ("why",)), "3": ExamResult("h")})
    assert decode_exams(json.loads(json.dumps(encode_exams(exams)))) == exams
    assert decode_exams({}) == Exams()


# Burn rates.


def test_burn_rates_over_a_window() -> None:
    history = [RequestCounts(0.0, 100, 1, 5), RequestCounts(10.0, 200, 3, 5), RequestCounts(20.0, 400, 7, 45)]
    allowed = find_error_budgets({"error_ratio": 0.01, "latency_p99_ms": 50.0})
    assert allowed == {"error_ratio": 0.01, "latency_p99_ms": 0.01}
    assert burn_rates(history, 10.0, allowed) == BurnRates(200, {"error_ratio": 2.0, "latency_p99_ms": 20.0})
    longer = burn_rates(history, 10.1, allowed)
    assert longer is not None
    assert longer.requests == 300
    assert dict(longer.rates) == pytest.approx({"error_ratio": 2.0, "latency_p99_ms": 40 / 3})
    assert burn_rates(history, 20.1, allowed) is None
    assert burn_rates([], 0.0, allowed) is None
    assert burn_rates([history[0], replace(history[0], at=9.0)], 5.0, allowed) == BurnRates(
        0, dict.fromkeys(allowed, 0.0)
    )


def test_a_history_keeps_its_window_at_its_step() -> None:
    history = History(20.0, 5.0)
    for at in range(100):
        history.add(RequestCounts(float(at), 10 * at, at, 2 * at))
    found = history.counts()
    assert [item.at for item in found] == [65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0]
    assert found[-1] == RequestCounts(95.0, 950, 95, 190)
    assert [history.takes(at) for at in (99.9, 100.0)] == [False, True]
    history.add(RequestCounts(100.0, 5, 200, 190))
    assert history.counts()[-1] == RequestCounts(100.0, 950, 200, 190)
    assert History(30_000.0, 1.0).step_s == 2.0
    assert History(10.0, 1.0).window_s == 10.0
