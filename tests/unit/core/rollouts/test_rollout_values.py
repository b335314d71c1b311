"""A rollout's documents field by field, what a step begins with, and its sentences and decisions at their limits."""

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.rollouts.decision import RolloutActionKind, RolloutSnapshot, decide
from penstock.core.rollouts.documents import decode_rollout, encode_rollout, rollout_document
from penstock.core.rollouts.gates import GateAnswer, RolloutStep
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState, at_next_step, observe
from penstock.core.rollouts.guard_spec import GuardSpec, parse_guard
from penstock.core.rollouts.guards import describe_evidence
from penstock.core.rollouts.pooling import find_stratum_size, flush_counts, pool_counts
from penstock.core.rollouts.progress import describe_progress, round_count
from penstock.core.rollouts.rollout import (
    Rollout,
    RolloutState,
    add_batch,
    advance,
    is_split_sound,
    requests_needed,
    resume,
    seconds_needed,
    start_rollout,
)
from penstock.core.rollouts.spec import RolloutSpec, encode_spec, parse_spec, with_objectives
from penstock.core.statistics.evidence import Evidence
from penstock.core.statistics.one_sample import ratio_mismatch

ERRORS, LATENCY = GuardSpec("errors", 0.02), GuardSpec("latency", 1.2)
SPEC = RolloutSpec("2", "1", steps=(RolloutStep(500), RolloutStep(2500), RolloutStep(10_000)), guards=(ERRORS, LATENCY))
SEEN = Evidence((2.0, 98.0), (1.0, 399.0), 1.0, 1.0, (1.0,), (0.5, 0.5), 0.25, 3)
TIMES = Evidence((2.0, 98.0, 0.0, 0.0), (1.0, 399.0, 0.0, 0.0))
FULL = Rollout(
    SPEC,
    RolloutState.PAUSED,
    1,
    4,
    10.0,
    20.0,
    (GuardState(SEEN, SEEN), GuardState(TIMES, run_harm=TIMES)),
    replace(SEEN, canary=(100.0,), control=(400.0,), log_e=1.23456, peak=1.23456),
    55,
    "lunch",
    30.0,
    40.0,
    1,
    6,
    (GateAnswer("webhook 'hook'", True, "it answered 200"),),
    3,
    2,
    {"errors": ((1.0, 2.0), (3.0, 4.0)), "latency": ((5.0, 0.0, 0.0, 0.0), (6.0, 0.0, 0.0, 0.0))},
)


def kept(rollout: Rollout) -> Any:
    return json.loads(json.dumps(encode_rollout(rollout)))


def test_a_rollout_survives_as_json_values() -> None:
    """All of it; what older gateways did not keep has its default."""
    values = kept(FULL)
    assert set(values) == {field.name for field in fields(Rollout)}
    back = decode_rollout(values)
    assert replace(back, waiting=FULL.waiting) == FULL
    assert kept(back) == values
    for name in ("approved_step", "labels", "answers", "in_place_stage", "losses", "waiting"):
        older = decode_rollout({key: value for key, value in values.items() if key != name})
        assert getattr(older, name) == getattr(start_rollout(SPEC, 0.0), name)
    older = decode_rollout({key: value for key, value in values.items() if key != "deadline_from"})
    assert older.deadline_from == FULL.began_at
    for name in ("spec", "state", "step", "stage", "began_at", "step_at", "guards", "ratio", "requests", "reason"):
        with pytest.raises(KeyError, match=name):
            decode_rollout({key: value for key, value in values.items() if key != name})


