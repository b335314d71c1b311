"""What a condition rests on is reported whole, and holds from its limit on."""

from typing import Any

import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.triggers.burn_rate import RequestCounts
from penstock.core.triggers.conditions import DAY_S, ConditionResult, VersionSnapshot, evaluate
from penstock.core.triggers.parsing import parse_condition
from penstock.core.triggers.state import RuleMemory

NONE = ConditionResult(False)


def find(
    when: dict[str, Any], document: dict[str, Any], memory: RuleMemory | None = None, **known: Any
) -> ConditionResult:
    faults: list[str] = []
    condition = parse_condition(when, "when", faults, parse_schedule)
    assert condition is not None, faults
    return evaluate(
        condition, VersionSnapshot("m", "1", known.pop("now", 1000.0), document, **known), memory or RuleMemory()
    )


def column(name: str, psi: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "drift", "psi": psi, "since": 5.0, "rows": 1000, "moved": [], **more}


@pytest.mark.parametrize(
    ("word", "counted", "kind"),
    [
        ("missing_ratio_above", "missing", "missing"),
        ("non_finite_ratio_above", "infinite", "non_finite"),
        ("out_of_range_ratio_above", "out_of_range", "out_of_range"),
        ("unseen_ratio_above", "unseen", "unseen"),
    ],
)
def test_quality_names_each_feature_above_the_limit(word: str, counted: str, kind: str) -> None:
    features = [
        {"name": "at", "rows": 1000, counted: 50},
        {"name": "above", "rows": 3000, counted: 1000},
        {"name": "few rows", "rows": 9, counted: 9},
        {"name": "no rows", "rows": None},
        {"name": "without", "rows": 1000},
        {"name": "least rows", "rows": 10, counted: 1},
    ]
    found = find({"quality": {word: 0.05, "min_rows": 10}}, {"features": features})
    statistic = f"{kind} ratio"
    assert found == ConditionResult(
        True,
        (
            {"statistic": statistic, "feature": "above", "value": 0.333333, "threshold": 0.05, "rows": 3000},
            {"statistic": statistic, "feature": "least rows", "value": 0.1, "threshold": 0.05, "rows": 10},
        ),
    )


@pytest.mark.parametrize("document", [{}, {"quality": None, "features": None}, {"quality": {}}])
def test_quality_is_sound_while_nothing_is_known(document: dict[str, Any]) -> None:
    assert find({"quality": {"violated": True, "missing_ratio_above": 0.1}}, document) == NONE


def test_quality_reports_what_violates_the_model_s_own_bounds() -> None:
    document = {"features": [], "quality": {"violated": [{"name": "x", "kind": "missing"}]}}
    expected = {"statistic": "violated", "name": "x", "kind": "missing"}
    assert find({"quality": {"violated": True}}, document) == ConditionResult(True, (expected,))
    assert find({"quality": {"missing_ratio_above": 0.1}}, document) == NONE


@pytest.mark.parametrize(
    ("when", "value", "holds", "limit"),
    [
        ({"below": 0.9}, 0.8, True, {"below": 0.9}),
        ({"below": 0.9}, 0.9, False, {"below": 0.9}),
        ({"above": 0.5}, 0.75, True, {"above": 0.5}),
        ({"above": 0.5}, 0.5, False, {"above": 0.5}),
        ({"fallen_by": 0.25}, 0.5, True, {"fallen_by": 0.25}),
        ({"fallen_by": 0.25}, 0.625, False, {"fallen_by": 0.25}),
        ({"fallen_by": 0.25, "below": 0.7}, 0.625, True, {"below": 0.7, "fallen_by": 0.25}),
    ],
)
def test_performance_holds_beyond_its_limit(
    when: dict[str, Any], value: float, holds: bool, limit: dict[str, float]
) -> None:
    document = {"performance": {"labels": 500, "windowed": {"accuracy": value}, "estimated": {"accuracy": value}}}
    memory = RuleMemory(best={"accuracy": 0.75})
    asked = {"metric": "accuracy", "min_labels": 500, **when}
    evidence = {"statistic": "accuracy", "source": "realised", "value": value, "threshold": limit, "labels": 500}
    assert find({"performance": asked}, document, memory) == ConditionResult(holds, (evidence,))
    estimated = ConditionResult(holds, ({**evidence, "source": "estimated", "labels": 0},))
    document["performance"]["labels"] = 0
    assert find({"performance": {**asked, "source": "estimated"}}, document, memory) == estimated
    assert find({"performance": asked}, document, memory) == NONE


