"""Rollouts: the decision as a table, what keeps over a restart, and simulated ones through the same code."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.simulate import CASES, Case, run, run_rollout, summarise
from penstock.core.errors import InvalidInput
from penstock.core.rollouts.decision import RolloutAction, RolloutActionKind, RolloutSnapshot, apply_action, decide
from penstock.core.rollouts.documents import decode_rollout, encode_rollout, rollout_document
from penstock.core.rollouts.gates import RolloutStep, parse_steps
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.rollout import (
    Rollout,
    RolloutState,
    add_batch,
    guard_verdicts,
    is_split_sound,
    resume,
    seconds_needed,
    start_rollout,
)
from penstock.core.rollouts.spec import RolloutSpec, encode_spec, parse_spec
from penstock.core.rollouts.waiting import waiting_for
from penstock.core.statistics.evidence import Evidence
from tests.budgets import THOROUGH

RUNS = 40 if THOROUGH else 6
"""Simulated rollouts of each case."""

ERRORS = GuardSpec("errors", 0.02)
SPEC = RolloutSpec("2", "1", steps=parse_steps([500, 5000, 10000]), min_step_s=10.0, guards=(ERRORS,))
PASSED = GuardState(health=Evidence(peak=10.0))
FAILED = GuardState(peak=10.0)
OPEN_QUESTION = GuardState()
READY = replace(start_rollout(SPEC, 0.0), requests=100)


def at(step: int = 0, guard: GuardState = PASSED, **changes: Any) -> Rollout:
    return replace(READY, step=step, guards=(guard,), **changes)


@pytest.mark.parametrize(
    ("snapshot", "kind", "reason"),
    [
        (RolloutSnapshot(at(), 10.0), RolloutActionKind.ADVANCE, "50 %"),
        (RolloutSnapshot(at(1), 10.0), RolloutActionKind.ADVANCE, "95 %"),
        (RolloutSnapshot(at(2), 10.0), RolloutActionKind.PROMOTE, "last step"),
        (RolloutSnapshot(at(), 9.9), None, ""),
        (RolloutSnapshot(at(), 10.0, acknowledged=False), None, ""),
        (RolloutSnapshot(at(), 10.0, canary_ready=False), None, ""),
        (RolloutSnapshot(at(requests=29), 10.0), None, ""),
        (RolloutSnapshot(at(guard=OPEN_QUESTION), 1000.0), None, ""),
        (RolloutSnapshot(at(guard=FAILED), 0.0), RolloutActionKind.ROLL_BACK, "errors"),
        (RolloutSnapshot(at(guard=FAILED), 0.0, acknowledged=False), RolloutActionKind.ROLL_BACK, "errors"),
        (RolloutSnapshot(at(2, FAILED), 99.0), RolloutActionKind.ROLL_BACK, "errors"),
        (RolloutSnapshot(at(state=RolloutState.PAUSED, guard=FAILED), 99.0), RolloutActionKind.ROLL_BACK, "errors"),
        (
            RolloutSnapshot(at(state=RolloutState.PAUSED, unready_since=5.0), 10.0),
            RolloutActionKind.ROLL_BACK,
            "cannot answer",
        ),
        (RolloutSnapshot(at(state=RolloutState.PAUSED), 99.0), None, ""),
        (RolloutSnapshot(at(state=RolloutState.PAUSED, spec=replace(SPEC, deadline_s=60.0)), 99.0), None, ""),
        (RolloutSnapshot(at(state=RolloutState.PROMOTED, guard=FAILED), 99.0), None, ""),
        (RolloutSnapshot(at(unready_since=5.0), 9.0), None, ""),
        (RolloutSnapshot(at(unready_since=5.0), 10.0), RolloutActionKind.ROLL_BACK, "cannot answer"),
        (RolloutSnapshot(at(losses=2), 10.0), RolloutActionKind.ADVANCE, "50 %"),
        (
            RolloutSnapshot(at(losses=3), 0.0, canary_ready=False, acknowledged=False),
            RolloutActionKind.ROLL_BACK,
            "3 workers ended",
        ),
        (RolloutSnapshot(at(state=RolloutState.PAUSED, losses=3), 0.0), RolloutActionKind.ROLL_BACK, "3 workers ended"),
        (RolloutSnapshot(at(ratio=Evidence((900.0,), (100.0,), 9.0, 9.0)), 0.0), RolloutActionKind.PAUSE, "share"),
        (RolloutSnapshot(at(ratio=Evidence((500.0,), (9500.0,), 9.0, 9.0)), 10.0), RolloutActionKind.ADVANCE, "50 %"),
        (
            RolloutSnapshot(at(spec=replace(SPEC, deadline_s=60.0), guard=OPEN_QUESTION), 60.0),
            RolloutActionKind.PAUSE,
            "deadline",
        ),
        (
            RolloutSnapshot(
                at(spec=replace(SPEC, deadline_s=60.0, on_inconclusive="abort"), guard=OPEN_QUESTION), 60.0
            ),
            RolloutActionKind.GIVE_UP,
            "deadline",
        ),
    ],
)
def test_the_decision_follows_from_state_and_evidence(
    snapshot: RolloutSnapshot, kind: RolloutActionKind | None, reason: str
) -> None:
    action = decide(snapshot)
    if kind is None:
        assert action is None
    else:
        assert action is not None
        assert action.kind is kind
        assert reason in action.reason


def test_harm_comes_before_everything_else() -> None:
    spec = replace(SPEC, deadline_s=1.0)
    worst = at(spec=spec, guard=FAILED, ratio=Evidence((900.0,), (100.0,), 9.0, 9.0))
    action = decide(RolloutSnapshot(worst, 100.0))
    assert action is not None
    assert action.kind is RolloutActionKind.ROLL_BACK


def test_the_shadow_stage_waits_only_for_what_can_be_said_without_callers() -> None:
    guards = (GuardSpec("disagreement", 0.02), ERRORS)
    spec = replace(SPEC, guards=guards, shadow=100.0)
    rollout = replace(start_rollout(spec, 0.0), guards=(PASSED, OPEN_QUESTION))
    assert (rollout.step, rollout.weight, rollout.mirrored) == (-1, 0, 100.0)
    action = decide(RolloutSnapshot(rollout, 10.0))
    assert action is not None
    assert action.kind is RolloutActionKind.ADVANCE
    after = apply_action(rollout, action, 10.0)
    assert (after.step, after.weight, after.mirrored, after.stage) == (0, 500, 0.0, 2)
    assert decide(RolloutSnapshot(replace(rollout, guards=(OPEN_QUESTION, PASSED)), 10.0)) is None


@pytest.mark.parametrize(
    ("kind", "state", "weight"),
    [
        (RolloutActionKind.ADVANCE, RolloutState.RUNNING, 5000),
        (RolloutActionKind.PROMOTE, RolloutState.PROMOTED, 10000),
        (RolloutActionKind.ROLL_BACK, RolloutState.ROLLED_BACK, 0),
        (RolloutActionKind.GIVE_UP, RolloutState.INCONCLUSIVE, 0),
        (RolloutActionKind.PAUSE, RolloutState.PAUSED, 500),
    ],
)
def test_what_an_action_does(kind: RolloutActionKind, state: RolloutState, weight: int) -> None:
    after = apply_action(at(), RolloutAction(kind, "because"), 42.0)
    assert (after.state, after.weight, after.reason, after.step_at, after.stage) == (state, weight, "because", 42.0, 2)


def test_batches_are_judged_and_counted() -> None:
    rollout = start_rollout(SPEC, 0.0)
    for _ in range(5):
        rollout = add_batch(rollout, EvidenceBatch(errors=((0, 5), (0, 95))), (5, 95), sticky=False)
    assert rollout.requests == 25
    assert (rollout.ratio.n_canary, rollout.ratio.n_control) == (25, 475)
    assert rollout.guards[0].harm.n_control == 475
    by_user = add_batch(rollout, EvidenceBatch(errors=((0, 50), (0, 50))), (50, 50), sticky=True)
    assert by_user.ratio == rollout.ratio
    unsound = start_rollout(SPEC, 0.0)
    for _ in range(40):
        unsound = add_batch(unsound, EvidenceBatch(errors=((0, 50), (0, 50))), (50, 50), sticky=False)
    assert is_split_sound(rollout)
    assert not is_split_sound(unsound)


def test_a_wrong_split_is_tolerated_while_it_is_hardly_wrong() -> None:
    assert is_split_sound(at(ratio=Evidence((510.0,), (9490.0,), 50.0, 50.0)))
    assert not is_split_sound(at(ratio=Evidence((600.0,), (9400.0,), 50.0, 50.0)))


ASKED = {
    "to": "2",
    "from": "1",
    "steps": [100, 10000],
    "min_step_seconds": 5,
    "alpha": 0.05,
    "guards": ["errors", {"metric": "latency", "max_ratio": 1.5}],
    "on_inconclusive": "abort",
    "deadline_seconds": 600,
    "shadow": 10,
    "dry_run": True,
    "reason": "why not",
}


def test_what_is_asked_for_comes_back() -> None:
    spec = parse_spec(ASKED, None)
    assert parse_spec(encode_spec(spec), None) == spec
    assert (spec.to, spec.control, spec.shadow, spec.dry_run) == ("2", "1", 10.0, True)
    assert spec.steps == (RolloutStep(100), RolloutStep(10000))
    usual = parse_spec({"to": "2"}, "1")
    assert encode_spec(usual)["steps"] == [100, 500, 2500, 5000, 10000]
    assert [guard.metric for guard in usual.guards] == ["errors", "latency"]
    assert parse_spec({"to": "2", "guards": [{"metric": "disagreement"}]}, "1").shadow == 100.0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"to": None}, "'to'"),
        ({"to": "champion"}, "'to'"),
        ({"to": "1"}, "already answers"),
        ({"from": 3}, "'from'"),
        ({"steps": []}, "'steps'"),
        ({"steps": [500, 100]}, "'steps'"),
        ({"steps": [0, 100]}, "'steps'"),
        ({"steps": [100, 10001]}, "'steps'"),
        ({"steps": [100.5]}, "'steps'"),
        ({"steps": "100"}, "'steps'"),
        ({"min_step_seconds": -1}, "'min_step_seconds'"),
        ({"min_step_seconds": "1"}, "'min_step_seconds'"),
        ({"alpha": 0}, "'alpha'"),
        ({"alpha": 1}, "'alpha'"),
        ({"alpha": math.nan}, "'alpha'"),
        ({"guards": []}, "'guards'"),
        ({"guards": ["errors", "errors"]}, "once"),
        ({"guards": ["speed"]}, "metric"),
        ({"on_inconclusive": "shrug"}, "'on_inconclusive'"),
        ({"deadline_seconds": -4}, "'deadline_seconds'"),
        ({"shadow": 101}, "'shadow'"),
        ({"guards": ["disagreement"], "shadow": 0}, "'shadow'"),
        ({"dry_run": "yes"}, "'dry_run'"),
        ({"speed": 1}, "'speed'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        parse_spec({**ASKED, **change}, None)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 95)), min_size=2, max_size=40),
    st.integers(0, 39),
)
def test_a_restart_changes_no_verdict(bad: list[tuple[int, int]], cut: int) -> None:
    straight = interrupted = start_rollout(SPEC, 0.0)
    for index, (a, b) in enumerate(bad):
        batch = EvidenceBatch(errors=((a, 5 - a), (b, 95 - b)))
        straight = add_batch(straight, batch, (5, 95), sticky=False)
        if index == cut:
            interrupted = decode_rollout(json.loads(json.dumps(encode_rollout(interrupted))))
        interrupted = add_batch(interrupted, batch, (5, 95), sticky=False)
        assert decide(RolloutSnapshot(interrupted, 20.0)) == decide(RolloutSnapshot(straight, 20.0))
    assert decode_rollout(json.loads(json.dumps(encode_rollout(interrupted)))) == straight
    assert rollout_document(interrupted) == rollout_document(straight)


def test_what_is_shown_says_what_is_missing() -> None:
    rollout = start_rollout(SPEC, 0.0)
    for _ in range(6):
        rollout = add_batch(rollout, EvidenceBatch(errors=((0, 5), (0, 95))), (5, 95), sticky=False)
    document = rollout_document(rollout)
    assert document["state"] == "running"
    assert document["weight"] == 500
    assert document["needed"] > 0
    evidence = document["evidence"]["errors"]
    assert {"verdict", "log_e", "n_canary", "n_control", "effect"} <= evidence.keys()
    assert (evidence["verdict"], evidence["n_canary"], evidence["n_control"]) == ("undecided", 30, 570)
    json.dumps(document, allow_nan=False)
    assert seconds_needed(rollout, 10.0) == pytest.approx(document["needed"] / 3)
    assert seconds_needed(start_rollout(SPEC, 0.0), 10.0) is None


@pytest.mark.simulation
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_simulated_rollouts_end_as_they_should(case: Case) -> None:
    """A quick look; `python -m loadtests simulate` runs each case a thousand times."""
    sound_case = case.share is not None
    runs, most = (RUNS // 2, 1000) if sound_case else (RUNS, 8000)
    outcome = summarise([run(case, seed, most) for seed in range(runs)])
    if sound_case:
        assert outcome.rolled_back <= 0.05
    else:
        assert outcome.rolled_back == 1.0
        assert outcome.requests is not None
        assert case.within is not None
        assert outcome.requests <= 1.3 * case.within  # the standard error is about a tenth


@given(
    state=st.sampled_from([RolloutState.RUNNING, RolloutState.PAUSED]),
    step=st.integers(-1, 2),
    acknowledged=st.booleans(),
    ready=st.booleans(),
    now=st.floats(0, 1e6),
    mismatch=st.booleans(),
    deadline_s=st.sampled_from([0.0, 1.0]),
)
def test_harm_rolls_back_in_every_open_state(
    state: RolloutState, step: int, acknowledged: bool, ready: bool, now: float, mismatch: bool, deadline_s: float
) -> None:
    ratio = Evidence((900.0,), (100.0,), 9.0, 9.0) if mismatch else Evidence()
    spec = replace(SPEC, deadline_s=deadline_s)
    rollout = at(step, FAILED, state=state, ratio=ratio, spec=spec)
    action = decide(RolloutSnapshot(rollout, now, ready, acknowledged))
    assert action is not None
    assert action.kind is RolloutActionKind.ROLL_BACK


@given(
    steps=st.lists(st.integers(1, 10_000), min_size=1, max_size=5, unique=True).map(sorted), held=st.integers(0, 5000)
)
def test_the_control_keeps_its_hold_back_until_promotion(steps: list[int], held: int) -> None:
    rollout = start_rollout(parse_spec({"to": "2", "steps": steps, "hold_back": held}, "1"), 0.0)
    for step, stated in enumerate(steps):
        assert replace(rollout, step=step).weight == min(stated, 10_000 - held)
    assert replace(rollout, state=RolloutState.PROMOTED).weight == 10_000


def test_a_held_rollout_is_resumed_with_a_deadline_of_its_full_length() -> None:
    held = at(spec=replace(SPEC, deadline_s=60.0), guard=OPEN_QUESTION, state=RolloutState.PAUSED)
    again = resume(held, 100.0, "go on")
    assert decide(RolloutSnapshot(again, 159.0)) is None
    action = decide(RolloutSnapshot(again, 160.0))
    assert action is not None
    assert action.kind is RolloutActionKind.PAUSE
    assert decode_rollout(json.loads(json.dumps(encode_rollout(again)))) == again


GATED = [{"weight": 500, "min_requests": 1000}, {"weight": 5000, "approval": True}, 10000]


def test_a_step_may_carry_gates() -> None:
    spec = parse_spec({"to": "2", "steps": GATED}, "1")
    assert spec.steps == (RolloutStep(500, 1000), RolloutStep(5000, approval=True), RolloutStep(10000))
    assert parse_spec(encode_spec(spec), None) == spec
    rollout = replace(start_rollout(replace(spec, guards=(ERRORS,)), 0.0), guards=(PASSED,), requests=999)
    assert decide(RolloutSnapshot(rollout, 1000.0)) is None
    assert waiting_for(rollout, guard_verdicts(rollout), 1000.0) == ["1 more canary requests at this step"]
    asked = replace(rollout, step=1, requests=1000)
    assert decide(RolloutSnapshot(asked, 1000.0)) is None
    assert waiting_for(asked, guard_verdicts(asked), 1000.0) == ["a person's approval"]
    assert decide(RolloutSnapshot(replace(asked, approved_step=0), 1000.0)) is None
    action = decide(RolloutSnapshot(replace(asked, approved_step=1), 1000.0))
    assert action is not None
    assert action.kind is RolloutActionKind.ADVANCE
    assert decode_rollout(json.loads(json.dumps(encode_rollout(asked)))) == asked


@pytest.mark.parametrize(
    "step",
    [
        0,
        10_001,
        True,
        "5",
        {},
        {"weight": 5, "colour": 1},
        {"weight": 5, "approval": 1},
        {"weight": 5, "min_requests": -1},
    ],
)
def test_steps_that_cannot_be(step: Any) -> None:
    with pytest.raises(InvalidInput, match="'steps'"):
        parse_spec({"to": "2", "steps": [step]}, "1")


def test_what_a_step_waits_for_is_said_in_text() -> None:
    rollout = at(guard=OPEN_QUESTION, requests=0)
    document = waiting_for(rollout, guard_verdicts(rollout), 4.0)
    assert document == ["6 s more at this step", "guard 'errors' to pass", "30 more canary requests at this step"]
    ready = at()
    assert waiting_for(ready, guard_verdicts(ready), 10.0) == []


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("canary", "control", "bad_from", "ends"),
    [
        (0.001, 0.001, -1, "promoted"),
        (0.02, 0.02, -1, "promoted"),
        (0.005, 0.001, -1, "rolled_back"),
        (0.005, 0.001, 3, "rolled_back"),
        (0.05, 0.01, 4, "rolled_back"),
    ],
)
def test_rollouts_at_default_settings_end_as_they_should(
    canary: float, control: float, bad_from: int, ends: str
) -> None:
    others = [number for number in range(RUNS) if run_rollout(canary, control, number, bad_from)[0] != ends]
    assert len(others) <= 1