def test_what_people_are_shown_of_a_rollout() -> None:
    found = rollout_document(FULL)
    assert {name: found.pop(name) for name in encode_spec(SPEC)} == encode_spec(SPEC)
    evidence = found.pop("evidence")
    assert found == {
        "state": "paused",
        "step": 1,
        "weight": 2500,
        "in_place": False,
        "worker_losses": 2,
        "sample_ratio": {"verdict": "sound", "log_e": 1.2346, "n_canary": 100, "n_control": 400},
        "needed": requests_needed(FULL),
        "reason": "lunch",
    }
    assert set(evidence) == {"errors", "latency"}
    for guard, state, (canary, control) in zip(SPEC.guards, FULL.guards, ((3, 7), (5, 6)), strict=True):
        expected = describe_evidence(guard, state, FULL.guard_alpha)
        expected["n_canary"], expected["n_control"] = 100 + canary, 400 + control
        assert evidence[guard.name] == expected


@pytest.mark.parametrize(
    ("metric", "counts"),
    [
        ("errors", "errors"),
        ("error_ratio", "errors"),
        ("latency", "latency"),
        ("latency_p99", "latency"),
        ("outputs", "outputs"),
        ("quality", "quality"),
        ("performance", None),
    ],
)
def test_what_waits_to_be_compared_is_counted(metric: str, counts: str | None) -> None:
    spec = replace(SPEC, guards=(GuardSpec(metric, 0.5 if metric != "latency" else 1.5),))
    waiting = dict.fromkeys([counts] if counts else [], ((1.0, 2.0), (3.0, 4.0)))
    found = rollout_document(replace(start_rollout(spec, 0.0), waiting=waiting))["evidence"][metric]
    absolute = metric in {"error_ratio", "latency_p99"}
    assert (found["n_canary"], found["n_control"]) == ((3, 0 if absolute else 7) if counts else (0, 0))


def test_an_unsound_split_is_shown() -> None:
    unsound = replace(FULL, ratio=Evidence((50.0,), (100.0,), 9.0, 9.0))
    assert rollout_document(unsound)["sample_ratio"]["verdict"] == "mismatch"


@pytest.mark.parametrize(
    ("peak", "canary", "sound"),
    [
        (math.log(1000) - 1e-9, 9000.0, True),
        (math.log(1000), 9000.0, False),
        (math.log(1000), 2519.0, True),
        (math.log(1000), 2481.0, True),
        (math.log(1000), 2521.0, False),
        (math.log(1000), 2479.0, False),
    ],
)
def test_a_split_is_unsound_by_evidence_and_by_a_difference(peak: float, canary: float, sound: bool) -> None:
    ratio = Evidence((canary,), (10_000 - canary,), peak, peak)
    assert is_split_sound(replace(FULL, ratio=ratio)) is sound


def test_a_step_begins_with_new_tests_and_counts() -> None:
    stepped = advance(FULL, 2, 99.0, "every guard passes")
    before = [
        observe(guard, state, flush_counts(FULL.waiting), 1.0)
        for guard, state in zip(SPEC.guards, FULL.guards, strict=True)
    ]
    assert stepped == replace(
        FULL,
        guards=tuple(at_next_step(guard, state) for guard, state in zip(SPEC.guards, before, strict=True)),
        step=2,
        stage=5,
        step_at=99.0,
        reason="every guard passes",
        ratio=Evidence(),
        requests=0,
        labels=0,
        answers=(),
        unready_since=0.0,
        waiting={},
    )
    assert stepped.guards != FULL.guards
    again = resume(FULL, 70.0, "go on")
    assert again == replace(advance(FULL, 1, 70.0, "go on"), state=RolloutState.RUNNING, deadline_from=70.0)


def test_a_batch_is_added_to_the_split_and_to_the_counts() -> None:
    running = replace(FULL, state=RolloutState.RUNNING, waiting={}, labels=6)
    batch = EvidenceBatch(errors=((1, 29), (2, 98)))
    found = add_batch(running, batch, (30, 100), sticky=False)
    assert found.ratio == ratio_mismatch(running.ratio, 30, 100, 0.25)
    assert (found.requests, found.labels, found.waiting) == (85, 6, {})
    assert found.guards[0] == observe(ERRORS, running.guards[0], batch, 1.0)
    assert add_batch(running, batch, (30, 100), sticky=True).ratio == running.ratio
    for weightless in (replace(running, step=-1), replace(running, state=RolloutState.PROMOTED)):
        assert add_batch(weightless, batch, (30, 100), sticky=False).ratio == running.ratio