@pytest.mark.parametrize("document", [{}, {"performance": None}, {"performance": {"labels": 9000, "windowed": None}}])
def test_performance_that_is_not_known_is_not_below(document: dict[str, Any]) -> None:
    assert find({"performance": {"metric": "accuracy", "below": 0.9}}, document) == NONE
    assert find({"performance": {"metric": "accuracy", "below": 0.9, "source": "estimated"}}, document) == NONE


def test_a_first_value_has_not_fallen() -> None:
    document = {"performance": {"labels": 9000, "windowed": {"accuracy": 0.5}}}
    assert not find({"performance": {"metric": "accuracy", "fallen_by": 0.01}}, document).holds


@pytest.mark.parametrize(("on", "key"), [("errors", "concept"), ("gap", "gap")])
def test_a_change_of_errors_or_of_the_gap(on: str, key: str) -> None:
    document = {"performance": {key: {"state": "drift", "since": 3.0}}}
    expected = {"statistic": f"e-SR on {on}", "state": "drift", "since": 3.0}
    assert find({"concept": {"on": on}}, document) == ConditionResult(True, (expected,))
    document["performance"][key]["state"] = "ok"
    assert find({"concept": {"on": on}}, document) == ConditionResult(False, ({**expected, "state": "ok"},))
    assert find({"concept": {"on": on}}, {}) == NONE
    assert find({"concept": {"on": on}}, {"performance": None}) == NONE
    assert find({"concept": {"on": on}}, {"performance": {}}) == NONE


def test_drift_reports_the_five_that_changed_most() -> None:
    features = [column(f"f{index}", 0.25 + index) for index in range(7)]
    document = {"features": features, "outputs": None, "joint": None, "rows_between_false_alarms": 100_000}
    found = find({"drift": {"scope": "features", "at_least": 7, "min_psi": 0.25}}, document)
    names = ("name", "since", "psi", "psi_threshold", "rows", "moved")
    expected = {
        "statistic": "e-SR",
        "scope": "features",
        "value": 7,
        "threshold": 7,
        "rows_between_false_alarms": 100_000,
        "features": [{key: feature.get(key) for key in names} for feature in reversed(features[2:])],
    }
    assert found == ConditionResult(True, (expected,))
    assert not find({"drift": {"scope": "features", "at_least": 7, "min_psi": 0.26}}, document).holds


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("any", ["j", "x where shop is north", "o", "f"]),
        ("features", ["f"]),
        ("outputs", ["o"]),
        ("joint", ["j"]),
        ("slices", ["x where shop is north"]),
    ],
)
def test_drift_looks_at_its_scope(scope: str, names: list[str]) -> None:
    document = {
        "features": [column("f", 1.0), column("calm", 9.0, state="ok")],
        "outputs": [column("o", 2.0)],
        "joint": column("j", 4.0),
        "slices": {"shop": {"north": {"drifting": [{"name": "x", "psi": 3.0, "since": 1.0}]}}},
    }
    evidence = find({"drift": {"scope": scope}}, document).evidence[0]
    assert len(evidence["features"]) == len(names) == evidence["value"]
    assert find({"drift": {"scope": scope}}, {}).holds is False


