"""Rules that can never fire: what is said of each, and of the ones at the limit that can."""

from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.triggers.conditions import Condition
from penstock.core.triggers.parsing import parse_condition
from penstock.core.triggers.reachability import MonitoringCoverage, find_unreachable
from penstock.core.triggers.rules import RuleLimits, Trigger, TriggerKind


def nothing(_: str) -> Any:
    raise InvalidInput("no schedule")


def never(word: str, coverage: MonitoringCoverage, **values: Any) -> list[str]:
    faults: list[str] = []
    condition = parse_condition({word: values}, "w", faults, nothing)
    assert condition is not None, faults
    rule = Trigger("r", condition, kind=TriggerKind.QUALITY if word == "quality" else TriggerKind.RETRAIN)
    return [fault.removeprefix("'triggers[0].when.") for fault in find_unreachable([rule], coverage)]


@pytest.mark.parametrize(
    ("metric", "values", "reached"),
    [
        ("accuracy", {"below": 0.0}, False),
        ("accuracy", {"below": 0.001}, True),
        ("accuracy", {"above": 1.0}, False),
        ("accuracy", {"above": 0.999}, True),
        ("accuracy", {"fallen_by": 1.0}, True),
        ("accuracy", {"fallen_by": 1.001}, False),
        ("accuracy", {"below": 0.0, "above": 0.5}, True),
        ("accuracy", {"below": 0.0, "fallen_by": 2.0}, False),
        ("r2", {"below": -5.0}, True),
        ("r2", {"above": 1.0}, False),
        ("r2", {"fallen_by": 5.0}, True),
        ("mae", {"above": 50.0}, True),
        ("mae", {"below": 0.0}, False),
    ],
)
def test_limits_that_a_metric_reaches(metric: str, values: dict[str, float], reached: bool) -> None:
    found = never("performance", MonitoringCoverage(), metric=metric, **values)
    assert found == (
        [] if reached else [f"performance.{next(iter(values))}' can never hold: '{metric}' never lies there"]
    )


NO_ROWS, NO_LABELS = MonitoringCoverage(rows=False), MonitoringCoverage(labels=False)
SAMPLE, HORIZON = (
    "no row is counted with 'monitor.sample' 0",
    "no label is ever joined with 'monitor.label_horizon_seconds' 0",
)


@pytest.mark.parametrize(
    ("word", "coverage", "values", "said"),
    [
        ("drift", NO_ROWS, {}, [f"drift' can never hold: {SAMPLE}"]),
        (
            "drift",
            MonitoringCoverage(),
            {"scope": "joint", "at_least": 2},
            ["drift.at_least' can never hold: all columns together are one"],
        ),
        ("drift", MonitoringCoverage(), {"scope": "joint"}, []),
        (
            "drift",
            MonitoringCoverage(slices=False),
            {"scope": "slices"},
            ["drift.scope' can never hold: 'monitor.slices' names none"],
        ),
        ("drift", MonitoringCoverage(columns={"features": 3}), {"at_least": 3}, []),
        (
            "drift",
            MonitoringCoverage(columns={"features": 3}),
            {"at_least": 4},
            ["drift.at_least' can never hold: the model has 3 such columns"],
        ),
        ("drift", MonitoringCoverage(columns={"any": 3}), {"scope": "any", "at_least": 4}, []),
        (
            "drift",
            MonitoringCoverage(slices=False, columns={"any": 3}),
            {"scope": "any", "at_least": 4},
            ["drift.at_least' can never hold: the model has 3 such columns"],
        ),
        (
            "performance",
            NO_ROWS,
            {"metric": "f1", "below": 0.5, "source": "estimated"},
            [f"performance' can never hold: {SAMPLE}"],
        ),
        ("performance", NO_ROWS, {"metric": "f1", "below": 0.5}, []),
        ("performance", NO_LABELS, {"metric": "f1", "below": 0.5}, [f"performance' can never hold: {HORIZON}"]),
        ("performance", NO_LABELS, {"metric": "f1", "below": 0.5, "source": "estimated"}, []),
        (
            "performance",
            NO_ROWS,
            {"metric": "rmse", "above": 1, "source": "estimated"},
            ["performance.metric' can never hold: the metrics are accuracy, f1, precision, recall, roc_auc"],
        ),
        ("concept", NO_LABELS, {}, [f"concept' can never hold: {HORIZON}"]),
        ("labels", NO_LABELS, {"new_at_least": 5}, [f"labels' can never hold: {HORIZON}"]),
        ("quality", NO_ROWS, {"violated": True}, [f"quality' can never hold: {SAMPLE}"]),
        (
            "quality",
            MonitoringCoverage(),
            {"missing_ratio_above": 1},
            ["quality.missing_ratio_above' can never hold: a ratio is 1 at most"],
        ),
        ("quality", MonitoringCoverage(), {"missing_ratio_above": 1, "violated": True}, []),
        ("quality", MonitoringCoverage(), {"missing_ratio_above": 1, "unseen_ratio_above": 0.9}, []),
        ("slo", MonitoringCoverage(), {}, ["slo' can never hold: the policy states no such objective in 'slo'"]),
        ("slo", MonitoringCoverage(objectives={"error_ratio": 0.1}), {"burn_rate": 10.0}, []),
        (
            "slo",
            MonitoringCoverage(objectives={"error_ratio": 0.1}),
            {"burn_rate": 10.1},
            ["slo.burn_rate' can never hold: not even if every request were bad"],
        ),
    ],
)
def test_why_a_condition_can_never_hold(
    word: str, coverage: MonitoringCoverage, values: dict[str, Any], said: list[str]
) -> None:
    assert never(word, coverage, **values) == said


def test_rules_that_nothing_lets_ask() -> None:
    rule = Trigger("r", Condition("age", {"days": 1}))
    none = MonitoringCoverage(limits=RuleLimits(budget_per_day=0))
    assert find_unreachable([rule], none) == [
        "'retraining.budget_per_day' 0 lets no rule ask: leave the rules out, or let them ask"
    ]
    assert find_unreachable([rule], MonitoringCoverage(limits=RuleLimits(budget_per_day=1))) == []
    assert find_unreachable([], none) == []