def test_the_requests_and_seconds_that_are_needed() -> None:
    quick = GuardState(health=Evidence((0.0, 10.0), (0.0, 10.0), 1.0, 1.0))
    slow = GuardState(health=Evidence((0.0, 100.0), (0.0, 100.0), 1.0, 1.0))
    rollout = replace(
        FULL, spec=replace(SPEC, guards=(ERRORS, ERRORS, ERRORS)), guards=(quick, slow, GuardState()), requests=50
    )
    needed = math.ceil(100 * (math.log(20) - 1))
    assert requests_needed(rollout) == needed
    assert requests_needed(replace(rollout, guards=(GuardState(),) * 3)) is None
    assert seconds_needed(rollout, 30.0) == pytest.approx(needed / (50 / 10.0))
    assert seconds_needed(rollout, 20.5) == pytest.approx(needed / (50 / 0.5))
    assert seconds_needed(replace(rollout, requests=1), 30.0) == pytest.approx(needed * 10.0)
    for unknown in (
        replace(rollout, requests=0),
        replace(rollout, step_at=30.0),
        replace(rollout, guards=(GuardState(),) * 3),
    ):
        assert seconds_needed(unknown, 30.0) is None


def lines(rollout: Rollout, now: float = 40.0) -> list[str]:
    return describe_progress(rollout, now)


QUERY = replace(
    start_rollout(replace(SPEC, guards=(GuardSpec("promql", query="up", least=1.0),)), 0.0), in_place_stage=1
)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (GuardState(), "promql:up: no answer yet"),
        (GuardState(streak=1, value=1.0), "promql:up: within its bounds 1 of 3 times in a row"),
        (GuardState(streak=-1, value=0.0), "promql:up: out of its bounds 1 of 3 times in a row"),
        (GuardState(streak=0, value=0.0), "promql:up: out of its bounds 0 of 3 times in a row"),
        (GuardState(streak=7, value=1.0), "promql:up: within its bounds 3 of 3 times in a row"),
        (GuardState(streak=-3, value=0.0), "promql:up: harm"),
    ],
)
def test_what_is_said_of_a_query(state: GuardState, said: str) -> None:
    assert lines(replace(QUERY, guards=(state,)))[1] == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"losses": 2}, "workers that ended with its calls in hand: 2; at 3 it is rolled back"),
        ({"spec": {"deadline_s": 60.0}}, "without enough evidence it is paused in 20 s"),
        ({"spec": {"deadline_s": 60.0, "on_inconclusive": "abort"}}, "without enough evidence it is given up in 20 s"),
        ({"spec": {"deadline_s": 10.0}}, "without enough evidence it is paused in 0 s"),
        ({"spec": {"deadline_s": 60.0}, "deadline_from": 30.0}, "without enough evidence it is paused in 50 s"),
        ({"spec": {"deadline_s": 0.0}}, "harm in errors or latency rolls it back at once"),
        (
            {"spec": {"deadline_s": 60.0}, "state": RolloutState.PAUSED},
            "harm in errors or latency rolls it back at once",
        ),
    ],
)
def test_what_could_stop_a_rollout(changes: dict[str, Any], said: str) -> None:
    spec = replace(SPEC, **changes.get("spec", {}))
    others = {name: value for name, value in changes.items() if name != "spec"}  # the cases stay as they are: mutmut
    assert lines(replace(start_rollout(spec, 0.0), **others))[-1] == said  # runs a test several times in one process


