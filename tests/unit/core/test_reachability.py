"""Rules that can never fire as a table: each is refused with the path of what is in the way."""

from typing import Any

import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.errors import InvalidInput
from penstock.core.policies import ReferenceColumns, parse_policy, refuse_unreachable

DRIFT: dict[str, Any] = {"drift": {}}
WEEKLY: dict[str, Any] = {"schedule": "@weekly"}
SLO = {"slo": {"error_ratio": 0.01}}


def performance(**values: Any) -> dict[str, Any]:
    return {"performance": {"metric": "accuracy", **values}}


def refused(when: dict[str, Any], policy: dict[str, Any], columns: dict[str, int] | None = None, **trigger: Any) -> str:
    document = {"triggers": [{"name": "r", "when": when, **trigger}], **policy}
    try:
        known = None if columns is None else ReferenceColumns(columns, frozenset({"shop"}))
        refuse_unreachable(parse_policy(document, parse_schedule), known)
    except InvalidInput as fault:
        return str(fault)
    return ""


@pytest.mark.parametrize(
    ("when", "policy", "trigger", "fault"),
    [
        (WEEKLY, {}, {"for_seconds": 1}, "'triggers[0].for_seconds'"),
        ({"all": [WEEKLY, DRIFT]}, {}, {"for_seconds": 1}, "'triggers[0].for_seconds'"),
        ({"any": [WEEKLY, {"schedule": "@daily"}]}, {}, {"for_seconds": 1}, "'triggers[0].for_seconds'"),
        ({"all": [DRIFT, {"not": DRIFT}]}, {}, {}, "'triggers[0].when.all'"),
        ({"all": [performance(below=0.5), performance(above=0.9)]}, {}, {}, "'triggers[0].when.all'"),
        (performance(below=0), {}, {}, "'triggers[0].when.performance.below'"),
        (performance(above=1), {}, {}, "'triggers[0].when.performance.above'"),
        (performance(fallen_by=1.1), {}, {}, "'triggers[0].when.performance.fallen_by'"),
        (performance(metric="mae", below=0), {}, {}, "'triggers[0].when.performance.below'"),
        (performance(metric="precise", below=1), {}, {}, "'triggers[0].when.performance.metric'"),
        (performance(metric="mae", above=1, source="estimated"), {}, {}, "'triggers[0].when.performance.metric'"),
        (performance(below=0.5), {"monitor": {"label_horizon_seconds": 0}}, {}, "'triggers[0].when.performance'"),
        ({"concept": {}}, {"monitor": {"label_horizon_seconds": 0}}, {}, "'triggers[0].when.concept'"),
        ({"labels": {"new_at_least": 1}}, {"monitor": {"label_horizon_seconds": 0}}, {}, "when.labels'"),
        (DRIFT, {"monitor": {"sample": 0}}, {}, "'triggers[0].when.drift'"),
        ({"quality": {"violated": True}}, {"monitor": {"sample": 0}}, {}, "'triggers[0].when.quality'"),
        ({"quality": {"missing_ratio_above": 1}}, {}, {}, "'triggers[0].when.quality.missing_ratio_above'"),
        ({"drift": {"scope": "joint", "at_least": 2}}, {}, {}, "'triggers[0].when.drift.at_least'"),
        ({"drift": {"scope": "slices"}}, {}, {}, "'triggers[0].when.drift.scope'"),
        ({"any": [{"drift": {"scope": "slices"}}, performance(below=0)]}, {}, {}, "when.any[1].performance.below'"),
        ({"slo": {}}, {}, {}, "'triggers[0].when.slo'"),
        ({"slo": {"objective": "latency_p99_ms"}}, SLO, {}, "'triggers[0].when.slo'"),
        ({"slo": {}}, {"slo": {"error_ratio": 0.1}}, {}, "'triggers[0].when.slo.burn_rate'"),
        ({"all": [WEEKLY, {"schedule": "0 12 * * *"}]}, {}, {}, "'triggers[0].when.all'"),
        ({"all": [WEEKLY, {"schedule": "0 0 * * 1-5"}]}, {}, {}, "'triggers[0].when.all'"),
        ({"all": [DRIFT, WEEKLY, {"all": [{"schedule": "5 * * * *"}]}]}, {}, {}, "'triggers[0].when.all'"),
        ({"any": [{"all": [{"schedule": "0 0 31 * *"}, {"schedule": "0 0 * 2,4 *"}]}]}, {}, {}, "when.any[0].all'"),
        ({"all": [DRIFT, {"all": [{"not": DRIFT}]}]}, {}, {}, "'triggers[0].when.all'"),
        ({"not": {"labels": {"new_at_least": 0}}}, {}, {}, "'triggers[0].when.not'"),
        ({"not": {"any": [DRIFT, {"age": {"days": -1}}]}}, {}, {}, "'triggers[0].when.not'"),
        (DRIFT, {}, {"until": performance(below=0)}, "'triggers[0].until.performance.below'"),
        (DRIFT, {"retraining": {"budget_per_day": 0}}, {}, "'retraining.budget_per_day'"),
        ({"all": [DRIFT, {"quality": {"violated": True}}]}, {}, {}, "'retraining.quality_veto'"),
    ],
)
def test_a_rule_that_can_never_fire_is_refused(
    when: dict[str, Any], policy: dict[str, Any], trigger: dict[str, Any], fault: str
) -> None:
    assert fault in refused(when, policy, **trigger)


