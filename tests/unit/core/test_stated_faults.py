"""Each fault of a document is said whole, and values at a bound are taken."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from penstock.core import experiments
from penstock.core.errors import InvalidInput
from penstock.core.experiments import Experiment, ExperimentState, bounded_weights, decide, experiment_document
from penstock.core.label_matching import Stratum
from penstock.core.pairs import OutputDifference, compare
from penstock.core.rollouts.guard_spec import MOST_QUERY, GuardSpec, describe_guard, parse_guard
from penstock.core.rollouts.spec import MOST_HOLD_BACK, parse_spec
from penstock.core.routing import MOST_VALUE, RouteSpec, RoutingRule, ShadowSpec, describe_route, parse_route
from penstock.core.tensors import Tensor


def said(read: Callable[[Any], Any], document: Any) -> str:
    with pytest.raises(InvalidInput) as fault:
        read(document)
    return str(fault.value)


QUERY = {"metric": "promql", "query": "up", "max": 1}


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        ({"metric": "errors", "objective": 2}, "guard 'errors': 'objective' must be a number from 0 to 1"),
        ({"metric": "errors", "max": 1}, "guard 'errors': 'max_increase' must be a number from 0.0001 to 1"),
        ({"metric": "errors", "max_increase": 2}, "guard 'errors': 'max_increase' must be a number from 0.0001 to 1"),
        ({"metric": "latency", "max": 2}, "guard 'latency': its only fields are 'metric' and 'max_ratio'"),
        ({"metric": "latency", "max_ratio": "2"}, "guard 'latency': 'max_ratio' must be a number from 1 to 100"),
        ({**QUERY, "query": ""}, "guard 'promql': 'query' must be a PromQL expression"),
        ({**QUERY, "query": None}, "guard 'promql': 'query' must be a PromQL expression"),
        ({**QUERY, "query": "x" * (MOST_QUERY + 1)}, "guard 'promql': 'query' must be a PromQL expression"),
        ({**QUERY, "step": 1}, "guard 'promql': it must have 'query' and 'min' or 'max' or both"),
        ({"metric": "promql", "query": "up"}, "guard 'promql': it must have 'query' and 'min' or 'max' or both"),
        ({**QUERY, "min": "1"}, "guard 'promql': 'min' and 'max' must be numbers"),
        ({**QUERY, "max": True}, "guard 'promql': 'min' and 'max' must be numbers"),
    ],
)
def test_faults_of_guards(stated: Any, fault: str) -> None:
    assert said(parse_guard, stated) == fault


@pytest.mark.parametrize("stated", ["speed", {"metric": "speed"}, {}, [], 1, None])
def test_a_guard_has_a_known_metric(stated: Any) -> None:
    names = "errors, latency, outputs, disagreement, quality, performance, error_ratio, latency_p99, promql"
    assert said(parse_guard, stated) == f"a guard's 'metric' must be one of {names}"


@pytest.mark.parametrize(
    ("stated", "guard"),
    [
        ("errors", GuardSpec("errors")),
        ({"metric": "errors", "max_increase": 0}, None),
        ({"metric": "errors", "objective": 1}, GuardSpec("errors", objective=1.0)),
        ({"metric": "errors", "max_increase": 0.0001}, GuardSpec("errors", 0.0001)),
        ("latency", GuardSpec("latency", 1.2)),
        ({"metric": "latency", "max_ratio": 100}, GuardSpec("latency", 100.0)),
        ("latency_p99", GuardSpec("latency_p99", 100.0)),
        ({**QUERY, "query": "x" * MOST_QUERY}, GuardSpec("promql", query="x" * MOST_QUERY, most=1.0)),
        ({"metric": "promql", "query": "up", "min": 2}, GuardSpec("promql", query="up", least=2.0)),
        ({**QUERY, "min": None}, GuardSpec("promql", query="up", most=1.0)),
    ],
)
def test_guards_at_their_bounds(stated: Any, guard: GuardSpec | None) -> None:
    if guard is None:
        assert said(parse_guard, stated) == "guard 'errors': 'max_increase' must be a number from 0.0001 to 1"
        return
    assert parse_guard(stated) == guard
    assert parse_guard(describe_guard(guard)) == guard


@pytest.mark.parametrize(
    ("control", "exposure", "objective", "limit"),
    [
        (0.0, 1.0, 0.0, 0.002),
        (0.01, 1.0, 0.0, 0.01),
        (0.5, 1.0, 0.0, 0.02),
        (0.5, 0.5, 0.0, 0.04),
        (0.5, 0.01, 0.0, 0.2),
        (0.5, 0.0, 0.0, 0.2),
        (0.0, 0.5, 0.05, 0.1),
    ],
)
def test_the_default_increase(control: float, exposure: float, objective: float, limit: float) -> None:
    assert GuardSpec("errors", objective=objective).default_increase(control, exposure) == pytest.approx(limit)


ROLLOUT: dict[str, Any] = {"to": "2"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"speed": 1, "a": 1}, "'a' is not a field of a rollout; 'speed' is not a field of a rollout"),
        ({"to": "x"}, "'to' must be a version"),
        ({"to": 2}, "'to' must be a version"),
        ({"from": "x"}, "'from' must be a version"),
        ({"from": 1}, "'from' must be a version"),
        ({"to": "1"}, "version '1' already answers"),
        ({"min_step_seconds": -1}, "'min_step_seconds' must be a number from 0 to 2592000"),
        ({"min_step_seconds": True}, "'min_step_seconds' must be a number from 0 to 2592000"),
        ({"alpha": 0}, "'alpha' must be a number from 1e-09 to 0.5"),
        ({"deadline_seconds": 365 * 86_400 + 1}, "'deadline_seconds' must be a number from 0 to 31536000"),
        ({"shadow": 101}, "'shadow' must be a number from 0 to 100"),
        ({"guards": ["disagreement"], "shadow": 0}, "'shadow': the guard 'disagreement' needs mirrored requests"),
        ({"guards": []}, "'guards' must be a list of 1 to 16"),
        ({"guards": ["errors"] * 17}, "'guards' must be a list of 1 to 16"),
        ({"hold_back": MOST_HOLD_BACK + 1}, "'hold_back' must be a whole number from 0 to 5000"),
        ({"hold_back": -1}, "'hold_back' must be a whole number from 0 to 5000"),
        ({"hold_back": 1.0}, "'hold_back' must be a whole number from 0 to 5000"),
        ({"on_inconclusive": "wait"}, "'on_inconclusive' is 'hold' or 'abort'"),
        ({"dry_run": 1}, "'dry_run' must be true or false"),
    ],
)
def test_faults_of_rollouts(change: dict[str, Any], fault: str) -> None:
    assert said(lambda document: parse_spec(document, "1"), {**ROLLOUT, **change}) == fault


def test_a_rollout_at_its_bounds() -> None:
    bounds = {"min_step_seconds": 0, "alpha": 0.5, "deadline_seconds": 365 * 86_400, "shadow": 100, "hold_back": 5000}
    spec = parse_spec({**ROLLOUT, **bounds, "dry_run": True, "on_inconclusive": "abort", "reason": "x"}, "1")
    assert (spec.to, spec.control, spec.min_step_s, spec.alpha, spec.deadline_s) == ("2", "1", 0.0, 0.5, 31_536_000.0)
    assert (spec.shadow, spec.hold_back, spec.dry_run, spec.on_inconclusive) == (100.0, 5000, True, "abort")
    usual = parse_spec(
        {**ROLLOUT, "from": "3", "min_step_seconds": None, "guards": ["disagreement"], "hold_back": 0}, "1"
    )
    assert (usual.control, usual.min_step_s, usual.shadow, usual.hold_back) == ("3", 30.0, 100.0, 0)
    assert (usual.alpha, usual.deadline_s, usual.dry_run, usual.on_inconclusive) == (0.01, 0.0, False, "hold")
    assert parse_spec(ROLLOUT, "1").shadow == 0.0


SPLIT: dict[str, Any] = {"split": {"1": 9500, "2": 500}}
GIVE = '\'split\' must give versions their weights, such as {"1": 9500, "2": 500}'


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"split": {}}, GIVE),
        ({"split": [1]}, GIVE),
        ({"split": {"1": 9999}}, "'split': the weights must sum to 10000, not 9999"),
        ({"split": {"1": 10001, "2": -1}}, "'split': weights are whole numbers from 0 to 10000"),
        ({"split": {"1": True, "2": 9999}}, "'split': weights are whole numbers from 0 to 10000"),
        ({"split": {"x": 10000}}, "'split': 'x' is not a version"),
        ({"sticky": "x-user"}, "'sticky' must be a header's name, such as header:x-user-id"),
        ({"sticky": "header:a b"}, "'sticky' must be a header's name, such as header:x-user-id"),
        ({"rules": {}}, "'rules' must be a list of at most 32"),
        ({"rules": [{"header": "x"}]}, "'rules': each must have 'header', 'equals' and 'version'"),
        ({"rules": [{"header": "x", "equals": "1", "version": "x"}]}, "'rules': 'version' must be a version"),
        (
            {"rules": [{"header": "x", "equals": "y" * (MOST_VALUE + 1), "version": "1"}]},
            "'rules': 'equals' must be a text of at most 256 characters",
        ),
        (
            {"rules": [{"header": "", "equals": "1", "version": "1"}]},
            "'rules' must be a header's name, such as x-user-id",
        ),
        ({"shadow": 1}, "'shadow' must be a list of at most 32"),
        ({"shadow": [{"percent": 1}]}, "'shadow': each must have 'version' and 'percent'"),
        ({"shadow": [{"version": "3", "share": 1}]}, "'shadow': each must have 'version' and 'percent'"),
        ({"shadow": [{"version": "3", "percent": 101}]}, "'shadow': 'percent' must be a number from 0 to 100"),
        ({"shadow": [{"version": "3", "percent": -1}]}, "'shadow': 'percent' must be a number from 0 to 100"),
        ({"shadow": [{"version": "x"}]}, "'shadow': 'version' must be a version"),
        ({"shadow": [{"version": "3"}, {"version": "3"}]}, "'shadow' must name each version once"),
        ({"speed": 1}, "'speed' is not a field of a route"),
        ({"stable": "3"}, "'stable' must be a version of the split"),
    ],
)
def test_faults_of_routes(change: dict[str, Any], fault: str) -> None:
    assert said(parse_route, {**SPLIT, **change}) == fault


def test_a_route_at_its_bounds() -> None:
    shadow = [{"version": "3", "percent": 0}, {"version": "4"}]
    rule = {"header": "X-Tier", "equals": "y" * MOST_VALUE, "version": "2"}
    document = {**SPLIT, "sticky": "header:X-User", "rules": [rule], "shadow": shadow, "stable": "2", "reason": "x"}
    route = parse_route(document, RouteSpec({"1": 10000}, salt="s", ranges=((10000, "1"),)), "1")
    assert (route.sticky, route.stable, route.salt) == ("x-user", "2", "s")
    assert route.rules == (RoutingRule("x-tier", "y" * MOST_VALUE, "2"),)
    assert route.shadow == (ShadowSpec("3", 0), ShadowSpec("4", 100))
    assert route.ranges == ((9500, "1"), (10000, "2"))
    assert describe_route(route)["sticky"] == "header:x-user"
    assert parse_route(SPLIT, champion="2").stable == "2"
    assert parse_route(SPLIT).stable == "1"


ARMS: dict[str, Any] = {"arms": {"1": 5000, "2": 5000}}
WEIGHTS = "'floor' and 'ceiling' must be weights between which all arms together can have 10000"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"b": 1, "a": 1}, "'a' is not a field of an experiment; 'b' is not a field of an experiment"),
        ({"arms": {"1": 10000}}, "'arms' must name two versions or more"),
        ({"arms": {"1": 1, "2": 2}}, "'arms': the weights must sum to 10000, not 3"),
        ({"mode": "greedy"}, "'mode' must be one of fixed, thompson"),
        ({"floor": 0}, WEIGHTS),
        ({"floor": 5001}, WEIGHTS),
        ({"ceiling": 4999}, WEIGHTS),
        ({"ceiling": 10001}, WEIGHTS),
        ({"floor": True}, WEIGHTS),
        ({"every_seconds": 0.9}, "'every_seconds' must be a number from 1 to 86400"),
        ({"every_seconds": 86_401}, "'every_seconds' must be a number from 1 to 86400"),
        ({"every_seconds": "9"}, "'every_seconds' must be a number from 1 to 86400"),
        ({"alpha": 0}, "'alpha' must be a number above 0, at most 0.5"),
        ({"alpha": 0.51}, "'alpha' must be a number above 0, at most 0.5"),
    ],
)
def test_faults_of_experiments(change: dict[str, Any], fault: str) -> None:
    assert said(experiments.parse_spec, {**ARMS, **change}) == fault


def test_an_experiment_at_its_bounds() -> None:
    spec = experiments.parse_spec({**ARMS, "floor": 5000, "ceiling": 5000, "every_seconds": 86_400, "alpha": 0.5})
    assert (spec.min_weight, spec.max_weight, spec.every_s, spec.alpha) == (5000, 5000, 86_400.0, 0.5)
    usual = experiments.parse_spec({**ARMS, "every_seconds": 1})
    assert (usual.sticky, usual.mode.value, usual.min_weight, usual.max_weight) == ("", "fixed", 500, 10000)
    assert (usual.every_s, usual.alpha) == (1.0, 0.05)


def bandit(rewards: int, mean: float = 0.9) -> Experiment:
    began = experiments.start_experiment(experiments.parse_spec({**ARMS, "mode": "thompson"}), 100.0)
    sums = {"1": (20, 2.0, 2.0), "2": (rewards, rewards * mean, rewards * mean)}
    return experiments.add_rewards(began, [Stratum(1, 2, sums)], {"1": 25, "2": 30})


def test_a_bandit_moves_when_it_may() -> None:
    assert decide(bandit(20), 110.0, 1) == {"1": 3000, "2": 7000}
    assert decide(bandit(20), 109.9, 1) is None
    assert decide(bandit(19), 110.0, 1) is None


@pytest.mark.parametrize(
    ("shares", "bounds", "weights"),
    [
        ({"1": 0.5, "2": 0.5}, (500, 10000), {"1": 5000, "2": 5000}),
        ({"1": 1.0, "2": 0.0}, (500, 10000), {"1": 9500, "2": 500}),
        ({"1": 1.0, "2": 0.0}, (500, 8000), {"1": 8000, "2": 2000}),
        ({"1": 0.0, "2": 0.0, "3": 0.0}, (1, 10000), {"1": 3334, "2": 3333, "3": 3333}),
        ({"1": 0.75, "2": 0.25, "3": 0.0}, (1000, 6000), {"1": 6000, "2": 3000, "3": 1000}),
        ({"10": 0.5, "9": 0.5, "2": 0.0}, (333, 10000), {"10": 4833, "9": 4834, "2": 333}),
    ],
)
def test_weights_within_bounds(shares: dict[str, float], bounds: tuple[int, int], weights: dict[str, int]) -> None:
    assert bounded_weights(shares, *bounds) == weights


def test_what_people_are_shown_of_an_experiment() -> None:
    document = experiment_document(bandit(2000))
    one, two = document["arms"]["1"], document["arms"]["2"]
    assert document["best"] == "2"
    assert (document["state"], document["reason"], document["mode"]) == ("running", "", "thompson")
    assert (one["weight"], one["requests"], one["rewards"], one["mean"]) == (5000, 25, 20, 0.1)
    assert (two["weight"], two["requests"], two["rewards"], two["mean"]) == (5000, 30, 2000, 0.9)
    assert 0.0 <= one["low"] < 0.1 < one["high"] < two["low"] < 0.9 < two["high"] <= 1.0
    assert one["label_delay_seconds"] == two["label_delay_seconds"]
    close = experiment_document(bandit(20, 0.1))
    assert (close["best"], close["arms"]["1"]["low"]) == (None, close["arms"]["2"]["low"])
    fresh = experiment_document(experiments.start_experiment(experiments.parse_spec(ARMS), 1.0))
    assert (fresh["arms"]["1"]["mean"], fresh["arms"]["1"]["requests"], fresh["best"]) == (None, 0, None)
    assert ExperimentState(fresh["state"]) is ExperimentState.RUNNING


def answer(*values: Any, name: str = "y", datatype: str = "FP32", dtype: Any = np.float32) -> list[Tensor]:
    return [Tensor(name, datatype, np.array(values, dtype))]


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (answer(1.0, 2.0), answer(1.0, 2.0), OutputDifference(False, 0, 2)),
        (answer(1.0, 2.0), answer(1.0, 2.5), OutputDifference(True, 0, 2, 0.5, 0.5)),
        (answer(1.0, NAN, INF), answer(2.0, NAN, INF), OutputDifference(True, 0, 3, 1.0, 1.0)),
        (answer(NAN, INF), answer(NAN, INF), OutputDifference(False, 0, 2)),
        (answer(INF), answer(-INF), OutputDifference(True, 0, 1)),
        (answer(NAN), answer(1.0), OutputDifference(True, 0, 1)),
        (answer([0.25, 0.75]), answer([0.75, 0.25]), OutputDifference(True, 1, 2, 1.0, 0.5)),
        (answer([0.25, 0.75]), answer([0.0, 1.0]), OutputDifference(False, 0, 2, 0.5, 0.25)),
        (answer([1.0], [2.0]), answer([1.0], [3.0]), OutputDifference(True, 0, 2, 1.0, 1.0)),
        (answer(1.0), answer(1.0, name="z"), OutputDifference(True)),
        (answer(1.0), answer(1.0, datatype="FP64"), OutputDifference(True)),
        (answer(1.0), answer([1.0]), OutputDifference(True)),
        (answer(1.0), [], OutputDifference(True)),
        (answer(1, 2, 3, dtype=np.int64), answer(1, 3, 4, dtype=np.int64), OutputDifference(True, 2)),
        (answer([1, 2], [3, 4], dtype=np.int64), answer([2, 1], [3, 4], dtype=np.int64), OutputDifference(True, 1)),
        (answer(1, dtype=np.int64), answer(1, dtype=np.int64), OutputDifference(False, 0)),
    ],
)
def test_how_far_two_answers_are_apart(one: list[Tensor], other: list[Tensor], difference: OutputDifference) -> None:
    assert compare(one, other) == difference
