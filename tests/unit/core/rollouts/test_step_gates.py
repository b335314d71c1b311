"""Gates of steps: what can be stated, what answers mean, and that a gate decides only "step forward or not"."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.rollouts.decision import RolloutActionKind, RolloutSnapshot, decide
from penstock.core.rollouts.documents import decode_rollout, encode_rollout
from penstock.core.rollouts.gates import (
    COMPARE,
    MOST_STEPS,
    GateAnswer,
    QueryGate,
    RolloutStep,
    WebhookGate,
    describe_steps,
    judge_query,
    judge_webhook,
    parse_steps,
)
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState, LabelledCounts
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.rollout import Rollout, RolloutState, add_batch, advance, guard_verdicts, start_rollout
from penstock.core.rollouts.spec import RolloutSpec
from penstock.core.rollouts.waiting import waiting_for
from penstock.core.statistics.evidence import Evidence

HOOK = WebhookGate("hook", 5.0)
QUERY = QueryGate("up", ">=", 1.0)
GATED = [
    {
        "weight": 500,
        "min_labels": 20,
        "webhook": {"sink": "hook", "timeout_seconds": 5},
        "query": {"query": "up", "operator": ">=", "limit": 1},
    },
    10_000,
]
SPEC = RolloutSpec("2", "1", steps=parse_steps(GATED), min_step_s=10.0, guards=(GuardSpec("errors", 0.02),))
PASSED = GuardState(health=Evidence(peak=10.0))
READY = replace(start_rollout(SPEC, 0.0), requests=100, labels=20, guards=(PASSED,), in_place_stage=1)
YES = (GateAnswer(HOOK.name, True, "it answered 200"), GateAnswer(QUERY.name, True, "it is 1"))


def waits(rollout: Rollout, now: float = 10.0) -> list[str]:
    return waiting_for(rollout, guard_verdicts(rollout), now)


def test_gates_come_back_as_they_were_stated() -> None:
    assert SPEC.steps[0] == RolloutStep(500, min_labels=20, webhook=HOOK, query=QUERY)
    assert parse_steps(describe_steps(SPEC.steps)) == SPEC.steps
    assert parse_steps([{"weight": 5, "webhook": "hook"}])[0].webhook == WebhookGate("hook")
    assert len(parse_steps(list(range(1, MOST_STEPS + 1)))) == MOST_STEPS
    kept = replace(READY, answers=YES)
    assert decode_rollout(json.loads(json.dumps(encode_rollout(kept)))) == kept


@pytest.mark.parametrize(
    "change",
    [
        {"webhook": {}},
        {"webhook": {"url": "http://127.0.0.1/"}},
        {"webhook": "http://127.0.0.1/"},
        {"webhook": {"sink": "hook", "timeout_seconds": 0}},
        {"webhook": {"sink": "hook", "timeout_seconds": 61}},
        {"webhook": {"sink": "hook", "timeout_seconds": math.nan}},
        {"webhook": 5},
        {"query": "up"},
        {"query": {"query": "up", "operator": ">="}},
        {"query": {"query": "up", "operator": "~", "limit": 1}},
        {"query": {"query": "", "operator": ">", "limit": 1}},
        {"query": {"query": "up", "operator": [], "limit": 1}},
        {"query": {"query": "up", "operator": ">", "limit": math.inf}},
        {"query": {"query": "up", "operator": ">", "limit": "1"}},
        {"query": {"query": "up", "operator": ">", "limit": 1, "url": "http://127.0.0.1/"}},
        {"min_labels": -1},
        {"min_labels": 1.5},
    ],
)
def test_gates_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="'steps'"):
        parse_steps([{"weight": 500, **change}])


@pytest.mark.parametrize(
    ("status", "fault", "passed", "said"),
    [
        (200, "", True, "it answered 200"),
        (204, "", False, "it answered 204"),
        (302, "", False, "it answered 302"),
        (503, "", False, "it answered 503"),
        (None, "it does not answer: refused", False, "it does not answer: refused"),
    ],
)
def test_a_webhook_has_to_answer_200(status: int | None, fault: str, passed: bool, said: str) -> None:
    assert judge_webhook(HOOK, status, fault) == GateAnswer("webhook 'hook'", passed, said)


@pytest.mark.parametrize(
    ("compare", "value", "passed"),
    [
        (">=", 1.0, True),
        (">=", 0.99, False),
        (">", 1.0, False),
        ("<", 0.5, True),
        ("<=", 1.5, False),
        ("==", 1.0, True),
        ("!=", 1.0, False),
        *((item, math.nan, False) for item in COMPARE),
        *((item, None, False) for item in COMPARE),
    ],
)
def test_a_query_has_to_give_a_value_that_compares(compare: str, value: float | None, passed: bool) -> None:
    answer = judge_query(QueryGate("up", compare, 1.0), value)
    assert answer.passed is passed
    assert answer.said == ("it gives no value" if value is None or math.isnan(value) else f"it is {value:g}")
    assert judge_query(QUERY, 5.0, "Prometheus does not answer") == GateAnswer(
        "query 'up'", False, "Prometheus does not answer"
    )


def test_what_is_waited_for_is_said_in_text() -> None:
    assert waits(replace(READY, labels=0)) == [
        "20 more labels of the canary's answers at this step",
        "webhook 'hook' to answer 200 (not asked yet)",
        "query 'up' to be >= 1 (not asked yet)",
    ]
    no = (judge_webhook(HOOK, 503), judge_query(QUERY, None))
    assert waits(replace(READY, answers=no)) == [
        "webhook 'hook' to answer 200 (it answered 503)",
        "query 'up' to be >= 1 (it gives no value)",
    ]
    assert waits(replace(READY, answers=YES)) == []


def test_labels_of_the_canary_are_counted_by_step() -> None:
    rollout = add_batch(
        start_rollout(SPEC, 0.0),
        EvidenceBatch(labelled=(LabelledCounts(0, (2, 3), (7, 70)), LabelledCounts(1, (0, 2), (1, 9)))),
        (0, 0),
        sticky=False,
    )
    assert rollout.labels == 7
    assert advance(replace(rollout, answers=YES), 1, 9.0, "").labels == 0
    assert advance(replace(rollout, answers=YES), 1, 9.0, "").answers == ()


ANSWERS = st.lists(
    st.builds(GateAnswer, st.sampled_from([HOOK.name, QUERY.name, "webhook 'other'"]), st.booleans(), st.text()),
    max_size=3,
    unique_by=lambda item: item.gate,
).map(tuple)


@given(
    answers=ANSWERS,
    state=st.sampled_from(list(RolloutState)),
    guard=st.sampled_from([PASSED, GuardState(), GuardState(peak=10.0)]),
    now=st.floats(0, 1e6),
    deadline_s=st.sampled_from([0.0, 1.0]),
    unready=st.booleans(),
)
def test_a_gate_decides_only_whether_to_step_forward(
    answers: tuple[GateAnswer, ...],
    state: RolloutState,
    guard: GuardState,
    now: float,
    deadline_s: float,
    unready: bool,
) -> None:
    """Whatever gates say, an action is the one without gates, or a step forward that was held up."""
    changes: dict[str, Any] = {"state": state, "guards": (guard,), "unready_since": 0.5 if unready else 0.0}
    rollout = replace(READY, spec=replace(SPEC, deadline_s=deadline_s), answers=answers, **changes)
    free = replace(rollout, spec=replace(rollout.spec, steps=parse_steps([500, 10_000])))
    found, without = decide(RolloutSnapshot(rollout, now)), decide(RolloutSnapshot(free, now))
    forward = without is not None and without.kind in (RolloutActionKind.ADVANCE, RolloutActionKind.PROMOTE)
    passed = {answer.gate for answer in answers if answer.passed}
    if forward and not {HOOK.name, QUERY.name} <= passed:
        assert found is None
    else:
        assert found == without