@pytest.mark.parametrize(("days", "holds"), [(2.0, True), (1.5, True), (2.5, False)])
def test_age_holds_from_its_days_on(days: float, holds: bool) -> None:
    evidence = {"statistic": "age in days", "value": 2.0, "threshold": days}
    assert find({"age": {"days": days}}, {}, age_s=2 * DAY_S + 0.04) == ConditionResult(holds, (evidence,))


@pytest.mark.parametrize(("least", "holds"), [(300, True), (301, False)])
def test_labels_count_since_the_last_request(least: int, holds: bool) -> None:
    evidence = {"statistic": "new labels", "value": 300, "threshold": least}
    found = find({"labels": {"new_at_least": least}}, {"performance": {"labels": 500}}, RuleMemory(labels=200))
    assert found == ConditionResult(holds, (evidence,))


@pytest.mark.parametrize(
    ("looked", "now", "holds"), [(3000.0, 3600.0, True), (3600.0, 3700.0, False), (0.0, 3600.0, False)]
)
def test_a_schedule_is_due_since_it_was_looked_at(looked: float, now: float, holds: bool) -> None:
    evidence = {"statistic": "schedule", "value": "0 * * * *"}
    found = find({"schedule": "0 * * * *"}, {}, RuleMemory(looked=looked), now=now)
    assert found == ConditionResult(holds, (evidence,))


SLO = {"objective": "any", "burn_rate": 2.0, "long_seconds": 3600, "short_seconds": 300, "min_requests": 1000}


def history(failed: int = 40, recent: int = 20, slow: int = 0, requests: int = 1000) -> list[RequestCounts]:
    middle = RequestCounts(3300.0, requests // 2, failed - recent, 0)
    return [RequestCounts(0.0), middle, RequestCounts(3600.0, requests, failed, slow)]


@pytest.mark.parametrize(
    ("changes", "counts", "names"),
    [
        ({}, history(), ["error_ratio"]),
        ({}, history(39, 20), []),
        ({}, history(40, 19), []),
        ({}, history(400, 20), ["error_ratio"]),
        ({}, history(slow=20), ["error_ratio", "latency_p99_ms"]),
        ({"objective": "latency_p99_ms"}, history(slow=20), ["latency_p99_ms"]),
        ({"objective": "error_ratio"}, history(slow=20), ["error_ratio"]),
        ({"min_requests": 1001}, history(), []),
        ({}, history()[1:], []),
        ({}, [], []),
    ],
)
def test_objectives_burn_over_both_windows(
    changes: dict[str, Any], counts: list[RequestCounts], names: list[str]
) -> None:
    objectives = {"error_ratio": 0.02, "latency_p99_ms": 50.0}
    found = find({"slo": {**SLO, **changes}}, {}, objectives=objectives, history=counts)
    assert found.holds is bool(names)
    assert [item["statistic"] for item in found.evidence] == [f"burn rate of {name}" for name in names]


def test_a_burn_rate_is_reported_of_both_windows() -> None:
    found = find({"slo": SLO}, {}, objectives={"error_ratio": 0.03}, history=history(100, 40))
    evidence = {"statistic": "burn rate of error_ratio", "value": 3.333, "short": 2.667, "threshold": 2.0}
    assert found.evidence == ({**evidence, "requests": 1000},)


def test_conditions_together_report_what_holds() -> None:
    document = {"performance": {"labels": 10, "concept": {"state": "drift"}}}
    concept: dict[str, Any] = {"concept": {}}
    labels = {"labels": {"new_at_least": 11}}
    fired = ({"statistic": "e-SR on errors", "state": "drift"},)
    short = ({"statistic": "new labels", "value": 10, "threshold": 11},)
    assert find({"all": [concept, labels]}, document) == ConditionResult(False, (*fired, *short))
    assert find({"any": [labels, concept]}, document) == ConditionResult(True, fired)
    assert find({"not": labels}, document) == ConditionResult(True)
