"""What rules remember between looks: the beginning of a condition, what was reported, and the best values."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.core.triggers.conditions import Condition, VersionSnapshot
from penstock.core.triggers.parsing import parse_condition, parse_limits, parse_triggers
from penstock.core.triggers.reachability import MonitoringCoverage, find_unreachable
from penstock.core.triggers.rules import RuleLimits, RuleOutcome, Trigger, decide
from penstock.core.triggers.state import RuleMemory, RulePhase, RuleState, decode_rule_state, encode_rule_state

DRIFTED = {"features": [{"name": "x", "state": "drift", "psi": 1.0, "since": 1.0, "moved": []}]}
STEADY: dict[str, Any] = {"features": [], "outputs": [], "performance": {"windowed": {}}}


def condition(stated: Any) -> Condition:
    faults: list[str] = []
    found = parse_condition(stated, "when", faults, lambda _: pytest.fail("no schedule"))
    assert found is not None, faults
    return found


def decide_once(when: Any, memory: RuleMemory, document: dict[str, Any], **changes: Any) -> RuleMemory:
    trigger = Trigger("r", condition(when), ("log",), for_s=60.0)
    snapshot = VersionSnapshot("m", "1", 1000.0, document, **changes)
    after, _ = decide((trigger,), RuleLimits(), RuleState({"r": memory}), snapshot)
    return after.rules["r"]


def test_a_condition_that_begins_forgets_what_was_reported_before() -> None:
    before = RuleMemory(RulePhase.OK, 5.0, 6.0, 3, "in_flight")
    after = decide_once({"drift": {}}, before, DRIFTED)
    assert (after.state, after.since, after.times, after.reported, after.asked) == (RulePhase.PENDING, 1000.0, 0, "", 6)


@pytest.mark.parametrize("state", [RulePhase.PENDING, RulePhase.FIRING])
def test_a_condition_that_ends_leaves_only_when_it_asked(state: RulePhase) -> None:
    after = decide_once({"drift": {}}, RuleMemory(state, 5.0, 6.0, 3, "in_flight"), STEADY)
    assert (after.state, after.since, after.times, after.reported, after.asked) == (RulePhase.OK, 0.0, 0, "", 6.0)


@pytest.mark.parametrize(
    ("source", "labels", "best"),
    [("realised", 200, 0.7), ("realised", 199, None), ("estimated", 0, 0.9)],
)
def test_the_best_value_is_that_of_the_source_which_the_rule_names(
    source: str, labels: int, best: float | None
) -> None:
    when = {"performance": {"metric": "f1", "fallen_by": 0.1, "source": source, "min_labels": 200}}
    document = {**STEADY, "performance": {"labels": labels, "windowed": {"f1": 0.7}, "estimated": {"f1": 0.9}}}
    assert decide_once(when, RuleMemory(), document).best.get("f1") == best


def test_the_best_value_stays_when_a_worse_one_comes() -> None:
    when = {"performance": {"metric": "f1", "fallen_by": 0.1, "min_labels": 1}}
    document = {**STEADY, "performance": {"labels": 5, "windowed": {"f1": 0.7}, "estimated": None}}
    assert decide_once(when, RuleMemory(best={"f1": 0.8}), document).best == {"f1": 0.8}
    assert decide_once(when, RuleMemory(best={"f1": 0.6}), document).best == {"f1": 0.7}


def test_a_state_without_the_fields_of_later_releases_is_read() -> None:
    assert decode_rule_state({}) == RuleState()
    written = encode_rule_state(RuleState(requests=(1.0,), approved=("2",), refused={"3": "too slow"}))
    assert decode_rule_state(written) == RuleState(requests=(1.0,), approved=("2",), refused={"3": "too slow"})
    known = RuleMemory(RulePhase.OK, version="7")
    assert decode_rule_state(encode_rule_state(RuleState({"r": known}))).rules["r"] == replace(known, asked=-1e18)


@pytest.mark.parametrize(("seconds", "is_valid"), [(30 * 86_400, True), (30 * 86_400 + 1, False)])
def test_a_rule_waits_for_a_month_at_most(seconds: float, is_valid: bool) -> None:
    assert (find_faults(for_seconds=seconds) == []) is is_valid


@pytest.mark.parametrize(("seconds", "is_valid"), [(365 * 86_400, True), (365 * 86_400 + 1, False)])
def test_a_rule_pauses_for_a_year_at_most(seconds: float, is_valid: bool) -> None:
    assert (find_faults(cooldown_seconds=seconds) == []) is is_valid


def find_faults(**stated: Any) -> list[str]:
    faults: list[str] = []
    document = [{"name": "r", "when": {"drift": {}}, "send": ["log"], **stated}]
    parse_triggers(document, {"log"}, faults, lambda _: pytest.fail("no schedule"))
    return faults


def test_rules_that_do_not_state_dry_run_are_live() -> None:
    faults: list[str] = []
    document = [{"name": "r", "when": {"drift": {}}, "send": ["log"]}]
    [trigger] = parse_triggers(document, {"log"}, faults, lambda _: pytest.fail("no schedule"))
    assert trigger.dry_run is False and (trigger.for_s, trigger.cooldown_s) == (0.0, 3600.0)


def test_gates_and_a_rollout_are_settings_of_retraining() -> None:
    faults: list[str] = []
    limits = parse_limits({"gates": {"max_bytes": 5}, "auto_rollout": {"steps": [1]}, "quality_veto": False}, faults)
    assert (faults, limits.gates.max_bytes, limits.auto_rollout) == ([], 5, {"steps": [1]})


@pytest.mark.parametrize(
    ("denied", "is_found"),
    [
        ({"all": [{"age": {"days": 0}}, {"labels": {"new_at_least": 0}}]}, True),
        ({"all": [{"age": {"days": 0}}, {"labels": {"new_at_least": 1}}]}, False),
        ({"any": [{"age": {"days": 0}}, {"labels": {"new_at_least": 1}}]}, True),
        ({"any": [{"age": {"days": 1}}, {"labels": {"new_at_least": 1}}]}, False),
        ({"quality": {"violated": True}}, False),
    ],
)
def test_the_opposite_of_what_always_holds_is_named(denied: Any, is_found: bool) -> None:
    trigger = Trigger("r", condition({"not": denied}), ("log",))
    watched = MonitoringCoverage(True, True, True, {}, RuleLimits(), {})
    found = [fault for fault in find_unreachable((trigger,), watched) if "always holds" in fault]
    assert bool(found) is is_found


def test_a_condition_and_its_opposite_are_named() -> None:
    trigger = Trigger("r", condition({"all": [{"drift": {}}, {"not": {"drift": {}}}]}), ("log",))
    watched = MonitoringCoverage(True, True, True, {}, RuleLimits(), {})
    assert any("it requires 'drift' and its opposite" in fault for fault in find_unreachable((trigger,), watched))


def test_a_refusal_is_reported_once_for_each_condition() -> None:
    trigger = Trigger("r", condition({"drift": {}}), ("log",))
    state, outcomes = RuleState(), []
    for now, document in [(1000.0, DRIFTED), (1001.0, STEADY), (9000.0, DRIFTED), (9001.0, DRIFTED)]:
        state, action = decide((trigger,), RuleLimits(), state, VersionSnapshot("m", "1", now, document))
        outcomes.append(None if action is None else action.outcome)
    assert outcomes == [RuleOutcome.REQUESTED, None, RuleOutcome.IN_FLIGHT, None]
