"""What a rollout will need: estimates by the production guards, and everything that nobody can know in advance."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS
from penstock.core.rollouts import forecast
from penstock.core.rollouts.forecast import ControlCounts, fine_buckets, forecast_document, forecast_steps
from penstock.core.rollouts.gates import LEAST_REQUESTS, QueryGate, RolloutStep, WebhookGate
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.spec import RolloutSpec

ERRORS = GuardSpec("errors", 0.02)
SPEC = RolloutSpec(
    "2", "1", steps=(RolloutStep(1000), RolloutStep(5000), RolloutStep(10_000)), min_step_s=10.0, guards=(ERRORS,)
)
LATENCY = [0] * 40 + [300, 900, 300] + [0] * (len(FINE_EDGES_NS) + 1 - 43)
SEEN = ControlCounts((5, 1495), latency=LATENCY, requests_per_second=100.0)


def also(**changes: Any) -> list[tuple[str, ...]]:
    return [step.also for step in forecast_steps(replace(SPEC, **changes), SEEN)]


def test_every_step_has_requests_and_time_at_this_rate() -> None:
    steps = forecast_steps(SPEC, SEEN)
    assert [(step.step, step.weight) for step in steps] == [(0, 1000), (1, 5000), (2, 9500)]
    for step in steps:
        assert step.requests is not None
        assert LEAST_REQUESTS <= step.requests < 5_000
        assert step.seconds == max(10.0, step.requests / (100.0 * step.weight / 10_000))
        assert step.also == ()


def test_a_tighter_limit_needs_more_requests() -> None:
    needed = [
        sum(step.requests or 0 for step in forecast_steps(replace(SPEC, guards=(GuardSpec("errors", limit),)), SEEN))
        for limit in (0.005, 0.02, 0.1)
    ]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] > 3 * needed[2]


def test_the_default_guards_and_steps_are_forecast_the_same_each_time() -> None:
    spec = RolloutSpec("2", "1")
    steps = forecast_steps(spec, SEEN)
    assert all(step.requests for step in steps)
    assert forecast_steps(spec, SEEN) == steps


@pytest.mark.parametrize(
    ("control", "requests", "seconds"),
    [
        (ControlCounts(), None, None),
        (ControlCounts((0, 50), requests_per_second=10.0), None, None),
        (replace(SEEN, requests_per_second=0.0), True, None),
    ],
)
def test_what_nobody_can_know(control: ControlCounts, requests: bool | None, seconds: float | None) -> None:
    step = forecast_steps(SPEC, control)[0]
    assert (step.requests and True) == requests
    assert step.seconds == seconds


def test_what_requests_do_not_decide_is_listed_beside_them() -> None:
    gates = RolloutStep(
        10_000, approval=True, min_labels=50, webhook=WebhookGate("hook"), query=QueryGate("up", ">=", 1.0)
    )
    [texts] = also(steps=(gates,))
    assert texts == (
        "50 labels of the canary's answers",
        "webhook 'hook' to answer 200",
        "query 'up' to be >= 1",
        "a person's approval",
    )
    asked = (
        ERRORS,
        GuardSpec("performance", 0.05),
        GuardSpec("promql", query="up", least=1.0),
        GuardSpec("outputs", 0.1),
    )
    [texts, *_] = also(guards=asked)
    assert texts == ("guard 'performance' to pass", "guard 'promql:up' to pass", "guard 'outputs' to pass")
    assert also(guards=(ERRORS, GuardSpec("error_ratio", 0.1), GuardSpec("latency_p99", 100.0)))[0] == ()


def test_a_mirrored_stage_comes_first() -> None:
    mirrored = replace(SPEC, shadow=50.0)
    first, *rest = forecast_steps(mirrored, SEEN)
    assert (first.step, first.weight, first.requests, first.seconds, first.also) == (-1, 0, None, 10.0, ())
    assert len(rest) == 3
    first, *_ = forecast_steps(replace(mirrored, guards=(ERRORS, GuardSpec("disagreement", 0.02))), SEEN)
    assert (first.seconds, first.also) == (None, ("guard 'disagreement' to pass",))


def test_without_a_hold_back_a_person_promotes() -> None:
    *_, last = forecast_steps(replace(SPEC, hold_back=0), SEEN)
    assert (last.weight, last.requests) == (10_000, None)
    assert last.also == ("a person to promote it, because the hold-back is 0",)


def test_outputs_are_forecast_where_they_were_counted() -> None:
    watched = replace(SEEN, outputs=[500, 300, 200])
    steps = forecast_steps(replace(SPEC, guards=(GuardSpec("outputs", 0.1), GuardSpec("quality", 0.01))), watched)
    assert all(step.requests and not step.also for step in steps)


def test_coarse_times_are_spread_over_fine_ones() -> None:
    coarse = [0.0] * (len(LATENCY_EDGES_NS) + 1)
    assert fine_buckets(coarse) == fine_buckets([]) == []
    coarse[0], coarse[3], coarse[-1] = 1.0, 8.0, 2.0
    fine = fine_buckets(coarse)
    assert len(fine) == len(FINE_EDGES_NS) + 1
    assert sum(fine) == sum(coarse)
    assert (fine[0], fine[9:13], fine[-1]) == (1.0, [2.0] * 4, 2.0)
    edges = [LATENCY_EDGES_NS[bucket] for bucket in (0, 3)]
    assert [FINE_EDGES_NS[place] for place in (0, 12)] == edges  # the last fine bucket of each ends where it does


def test_an_estimate_stops_after_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "MOST_REQUESTS", 10)
    assert [step.requests for step in forecast_steps(replace(SPEC, guards=(GuardSpec("errors", 0.001),)), SEEN)] == [
        None,
        None,
        None,
    ]


def test_a_course_that_rolls_back_a_sound_canary_is_not_shown() -> None:
    """An absolute limit that the control does not keep either fails every course."""
    steps = forecast_steps(
        replace(SPEC, guards=(ERRORS, GuardSpec("error_ratio", 0.0001))), replace(SEEN, errors=(500, 500))
    )
    assert [step.requests for step in steps] == [None, None, None]


@pytest.mark.parametrize(
    ("changes", "control", "last"),
    [
        ({}, SEEN, "if the version is as good as the other"),
        ({}, replace(SEEN, requests_per_second=0.0), "without traffic it stays at its first step"),
        ({}, ControlCounts(requests_per_second=5.0), "cannot be said in advance"),
        ({"steps": (RolloutStep(10_000, approval=True),)}, SEEN, "requests and time alone take"),
    ],
)
def test_it_is_summed_up_in_sentences(changes: dict[str, Any], control: ControlCounts, last: str) -> None:
    spec = replace(SPEC, **changes)
    document = forecast_document(spec, forecast_steps(spec, control), control.requests_per_second)
    assert last in document["sentences"][-1]
    assert (document["to"], document["from"]) == ("2", "1")
    assert set(document["steps"][0]) == {"step", "weight", "min_seconds", "requests", "seconds", "also"}


@pytest.mark.parametrize(
    ("min_step_s", "text"), [(10.0, "seconds"), (600.0, "30 minutes"), (7200.0, "6 hours"), (86_400.0, "3 days")]
)
def test_times_are_in_the_unit_that_people_use(min_step_s: float, text: str) -> None:
    spec = replace(SPEC, min_step_s=min_step_s, dry_run=True)
    document = forecast_document(spec, forecast_steps(spec, replace(SEEN, requests_per_second=1e6)), 1e6)
    assert text in document["sentences"][-1]
    assert document["sentences"][0] == "this is a dry run: it changes no traffic"
    assert document["total_seconds"] == 3 * min_step_s
