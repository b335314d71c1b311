"""The evidence of a rollout over time: bounded, in order, with every step and the newest point."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.rollouts.evidence_history import (
    MOST_POINTS,
    EvidenceHistory,
    decode_history,
    encode_history,
    history_document,
    record_evidence,
)
from penstock.core.rollouts.guard_evidence import GuardState
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.rollout import Rollout, start_rollout
from penstock.core.rollouts.spec import RolloutSpec
from penstock.core.statistics.evidence import Evidence

SPEC = RolloutSpec("2", "1", guards=(GuardSpec("errors", 0.02), GuardSpec("latency", 1.2)))
START = start_rollout(SPEC, 0.0)


def harmed(log_e: float, passed: float = 0.0) -> Rollout:
    state = GuardState(harm=Evidence(log_e=log_e), health=Evidence(peak=passed))
    return replace(START, guards=(state, GuardState()))


def test_a_point_has_the_evidence_of_each_guard() -> None:
    history = record_evidence(EvidenceHistory(), harmed(1.23456, 2.0), 10.04)
    assert history_document(history, START) == {
        "at": [10.0],
        "step": [0],
        "weight": [100],
        "guards": {
            "errors": {"log_e": [1.235], "log_e_pass": [2.0]},
            "latency": {"log_e": [0.0], "log_e_pass": [0.0]},
        },
    }


@pytest.mark.parametrize(
    ("later", "rollout", "points"),
    [
        (0.5, START, 1),
        (1.0, START, 2),
        (0.1, replace(START, step=1), 2),  # a step begins
        (-5.0, START, 2),  # a clock that was set back
    ],
)
def test_a_point_is_added_after_the_interval_or_at_a_step(later: float, rollout: Rollout, points: int) -> None:
    history = record_evidence(EvidenceHistory(), START, 100.0)
    assert len(record_evidence(history, rollout, 100.0 + later).points) == points


@given(st.integers(1, 3_000), st.floats(0.3, 30.0))
def test_a_history_stays_bounded_and_keeps_the_first_and_the_newest(looks: int, every_s: float) -> None:
    history = EvidenceHistory()
    for look in range(min(looks, 600)):
        history = record_evidence(history, harmed(float(look)), look * every_s)
    times = [point.at for point in history.points]
    assert len(times) <= MOST_POINTS
    assert times == sorted(times)
    assert times[0] == 0.0
    assert times[-1] >= (min(looks, 600) - 1) * every_s - history.interval_s - every_s - 0.1


def test_a_history_is_stored() -> None:
    history = EvidenceHistory()
    for look in range(3 * MOST_POINTS):
        history = record_evidence(history, harmed(look / 7), float(look))
    assert history.interval_s > 1.0
    assert decode_history(encode_history(history)) == history
    assert decode_history({}) == EvidenceHistory()
