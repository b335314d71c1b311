"""Policies as anybody may write them: each fault is named by its path, and whatever is not a policy is a fault."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.errors import InvalidInput
from penstock.core.policies import FleetAlarms, MonitorPolicy, parse_policy
from penstock.core.sinks import FIELDS, MOST_SINKS
from penstock.core.triggers.conditions import SIMPLE
from penstock.core.triggers.parsing import MOST_TRIGGERS
from tests.budgets import examples

SINKS = {"hook": {"webhook": {"url": "http://127.0.0.1/"}}}
DRIFT: dict[str, Any] = {"drift": {}}


def trigger(**changes: Any) -> dict[str, Any]:
    return {"sinks": SINKS, "triggers": [{"name": "t", "when": DRIFT, **changes}]}


def when(**condition: Any) -> dict[str, Any]:
    return trigger(when=condition)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"monitor": []}, "'monitor' must be an object"),
        ({"monitor": {"samples": 1}}, "'monitor.samples' is not a setting"),
        ({"monitor": {"sample": 2}}, "'monitor.sample' must be a number from 0 to 1"),
        ({"monitor": {"sample": True}}, "'monitor.sample' must be a number"),
        ({"monitor": {"slices": "x"}}, "'monitor.slices' must be a list of at most"),
        ({"monitor": {"slices": [""]}}, "'monitor.slices' must be a list of at most"),
        ({"monitor": {"slices": ["x", "x"]}}, "'monitor.slices' names something twice"),
        ({"capture": {"max_bytes": 1.5e8}}, "'capture.max_bytes' must be a whole number"),
        (
            {"capture": {"mask_patterns": ["email", "name"]}},
            "'capture.mask_patterns' has 'name'; expected some of email",
        ),
        ({"capture": {"mask_patterns": "email"}}, "'capture.mask_patterns' must be a list of at most"),
        ({"slo": {"error_ratio": 0}}, "'slo.error_ratio' must be a number above 0"),
        ({"sinks": 5}, f"'sinks' must be an object of at most {MOST_SINKS}"),
        ({"sinks": {"s": []}}, "'sinks.s' must be an object with one of"),
        ({"sinks": {"s": {"webhook": 1}}}, "'sinks.s.webhook' must be an object"),
        ({"sinks": {"s": {"webhook": {}}}}, "'sinks.s.webhook.url' is missing"),
        ({"sinks": {"s": {"webhook": {"url": ""}}}}, "'sinks.s.webhook.url' is not valid"),
        ({"sinks": {"s": {"webhook": {"url": "http://a/", "mode": "x"}}}}, "one of structured, binary"),
        ({"sinks": {"s": {"command": {"argv": []}}}}, "'sinks.s.command.argv' is not valid"),
        ({"sinks": {"s": {"command": {"argv": ["x"], "timeout_seconds": 0}}}}, "timeout_seconds' is not valid"),
        ({"sinks": {"s": {"github": {"repository": "x", "token_file": "y"}}}}, "repository' is not valid"),
        ({"sinks": {"1": {"file": {"path": "x"}}}}, "'sinks.1' is not a valid name"),
        ({"triggers": {}}, f"'triggers' must be a list of at most {MOST_TRIGGERS}"),
        ({"triggers": [1]}, "'triggers[0]' must be an object"),
        (trigger(name=""), "'triggers[0].name' must be a text"),
        (trigger(name=5), "'triggers[0].name' must be a text"),
        (trigger(send="hook"), "'triggers[0].send' must be a list of sinks"),
        (trigger(send=["hock"]), "'triggers[0].send' names no sink of this policy or of the configuration: 'hock'"),
        (trigger(dry_run=1), "'triggers[0].dry_run' must be true or false"),
        (trigger(for_seconds=-1), "'triggers[0].for_seconds' must be a number from 0"),
        (trigger(cooldown_seconds="1"), "'triggers[0].cooldown_seconds' must be a number from 0"),
        (trigger(until={}), "'triggers[0].until' must be an object with one of"),
        (when(all=[]), "'triggers[0].when.all' must be a list of conditions"),
        (when(any={}), "'triggers[0].when.any' must be a list of conditions"),
        (when(all=[{}, DRIFT]), "'triggers[0].when.all[0]' must be an object"),
        (when(**{"not": 1}), "'triggers[0].when.not' must be an object"),
        (when(drifts={}), "'triggers[0].when.drifts' is not a condition"),
        (when(drift=1), "'triggers[0].when.drift' must be an object"),
        (when(drift={"scope": "x"}), "'triggers[0].when.drift.scope' must be one of"),
        (when(drift={"min_psi": "x"}), "'triggers[0].when.drift.min_psi' must be a number"),
        (when(performance={"metric": 1, "below": 1}), "'triggers[0].when.performance.metric' must be a text"),
        (when(performance={"metric": "accuracy"}), "needs below, above or fallen_by"),
        (when(performance={"below": 1}), "names a metric"),
        (when(quality={"violated": 1}), "'triggers[0].when.quality.violated' must be true or false"),
        (when(quality={}), "'triggers[0].when.quality' needs one of"),
        (when(age={}), "'triggers[0].when.age.days' must be a number"),
        (when(slo={"short_seconds": 1}), "short_seconds < long_seconds"),
        (when(slo={"short_seconds": "1"}), "'triggers[0].when.slo.short_seconds' must be a number"),
        (when(slo={"burn_rate": []}), "'triggers[0].when.slo.burn_rate' must be a number"),
        (when(slo={"burn_rate": 0}), "'triggers[0].when.slo.burn_rate' must be a number above 0"),
        (when(schedule=1), "'triggers[0].when.schedule'"),
        ({"retraining": []}, "'retraining' must be an object"),
        ({"retraining": {"approval": 1}}, "'retraining.approval' must be true or false"),
        ({"retraining": {"budget_per_day": 1.5}}, "'retraining.budget_per_day' must be a whole number"),
        ({"retraining": {"auto_rollout": {"to": "2"}}}, "'retraining.auto_rollout' is true, false or"),
        ({"retraining": {"gates": {"held_out": 1}}}, "retraining.gates.held_out"),
        ({"monitoring": {}}, "'monitoring' is not a field of a policy"),
    ],
)
def test_each_fault_is_named_with_its_path(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy(document, parse_schedule)
    assert fault in str(caught.value)


def test_what_is_stated_is_what_is_used() -> None:
    policy = parse_policy(
        {
            "monitor": {"sample": 0.5, "slices": ["x", "y"]},
            "sinks": {"hook": {"webhook": {"url": "http://127.0.0.1/", "mode": "binary"}}},
            "triggers": [{"name": "t", "when": {"any": [DRIFT, {"age": {"days": 3}}]}, "send": ["hook"]}],
            "retraining": {"auto_rollout": True, "approval": True},
        },
        parse_schedule,
    )
    assert (policy.sample, policy.slices) == (0.5, ("x", "y"))
    hook = policy.sinks["hook"]
    assert (hook.kind, dict(hook.values)) == ("webhook", {"url": "http://127.0.0.1/", "mode": "binary"})
    assert [leaf.word for leaf in policy.triggers[0].when.leaves()] == ["drift", "age"]
    assert policy.triggers[0].send == ("hook",)
    assert policy.limits.auto_rollout == {}
    assert policy.limits.decide_who_answers
    own = {"retraining": {"auto_rollout": {"steps": [5, 100]}}}
    assert parse_policy(own, parse_schedule).limits.auto_rollout == {"steps": [5, 100]}


def test_a_fleet_s_false_alarms_are_divided_among_gateways_and_versions() -> None:
    policy, fleet = MonitorPolicy(daily=1.0), FleetAlarms(6.0, gateways=3)
    assert FleetAlarms().share_of(policy, 4) is policy
    assert fleet.share_of(policy, 4).daily == 0.5
    assert fleet.share_of(policy, 1).daily == 1.0  # the policy's own bound is lower
    assert fleet.share_of(MonitorPolicy(), 1).daily == 2.0
    assert fleet.share_of(MonitorPolicy(), 0).daily == 2.0
    assert fleet.to_api(4) == {"false_alarms_per_day": 6.0, "gateways": 3, "versions": 4}
    assert FleetAlarms().to_api(0)["false_alarms_per_day"] is None


TEXTS = st.sampled_from(
    [
        *("monitor", "capture", "slo", "sinks", "triggers", "retraining", "sample", "slices", "mask", "gates"),
        *(
            "name",
            "when",
            "until",
            "send",
            "all",
            "any",
            "not",
            "schedule",
            "auto_rollout",
            "held_out",
            "beats",
            "metric",
        ),
        *("short_seconds", "burn_rate", "scope", "below", "source", "url", "argv", "path", "columns", "budget_per_day"),
        *SIMPLE,
        *FIELDS,
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 400) | st.floats() | st.text(max_size=3) | TEXTS,
    lambda item: st.lists(item, max_size=3) | st.dictionaries(TEXTS | st.text(max_size=3), item, max_size=4),
    max_leaves=15,
)
CONDITIONS = st.dictionaries(TEXTS, JSON | st.dictionaries(TEXTS, JSON), min_size=1, max_size=1)
TRIGGERS = st.fixed_dictionaries({"name": st.just("t"), "when": CONDITIONS | JSON}, optional={"until": CONDITIONS})
DOCUMENTS = st.dictionaries(TEXTS, JSON, max_size=5) | st.fixed_dictionaries(
    {}, optional={"triggers": st.lists(TRIGGERS, max_size=2), "retraining": JSON, "sinks": JSON, "monitor": JSON}
)


@settings(max_examples=examples(750), deadline=None)
@given(DOCUMENTS)
def test_any_document_is_a_policy_or_a_fault(document: dict[str, Any]) -> None:
    try:
        policy = parse_policy(document, parse_schedule)
    except InvalidInput as fault:
        assert "'" in str(fault)  # noqa: PT017 - that it is raised is allowed, not required
        return
    assert isinstance(policy, MonitorPolicy)
    assert set(policy.rules) <= set(document)