@pytest.mark.parametrize(
    ("log_e", "said"),
    [
        (math.log(5), "signs of harm, 30 % of the evidence that rolls it back"),
        (math.log(5) - 1e-6, "no sign of harm, too early to say how many more canary requests it needs"),
    ],
)
def test_signs_of_harm_begin_at_a_fifth(log_e: float, said: str) -> None:
    state = GuardState(Evidence(log_e=log_e))
    assert lines(replace(start_rollout(SPEC, 0.0), guards=(state, GuardState())))[1] == f"errors: {said}"


@pytest.mark.parametrize(("count", "said"), [(100, 100), (104, 100), (106, 110), (999, 1000), (1049, 1000), (10, 10)])
def test_counts_have_two_digits(count: int, said: int) -> None:
    assert round_count(count) == said


@pytest.mark.parametrize("policy", ["hold", "abort"])
def test_at_its_deadline_a_rollout_says_what_is_missing(policy: str) -> None:
    spec = replace(SPEC, deadline_s=60.0, on_inconclusive=policy)
    rollout = start_rollout(spec, 10.0)
    assert decide(RolloutSnapshot(rollout, 69.9)) is None
    nothing = decide(RolloutSnapshot(rollout, 70.0))
    assert nothing is not None
    assert nothing.kind is (RolloutActionKind.GIVE_UP if policy == "abort" else RolloutActionKind.PAUSE)
    assert nothing.reason == "not enough evidence at the deadline"
    some = GuardState(health=Evidence((0.0, 100.0), (0.0, 100.0), 1.0, 1.0))
    known = decide(RolloutSnapshot(replace(rollout, guards=(some, GuardState())), 70.0))
    assert known is not None
    missing = math.ceil(100 * (math.log(20) - 1))
    assert known.reason == f"not enough evidence at the deadline; about {missing} more canary requests are needed"


@pytest.mark.parametrize(
    ("weight", "least"), [(500, 60), (5000, 6), (9000, 30), (1, 30_000), (9999, 30_000), (0, 0), (10_000, 0)]
)
def test_a_stratum_expects_three_requests_of_each_version(weight: int, least: int) -> None:
    assert find_stratum_size(weight) == least


def test_counts_wait_until_there_are_enough() -> None:
    batch = EvidenceBatch(errors=((1, 2), (20, 36)), latency=((3.0, 0.0), (50.0, 7.0)), copies=2)
    closed, waiting = pool_counts({"errors": ((0, 1), (0, 0)), "runs": ((1.0,), (2.0,))}, batch, 500)
    assert (closed.errors, closed.latency, closed.runs, closed.copies) == (
        ([1, 3], [20, 36]),
        ((3.0, 0.0), (50.0, 7.0)),
        ((), ()),
        2,
    )
    assert waiting == {"runs": ((1.0,), (2.0,))}
    fewer, waiting = pool_counts({}, replace(batch, errors=((1, 2), (20, 36))), 500)
    assert fewer.errors == EvidenceBatch().errors
    assert set(waiting) == {"errors"}


def test_objectives_are_limits_of_their_own() -> None:
    found = with_objectives(SPEC, {"latency_p99_ms": 50.0})
    assert found.guards == (*SPEC.guards, GuardSpec("latency_p99", 50.0))


