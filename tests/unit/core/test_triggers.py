"""Retraining rules as tables: conditions, states, and everything that holds a request back."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.errors import InvalidInput
from penstock.core.policies import MonitorPolicy, describe_policy, parse_policy
from penstock.core.triggers.conditions import DAY_S, VersionSnapshot, evaluate
from penstock.core.triggers.parsing import parse_condition
from penstock.core.triggers.rules import RuleAction, RuleLimits, RuleOutcome, Trigger, decide
from penstock.core.triggers.state import (
    SKEW_S,
    InFlight,
    RuleMemory,
    RulePhase,
    RuleState,
    candidate_version,
    decode_rule_state,
    encode_rule_state,
    limit_times,
)

COLUMN = {
    "name": "x",
    "state": "ok",
    "psi": 0.1,
    "rows": 1000,
    "missing": 0,
    "infinite": 0,
    "out_of_range": 0,
    "unseen": 0,
}
DRIFTING = {**COLUMN, "state": "drift", "psi": 0.5, "since": 5.0, "moved": []}
HOUR = 3600.0


def monitor(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "features": [COLUMN],
        "outputs": [COLUMN],
        "joint": None,
        "slices": {},
        "quality": {"violated": []},
        "performance": {"labels": 0, "windowed": {}, "estimated": None},
        "rows_between_false_alarms": 100_000,
    }
    return {**plain, **changes}


DRIFTED = monitor(features=[DRIFTING, COLUMN])
BROKEN = monitor(features=[DRIFTING], quality={"violated": [{"name": "x", "kind": "missing"}]})


def labelled(labels: int = 500, estimated: float | None = None, **windowed: float) -> dict[str, Any]:
    raised = None if estimated is None else {"accuracy": estimated}
    return monitor(
        performance={"labels": labels, "windowed": windowed, "estimated": raised, "concept": {"state": "drift"}}
    )


def holds(when: dict[str, Any], document: dict[str, Any], memory: RuleMemory | None = None, age_s: float = 0.0) -> bool:
    faults: list[str] = []
    condition = parse_condition(when, "when", faults, parse_schedule)
    assert condition is not None, faults
    return evaluate(condition, VersionSnapshot("m", "1", 1000.0, document, age_s), memory or RuleMemory()).holds


@pytest.mark.parametrize(
    ("when", "document", "expected"),
    [
        ({"drift": {}}, DRIFTED, True),
        ({"drift": {"scope": "features", "at_least": 2}}, DRIFTED, False),
        ({"drift": {"scope": "outputs"}}, DRIFTED, False),
        ({"drift": {"scope": "any"}}, DRIFTED, True),
        ({"drift": {"min_psi": 0.6}}, DRIFTED, False),
        ({"drift": {"scope": "joint"}}, monitor(joint=DRIFTING), True),
        (
            {"drift": {"scope": "slices"}},
            monitor(slices={"shop": {"north": {"drifting": [{"name": "x", "psi": 1.0, "since": 1.0}]}}}),
            True,
        ),
        ({"performance": {"metric": "accuracy", "below": 0.9}}, labelled(accuracy=0.8), True),
        ({"performance": {"metric": "accuracy", "below": 0.9, "min_labels": 501}}, labelled(accuracy=0.8), False),
        ({"performance": {"metric": "accuracy", "below": 0.7}}, labelled(accuracy=0.8), False),
        ({"performance": {"metric": "mae", "above": 0.7}}, labelled(mae=0.8), True),
        ({"performance": {"metric": "f1", "below": 0.7}}, labelled(accuracy=0.1), False),
        ({"performance": {"metric": "accuracy", "below": 0.9, "source": "estimated"}}, labelled(0, 0.8), True),
        ({"concept": {}}, labelled(), True),
        ({"concept": {"on": "gap"}}, labelled(), False),
        ({"quality": {"missing_ratio_above": 0.05}}, monitor(features=[{**COLUMN, "missing": 51}]), True),
        ({"quality": {"missing_ratio_above": 0.05}}, monitor(features=[{**COLUMN, "missing": 49}]), False),
        ({"quality": {"missing_ratio_above": 0.0}}, monitor(features=[{**COLUMN, "rows": 99, "missing": 9}]), False),
        ({"quality": {"violated": True}}, BROKEN, True),
        ({"all": [{"drift": {}}, {"quality": {"violated": True}}]}, BROKEN, True),
        ({"all": [{"drift": {}}, {"quality": {"violated": True}}]}, DRIFTED, False),
        ({"any": [{"concept": {}}, {"drift": {}}]}, DRIFTED, True),
        ({"not": {"drift": {}}}, DRIFTED, False),
        ({"labels": {"new_at_least": 500}}, labelled(500), True),
    ],
)
def test_conditions_hold_or_not(when: dict[str, Any], document: dict[str, Any], expected: bool) -> None:
    assert holds(when, document) is expected


def test_conditions_that_remember() -> None:
    fallen = {"performance": {"metric": "accuracy", "fallen_by": 0.1}}
    assert holds(fallen, labelled(accuracy=0.8), RuleMemory(best={"accuracy": 0.95}))
    assert not holds(fallen, labelled(accuracy=0.9), RuleMemory(best={"accuracy": 0.95}))
    assert not holds({"labels": {"new_at_least": 100}}, labelled(500), RuleMemory(labels=450))
    assert holds({"age": {"days": 30}}, monitor(), age_s=31 * DAY_S)
    assert not holds({"age": {"days": 30}}, monitor(), age_s=29 * DAY_S)


def rule(**changes: Any) -> Trigger:
    stated = {"name": "r", "when": {"drift": {}}, "send": ["log"], **changes}
    [found] = parse_policy({"triggers": [stated], "sinks": {"log": {"file": {"path": "e"}}}}, parse_schedule).triggers
    return found


class Watched:
    """Rules over time."""

    def __init__(self, *triggers: Trigger, limits: RuleLimits | None = None) -> None:
        self.triggers, self.limits, self.rule_state, self.now = triggers, limits or RuleLimits(), RuleState(), 10_000.0

    def state(self) -> RulePhase:
        return self.rule_state.rules["r"].state

    def at(self, seconds: float, document: dict[str, Any], version: str = "1") -> RuleOutcome | None:
        self.now += seconds
        snapshot = VersionSnapshot("m", version, self.now, document)
        self.rule_state, action = decide(self.triggers, self.limits, self.rule_state, snapshot)
        self.rule_state = decode_rule_state(json.loads(json.dumps(encode_rule_state(self.rule_state))))
        self.action: RuleAction | None = action
        return None if action is None else action.outcome


def test_a_rule_waits_asks_once_and_is_over() -> None:
    watched = Watched(rule(for_seconds=60))
    assert watched.at(1, monitor()) is None
    assert watched.at(1, DRIFTED) is None
    assert watched.state() is RulePhase.PENDING
    assert watched.at(59, DRIFTED) is None
    assert watched.at(1, DRIFTED) is RuleOutcome.REQUESTED
    assert watched.action is not None
    assert watched.action.started == 10_002.0
    assert watched.at(1, DRIFTED) is None
    assert watched.at(1, monitor()) is None
    assert watched.state() is RulePhase.OK
    watched.at(1, DRIFTED)
    assert watched.at(30, monitor()) is None  # not long enough: as if nothing had been
    assert watched.state() is RulePhase.OK


def test_one_request_is_under_way_until_its_version_answers() -> None:
    watched = Watched(rule(cooldown_seconds=10))
    assert watched.at(1, DRIFTED) is RuleOutcome.REQUESTED
    watched.at(1, monitor())
    assert watched.at(60, DRIFTED) is RuleOutcome.IN_FLIGHT
    assert watched.at(60, DRIFTED) is None  # reported once
    assert watched.at(1, DRIFTED, version="2") is RuleOutcome.REQUESTED
    assert watched.at(2 * DAY_S, DRIFTED, version="2") is RuleOutcome.REQUESTED  # its time has run out


@pytest.mark.parametrize(
    ("snapshot", "held"),
    [
        ({"version": "1"}, True),
        ({"version": "2", "ready": False}, True),  # it is being loaded
        ({"version": "2"}, False),
        ({"version": "0", "failed": ("1",)}, True),  # it only stands in
        ({"version": "0"}, False),  # somebody led the champion there
    ],
)
def test_a_request_outlives_its_substitute(snapshot: dict[str, Any], held: bool) -> None:
    under_way = RuleState(in_flight=InFlight("1", 1000.0), requests=(1000.0,), approved=("2",))
    after, _ = decide((), RuleLimits(), under_way, VersionSnapshot("m", now=1010.0, monitor=monitor(), **snapshot))
    assert (after.in_flight is not None, after.approved) == (held, ("2",) if held else ())


def test_nothing_falls_from_what_another_version_reached() -> None:
    watched = Watched(rule(when={"performance": {"metric": "accuracy", "fallen_by": 0.1}}, cooldown_seconds=0))
    assert watched.at(1, labelled(accuracy=0.95)) is None
    assert watched.at(1, labelled(accuracy=0.8), version="2") is None
    assert watched.at(1, labelled(accuracy=0.85), version="2") is None
    assert watched.at(1, labelled(accuracy=0.74), version="2") is RuleOutcome.REQUESTED


def test_what_an_older_gateway_remembered_is_kept() -> None:
    known = RuleMemory(RulePhase.FIRING, 5.0, 6.0, 1, "requested", 7.0, 8, {"accuracy": 0.9})
    written = encode_rule_state(RuleState({"r": known}))
    written["rules"]["r"] = written["rules"]["r"][:8]
    assert decode_rule_state(written).rules["r"] == known


def test_cooldown_budget_and_dry_run() -> None:
    watched = Watched(rule(cooldown_seconds=HOUR), limits=RuleLimits(timeout_s=1))
    assert watched.at(1, DRIFTED) is RuleOutcome.REQUESTED
    watched.at(10, monitor())
    assert watched.at(10, DRIFTED) is RuleOutcome.COOLDOWN
    assert watched.at(HOUR, DRIFTED) is RuleOutcome.REQUESTED
    spent = Watched(rule(cooldown_seconds=0), limits=RuleLimits(budget_per_day=2, timeout_s=1, escalate_after=99))
    found = [spent.at(10, document) for _ in range(5) for document in (DRIFTED, monitor())]
    assert [item for item in found if item] == [RuleOutcome.REQUESTED] * 2 + [RuleOutcome.BUDGET] * 3
    assert spent.at(DAY_S, DRIFTED) is RuleOutcome.REQUESTED
    assert Watched(rule(dry_run=True)).at(1, DRIFTED) is RuleOutcome.DRY_RUN


def test_unsound_data_asks_for_no_training() -> None:
    quality = rule(name="q", when={"quality": {"violated": True}})
    watched = Watched(rule(), quality)
    assert watched.at(1, BROKEN) is RuleOutcome.QUALITY
    assert watched.at(1, BROKEN) is RuleOutcome.REQUESTED
    assert watched.action is not None
    assert (watched.action.trigger.name, watched.action.trigger.kind.value) == ("q", "quality.violated.v1")
    assert watched.rule_state.in_flight is None
    assert all(watched.at(60, BROKEN) is None for _ in range(100))
    assert Watched(rule(), limits=RuleLimits(quality_veto=False)).at(1, BROKEN) is RuleOutcome.REQUESTED


def test_what_does_not_help_is_a_persons_affair() -> None:
    watched = Watched(rule(cooldown_seconds=60), limits=RuleLimits(timeout_s=1, escalate_after=3))
    found = [watched.at(61, DRIFTED) for _ in range(8)]
    assert [item for item in found if item] == [RuleOutcome.REQUESTED] * 3 + [RuleOutcome.ESCALATED]
    assert watched.at(60, monitor()) is None
    assert watched.at(61, DRIFTED) is RuleOutcome.REQUESTED  # another cause


def test_a_threshold_of_its_own_for_the_end() -> None:
    stated = {"until": {"not": {"drift": {"min_psi": 0.2}}}, "when": {"drift": {"min_psi": 0.4}}, "cooldown_seconds": 0}
    watched = Watched(rule(**stated), limits=RuleLimits(timeout_s=1, escalate_after=1))
    between = monitor(features=[{**DRIFTING, "psi": 0.3}])
    assert watched.at(1, between) is None
    assert watched.at(1, DRIFTED) is RuleOutcome.REQUESTED
    assert watched.at(1, between) is None
    assert watched.state() is RulePhase.FIRING
    watched.at(1, monitor())
    assert watched.state() is RulePhase.OK


def test_a_cause_that_does_not_last_asks_nothing_whatever_its_end_is() -> None:
    stated = {"until": {"not": {"drift": {}}}, "when": {"drift": {"min_psi": 0.4}}, "for_seconds": 60}
    watched = Watched(rule(**stated))
    between = monitor(features=[{**DRIFTING, "psi": 0.3}])
    watched.at(1, DRIFTED)
    assert watched.at(30, between) is None
    assert watched.state() is RulePhase.OK
    assert watched.at(40, DRIFTED) is None  # its time begins anew
    assert watched.at(60, DRIFTED) is RuleOutcome.REQUESTED


def test_labels_are_counted_on_where_a_successor_knows_of_fewer() -> None:
    watched = Watched(rule(when={"labels": {"new_at_least": 100}}, cooldown_seconds=0), limits=RuleLimits(timeout_s=1))
    assert watched.at(10, labelled(500)) is RuleOutcome.REQUESTED
    assert watched.at(10, labelled(20)) is None
    assert watched.at(10, labelled(119)) is None
    assert watched.at(10, labelled(121)) is RuleOutcome.REQUESTED


def test_a_flapping_day_asks_no_more_than_it_may() -> None:
    watched = Watched(rule(cooldown_seconds=HOUR), limits=RuleLimits(budget_per_day=5, timeout_s=1, escalate_after=99))
    found = [watched.at(60, DRIFTED if minute % 2 else monitor()) for minute in range(24 * 60)]
    assert found.count(RuleOutcome.REQUESTED) == 5
    hourly = Watched(rule(cooldown_seconds=HOUR), limits=RuleLimits(budget_per_day=999, timeout_s=1, escalate_after=99))
    found = [hourly.at(60, DRIFTED if minute % 2 else monitor()) for minute in range(24 * 60)]
    assert 20 <= found.count(RuleOutcome.REQUESTED) <= 24


@pytest.mark.parametrize(
    ("ready", "tried", "expected"),
    [
        ({"1": 0.0}, (), None),
        ({"1": 0.0, "2": 50.0}, (), None),  # it was there before
        ({"1": 0.0, "2": 150.0}, (), "2"),
        ({"1": 0.0, "2": 150.0, "3": 160.0}, (), "3"),
        ({"1": 0.0, "2": 150.0}, ("2",), None),
        ({"1": 150.0}, (), None),
    ],
)
def test_the_version_that_came_of_a_request(ready: dict[str, float], tried: tuple[str, ...], expected: str) -> None:
    asked = RuleState(in_flight=InFlight("1", 100.0))
    assert candidate_version(asked, "1", ready, tried) == expected
    assert candidate_version(RuleState(), "1", ready, tried) is None


@given(
    st.lists(st.tuples(st.floats(1, 5000), st.booleans(), st.sampled_from(["1", "2"])), max_size=60),
    st.floats(0, 4000),
    st.integers(0, 4),
)
def test_never_more_than_allowed(steps: list[tuple[float, bool, str]], cooldown: float, budget: int) -> None:
    watched = Watched(rule(cooldown_seconds=cooldown), limits=RuleLimits(budget_per_day=budget, timeout_s=600))
    asked: list[float] = []
    for seconds, drifts, version in steps:
        if watched.at(seconds, DRIFTED if drifts else monitor(), version) is RuleOutcome.REQUESTED:
            assert not asked or watched.now - asked[-1] >= cooldown - 1e-6
            asked.append(watched.now)
            assert sum(watched.now - item < DAY_S for item in asked) <= budget


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"triggers": {}}, "'triggers' must be a list"),
        ({"triggers": [{"name": "a"}]}, "'triggers[0].when' must be an object with one of"),
        (
            {"triggers": [{"name": "a", "when": {"drift": {"scope": "all"}}}]},
            "'triggers[0].when.drift.scope' must be one of",
        ),
        (
            {"triggers": [{"name": "a", "when": {"drift": {}}, "send": ["x"]}]},
            "names no sink of this policy or of the configuration: 'x'",
        ),
        ({"triggers": [{"name": "a", "when": {"schedule": "soon"}}]}, "five fields"),
        ({"triggers": [{"name": "a", "when": {"performance": {"metric": "f1"}}}]}, "needs below, above or fallen_by"),
        ({"triggers": [{"name": "a", "when": {"performance": {"below": 1}}}]}, "names a metric"),
        ({"triggers": [{"name": "a", "when": {"quality": {}}}]}, "needs one of"),
        (
            {"triggers": [{"name": "a", "when": {"any": [{"moon": 1}]}}]},
            "'triggers[0].when.any[0].moon' is not a condition",
        ),
        ({"triggers": [{"name": "a", "when": {"drift": {}}, "cooldown_seconds": -1}]}, "cooldown_seconds"),
        ({"triggers": [{"name": "a", "when": {"drift": {}}}] * 2}, "two triggers are called 'a'"),
        ({"retraining": {"auto_rollout": {"to": "2"}}}, "'retraining.auto_rollout'"),
        ({"retraining": {"budget_per_day": "many"}}, "'retraining.budget_per_day' must be a whole number"),
        ({"sinks": {"a": {"carrier-pigeon": {}}}}, "'sinks.a' must be an object with one of"),
        ({"sinks": {"a": {"webhook": {"url": "ftp://x"}}}}, "an http or https address"),
        ({"sinks": {"a": {"webhook": {"url": "http://u:p@x/"}}}}, "without a user in it"),
        ({"sinks": {"a": {"command": {"argv": "rm"}}}}, "a list of texts"),
        ({"sinks": {"a b": {"file": {"path": "x"}}}}, "not a valid name for a sink"),
        ({"sinks": {"a": {"file": {}}}}, "'sinks.a.file.path' is missing"),
        ({"slo": {"latency_p99_ms": 0}}, "'slo.latency_p99_ms'"),
    ],
)
def test_a_faulty_policy_names_its_faults(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_policy(document, parse_schedule)
    assert fault in str(raised.value)


def test_the_policy_of_the_manual_is_kept_as_it_was_written() -> None:
    document = {
        "slo": {"latency_p99_ms": 20, "error_ratio": 0.001},
        "triggers": [
            {"name": "inputs-drifted", "when": {"drift": {"scope": "features", "at_least": 1}}, "send": ["hook"]},
            {"name": "weekly", "when": {"schedule": "0 3 * * 1"}, "send": ["hook"]},
        ],
        "sinks": {
            "hook": {"webhook": {"url": "http://127.0.0.1:9000/retrain", "secret_file": "hook.key"}},
            "log": {"file": {"path": "events.jsonl"}},
            "train": {"command": {"argv": ["python", "train.py"], "timeout_seconds": 600}},
        },
    }
    policy = parse_policy(document, parse_schedule)
    shown = describe_policy(policy)
    assert {name: shown[name] for name in document} == document
    assert parse_policy(shown, parse_schedule) == policy
    assert describe_policy(MonitorPolicy()).keys() == {"monitor", "capture"}
    assert math.isinf(RuleMemory().asked)


TIMES = st.floats(0, 1e6)


@given(st.lists(TIMES, max_size=3), TIMES, TIMES, TIMES, TIMES)
def test_times_to_come_count_as_now(requests: list[float], since: float, asked: float, at: float, now: float) -> None:
    state = RuleState({"r": RuleMemory(since=since, asked=asked)}, tuple(requests), InFlight("1", at), failed=None)
    after = limit_times(state, now)
    rule = after.rules["r"]
    assert after.in_flight is not None
    for before, kept in zip(
        (*requests, since, asked, at), (*after.requests, rule.since, rule.asked, after.in_flight.at), strict=True
    ):
        assert kept == (now if before > now + SKEW_S else before)


@pytest.mark.parametrize("jump_s", [-HOUR, -DAY_S])
def test_a_clock_that_is_set_back_makes_no_rule_wait_for_it(jump_s: float) -> None:
    asks = rule(cooldown_seconds=HOUR)
    state, action = decide([asks], RuleLimits(), RuleState(), VersionSnapshot("m", "1", 1e6, DRIFTED))
    assert action is not None
    assert action.outcome is RuleOutcome.REQUESTED
    now = 1e6 + jump_s
    state, action = decide([asks], RuleLimits(timeout_s=HOUR), state, VersionSnapshot("m", "1", now, DRIFTED))
    assert action is None  # one is under way
    state, action = decide([asks], RuleLimits(timeout_s=HOUR), state, VersionSnapshot("m", "1", now + HOUR, DRIFTED))
    assert action is not None
    assert action.outcome is RuleOutcome.REQUESTED


@pytest.mark.parametrize(
    ("walls", "asked"),
    [
        ([9.9, 10.1], 1),
        ([9.9, 10.1, 9.1, 9.9, 10.1], 1),  # it went through this time before
        ([9.9, 10.1, 9.1, 11.1], 2),
        ([9.9, 11.1], 1),  # what the clock passed over comes
        ([9.9, 33.1, 9.95, 10.1], 2),  # beyond three hours the clock was wrong
        ([9.9, 10.1, 10.2, 10.3], 1),
    ],
)
def test_a_schedule_by_a_clock_that_is_set(walls: list[float], asked: int) -> None:
    """Hours of the clock that people read, while an hour passes between two looks; the schedule is each hour."""
    hourly = rule(when={"schedule": "0 * * * *"}, cooldown_seconds=0)
    state, found = RuleState(), 0
    for step, wall in enumerate(walls):
        snapshot = VersionSnapshot("m", "1", 1e6 + step * HOUR, monitor(), wall=wall * HOUR)
        state, action = decide([hourly], RuleLimits(timeout_s=60, escalate_after=99), state, snapshot)
        found += action is not None and action.outcome is RuleOutcome.REQUESTED
    assert found == asked
