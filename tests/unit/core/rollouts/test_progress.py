"""A rollout in sentences: a table of how it stands and what is said, and that the numbers come true."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.core.rollouts.gates import RolloutStep
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.guards import GuardVerdict
from penstock.core.rollouts.progress import describe_progress, round_count
from penstock.core.rollouts.rollout import Rollout, RolloutState, add_batch, guard_verdicts, start_rollout
from penstock.core.rollouts.spec import RolloutSpec
from penstock.core.statistics.evidence import Evidence

ERRORS = GuardSpec("errors", 0.02)
STEPS = (RolloutStep(500), RolloutStep(2500), RolloutStep(10_000, approval=True))
SPEC = RolloutSpec("2", "1", steps=STEPS, min_step_s=10.0, guards=(ERRORS,))
READY = replace(start_rollout(SPEC, 0.0), requests=100, in_place_stage=1)

PASSED = GuardState(health=Evidence(peak=10.0))
HALF = GuardState(health=Evidence((1.0, 299.0), (1.0, 2000.0), math.log(20) / 2, math.log(20) / 2))
SUSPECT = GuardState(harm=Evidence((9.0, 91.0), (1.0, 99.0), 2.0, 2.0), peak=2.0)
FAILED = GuardState(peak=10.0)
HARM = "harm in errors rolls it back at once"
ALL = "every guard to pass"


def at(*guards: GuardState, **changes: Any) -> Rollout:
    return replace(READY, guards=guards or (PASSED,), **changes)


BOTH = replace(SPEC, guards=(GuardSpec("disagreement", 0.02), ERRORS), shadow=50.0)
LIMITS = replace(SPEC, guards=(ERRORS, GuardSpec("error_ratio", 0.01)))
ASKED = replace(SPEC, guards=(GuardSpec("promql", query="up", least=1.0),))


@pytest.mark.parametrize(
    ("rollout", "now", "said"),
    [
        (
            at(GuardState(), requests=0),
            4.0,
            [
                "at 5 %",
                "errors: no sign of harm, too early to say how many more canary requests it needs",
                f"next 25 %, waits for 6 s more at this step, 30 more canary requests at this step, {ALL}",
                HARM,
            ],
        ),
        (
            at(HALF, step=1),
            20.0,
            [
                "at 25 %",
                "errors: no sign of harm, needs about 300 more canary requests",
                f"next 95 %, waits for {ALL}",
                HARM,
            ],
        ),
        (at(), 9.7, ["at 5 %", "errors: passes", "next 25 %, waits for 1 s more at this step", HARM]),
        (at(), 20.0, ["at 5 %", "errors: passes", "next 25 %, waits for nothing", HARM]),
        (
            at(step=2),
            20.0,
            ["at 95 %", "errors: passes", "next promotion, waits for a person's approval", HARM],
        ),
        (
            at(stage=2),
            20.0,
            [
                "5 % begins as soon as every worker has the weights",
                "errors: passes",
                "next 25 %, waits for nothing",
                HARM,
            ],
        ),
        (
            at(SUSPECT),
            20.0,
            [
                "at 5 %",
                "errors: signs of harm, 43 % of the evidence that rolls it back",
                f"next 25 %, waits for {ALL}",
                HARM,
            ],
        ),
        (at(FAILED), 20.0, ["at 5 %", "errors: harm", f"next 25 %, waits for {ALL}", HARM]),
        (
            at(state=RolloutState.PAUSED, reason="lunch"),
            20.0,
            [
                "paused at 5 % (lunch)",
                "errors: passes",
                "next 25 %, waits for a person to resume it",
                HARM,
            ],
        ),
        (
            at(spec=replace(SPEC, deadline_s=60.0)),
            20.0,
            [
                "at 5 %",
                "errors: passes",
                "next 25 %, waits for nothing",
                HARM,
                "without enough evidence it is paused in 40 s",
            ],
        ),
        (
            at(GuardState(), PASSED, spec=BOTH, step=-1),
            20.0,
            [
                "mirroring 50 % of the requests to version '2'",
                "disagreement: no sign of harm, too early to say how many more mirrored requests it needs",
                f"next 5 %, waits for {ALL}",
                "harm in disagreement or errors rolls it back at once",
            ],
        ),
        (
            at(PASSED, GuardState(), spec=LIMITS),
            20.0,
            [
                "at 5 %",
                "errors: passes",
                "error_ratio: no sign of harm",
                "next 25 %, waits for nothing",
                "harm in errors or error_ratio rolls it back at once",
            ],
        ),
        (
            at(GuardState(streak=2, value=1.0), spec=ASKED),
            20.0,
            [
                "at 5 %",
                "promql:up: within its bounds 2 of 3 times in a row",
                f"next 25 %, waits for {ALL}",
                "harm in promql:up rolls it back at once",
            ],
        ),
        (at(state=RolloutState.PROMOTED, reason="every guard passes"), 20.0, ["promoted: every guard passes"]),
        (at(state=RolloutState.ROLLED_BACK, reason="worse: errors"), 20.0, ["rolled_back: worse: errors"]),
    ],
)
def test_what_is_said(rollout: Rollout, now: float, said: list[str]) -> None:
    assert describe_progress(rollout, now) == said


@pytest.mark.parametrize(("count", "said"), [(0, 0), (7, 7), (99, 99), (314, 310), (1996, 2000), (12_345, 12_000)])
def test_counts_claim_no_more_than_is_known(count: int, said: int) -> None:
    assert round_count(count) == said


def test_the_requests_that_are_said_to_be_needed_are_about_those_it_takes() -> None:
    """Said when half of the evidence is there, by an equal canary at half of the traffic."""
    random = np.random.default_rng(11)
    ratios = []
    for _ in range(20):
        rollout, said = replace(READY, guards=(GuardState(),), step=1, requests=0), (0, 0)
        for _ in range(100):
            a, b = random.binomial(40, 0.005, 2).tolist()
            rollout = add_batch(rollout, EvidenceBatch(errors=((a, 40 - a), (b, 40 - b))), (40, 40), sticky=False)
            if guard_verdicts(rollout)["errors"] is GuardVerdict.PASS:
                break
            line = describe_progress(rollout, 99.0)[1]
            if not said[0] and rollout.guards[0].health.log_e > math.log(20) / 2 and "needs about" in line:
                said = (int(line.rpartition("about ")[2].split()[0]), rollout.requests)
        if said[0]:
            ratios.append((rollout.requests - said[1]) / said[0])
    assert len(ratios) >= 15
    assert 0.5 <= np.median(ratios) <= 2.0