@pytest.mark.parametrize(
    ("when", "policy", "trigger"),
    [
        (WEEKLY, {}, {}),
        (DRIFT, {}, {"for_seconds": 60}),
        ({"any": [WEEKLY, DRIFT]}, {}, {"for_seconds": 60}),
        ({"not": WEEKLY}, {}, {}),
        ({"all": [DRIFT, {"not": {"concept": {}}}]}, {}, {}),
        ({"all": [performance(below=0.9), performance(above=0.5)]}, {}, {}),
        ({"all": [performance(below=0.5), performance(metric="f1", above=0.9)]}, {}, {}),
        (performance(below=0, above=0.9), {}, {}),
        (performance(metric="mae", above=3), {}, {}),
        (performance(metric="r2", below=-1), {}, {}),
        (performance(source="estimated", below=0.9), {"monitor": {"label_horizon_seconds": 0}}, {}),
        ({"any": [{"drift": {"scope": "slices"}}, DRIFT]}, {}, {}),
        ({"drift": {"scope": "slices"}}, {"monitor": {"slices": ["shop"]}}, {}),
        ({"quality": {"missing_ratio_above": 1, "violated": True}}, {}, {}),
        ({"slo": {}}, SLO, {}),
        ({"all": [WEEKLY, {"schedule": "0 0 13 * *"}]}, {}, {}),
        ({"all": [{"schedule": "*/20 * 29 2 *"}, {"schedule": "*/15 * * * mon"}]}, {}, {}),
        ({"any": [WEEKLY, {"schedule": "0 12 * * *"}]}, {}, {}),
        ({"not": {"labels": {"new_at_least": 1}}}, {}, {}),
        ({"quality": {"violated": True}}, {"retraining": {"budget_per_day": 0}}, {}),
        ({"any": [DRIFT, {"quality": {"violated": True}}]}, {}, {}),
        ({"all": [DRIFT, {"quality": {"violated": True, "missing_ratio_above": 0.1}}]}, {}, {}),
        ({"all": [DRIFT, {"quality": {"violated": True}}]}, {"retraining": {"quality_veto": False}}, {}),
    ],
)
def test_a_rule_that_may_fire_is_taken(when: dict[str, Any], policy: dict[str, Any], trigger: dict[str, Any]) -> None:
    assert refused(when, policy, **trigger) == ""


@pytest.mark.parametrize(
    ("drift", "policy", "taken"),
    [
        ({"at_least": 3}, {}, True),
        ({"at_least": 4}, {}, False),
        ({"scope": "outputs"}, {}, False),
        ({"scope": "any", "at_least": 4}, {}, True),
        ({"scope": "any", "at_least": 5}, {}, False),
        ({"scope": "any", "at_least": 5}, {"monitor": {"slices": ["shop"]}}, True),
    ],
)
def test_more_columns_than_there_are_never_drift(drift: dict[str, Any], policy: dict[str, Any], taken: bool) -> None:
    said = refused({"drift": drift}, policy, {"features": 3, "outputs": 0, "any": 4})
    assert said == "" if taken else "'triggers[0].when.drift.at_least'" in said
    assert refused({"drift": drift}, policy) == "", "who does not know the model refuses nothing"


@pytest.mark.parametrize(
    ("slices", "known", "fault"),
    [
        (["site"], ReferenceColumns({}, frozenset({"site", "kind"})), ""),
        (["other"], None, ""),  # a version has no reference yet
        (["site", "other"], ReferenceColumns({}, frozenset({"site", "kind"})), "'other'.*expected some of kind, site"),
        (["site"], ReferenceColumns({}, frozenset()), "'site'.*no column of few values"),
    ],
)
def test_rows_are_watched_apart_by_columns_that_a_reference_counts(
    slices: list[str], known: ReferenceColumns | None, fault: str
) -> None:
    policy = parse_policy({"monitor": {"slices": slices}}, parse_schedule)
    if not fault:
        refuse_unreachable(policy, known)
        return
    with pytest.raises(InvalidInput, match=f"'monitor.slices' has {fault}"):
        refuse_unreachable(policy, known)