@pytest.mark.parametrize(("step", "exposure"), [(-1, 0.05), (0, 0.25), (1, 1.0), (2, 1.0)])
def test_the_exposure_after_a_step(step: int, exposure: float) -> None:
    assert SPEC.exposure_after(step) == exposure
    shorter = replace(SPEC, steps=(RolloutStep(500), RolloutStep(4000)))
    assert [shorter.exposure_after(at) for at in (0, 1)] == [0.4, 1.0]


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("min_step_seconds", 30 * 86_400, ""),
        ("min_step_seconds", 30 * 86_400 + 1, "'min_step_seconds' must be a number from 0 to 2592000"),
        ("alpha", 0.5, ""),
        ("alpha", 0.51, "'alpha' must be a number from 1e-09 to 0.5"),
        ("alpha", 0, "'alpha' must be a number from 1e-09 to 0.5"),
        ("deadline_seconds", 365 * 86_400, ""),
        ("deadline_seconds", -1, "'deadline_seconds' must be a number from 0 to 31536000"),
        ("shadow", 100, ""),
        ("shadow", 101, "'shadow' must be a number from 0 to 100"),
        ("shadow", True, "'shadow' must be a number from 0 to 100"),
        ("hold_back", 5000, ""),
        ("hold_back", 0, ""),
        ("hold_back", 5001, "'hold_back' must be a whole number from 0 to 5000"),
        ("hold_back", -1, "'hold_back' must be a whole number from 0 to 5000"),
        ("on_inconclusive", "wait", "'on_inconclusive' is 'hold' or 'abort'"),
        ("dry_run", 1, "'dry_run' must be true or false"),
        ("from", "no version!", "'from' must be a version"),
        ("from", "2", "version '2' already answers"),
        ("to", 2, "'to' must be a version"),
        ("speed", 2, "'speed' is not a field of a rollout"),
        ("guards", [], "'guards' must be a list of 1 to 16"),
        ("guards", ["errors"] * 17, "'guards' must be a list of 1 to 16"),
        ("guards", ["errors", "errors"], "'guards' must name each metric once"),
    ],
)
def test_the_limits_of_what_is_asked_for(name: str, value: Any, fault: str) -> None:
    document = {"to": "2", name: value}
    if not fault:
        assert parse_spec(document, "1") == parse_spec(encode_spec(parse_spec(document, "1")), None)
        return
    with pytest.raises(InvalidInput) as refused:
        parse_spec(document, "1")
    assert str(refused.value) == fault


def test_every_field_of_what_is_asked_for_comes_back() -> None:
    spec = RolloutSpec("2", "1", SPEC.steps, 5.0, 0.2, (LATENCY,), "abort", 7.0, 50.0, True, 100)
    assert parse_spec(json.loads(json.dumps(encode_spec(spec))), None) == spec
    nothing = dict.fromkeys(("min_step_seconds", "alpha", "deadline_seconds", "shadow", "steps", "guards"))
    assert parse_spec({"to": "2", **nothing}, "1") == RolloutSpec("2", "1")


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        ({"metric": "promql", "query": 7, "max": 1}, "guard 'promql': 'query' must be a PromQL expression"),
        ({"metric": "promql", "query": "x" * 2001, "max": 1}, "guard 'promql': 'query' must be a PromQL expression"),
        ({"metric": "promql", "query": "up"}, "guard 'promql': it must have 'query' and 'min' or 'max' or both"),
        ({"metric": "promql", "query": "up", "min": "1"}, "guard 'promql': 'min' and 'max' must be numbers"),
        ({"metric": "errors", "limit": 1}, "guard 'errors': 'max_increase' must be a number from 0.0001 to 1"),
        ({"metric": "errors", "objective": 2}, "guard 'errors': 'objective' must be a number from 0 to 1"),
        ({"metric": "latency", "max_ratio": 0.9}, "guard 'latency': 'max_ratio' must be a number from 1 to 100"),
    ],
)
def test_the_fault_of_a_guard_is_named(stated: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_guard(stated)
    assert str(refused.value) == fault


def test_guards_at_the_limits_of_their_fields() -> None:
    assert parse_guard({"metric": "promql", "query": "x", "min": 1}) == GuardSpec("promql", query="x", least=1.0)
    assert parse_guard({"metric": "promql", "query": "x" * 2000, "max": 1}).most == 1.0
    assert parse_guard({"metric": "errors", "objective": 1}) == GuardSpec("errors", objective=1.0)
    assert parse_guard({"metric": "latency", "max_ratio": 100}).limit == 100.0
    assert parse_guard("outputs") == GuardSpec("outputs", 0.1)
