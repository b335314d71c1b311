"""The evidence of a rollout's guards over time: a bounded series that gets coarser as the rollout grows older."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.rollouts.guard_evidence import harm_now
from penstock.core.rollouts.rollout import Rollout

MOST_POINTS = 120
"""Points at which every second one is dropped and the interval doubles."""

FIRST_INTERVAL_S = 1.0

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EvidencePoint:
    """The evidence at one time (seconds since the epoch): for each guard in order, the log e-value against the canary
    and the one for it."""

    at: float
    step: int
    weight: int
    evidence: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class EvidenceHistory:
    """Points in the order of time, ``interval_s`` apart or more, except where a step begins."""

    points: tuple[EvidencePoint, ...] = ()
    interval_s: float = FIRST_INTERVAL_S


def record_evidence(history: EvidenceHistory, rollout: Rollout, now: float) -> EvidenceHistory:
    """Return the history with the evidence of this moment, if the last point is of another step or old enough."""
    last = history.points[-1] if history.points else None
    if last is not None and last.step == rollout.step and 0 <= now - last.at < history.interval_s:
        return history
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    evidence = tuple((round(harm_now(guard, state), 3), round(state.passed, 3)) for guard, state in pairs)
    grown = (*history.points, EvidencePoint(round(now, 1), rollout.step, rollout.weight, evidence))
    if len(grown) <= MOST_POINTS:
        return replace(history, points=grown)
    return EvidenceHistory(_thin(grown), history.interval_s * 2)


def _thin(points: tuple[EvidencePoint, ...]) -> tuple[EvidencePoint, ...]:
    """Return every second point, and the first and the last."""
    return tuple(point for index, point in enumerate(points) if not index % 2 or index == len(points) - 1)


def history_document(history: EvidenceHistory, rollout: Rollout) -> dict[str, Any]:
    """Return the history for the admin API: columns of equal length, and those of each guard by its name."""
    points = history.points
    return {
        "at": [point.at for point in points],
        "step": [point.step for point in points],
        "weight": [point.weight for point in points],
        "guards": {
            guard.name: {
                "log_e": [point.evidence[index][0] for point in points],
                "log_e_pass": [point.evidence[index][1] for point in points],
            }
            for index, guard in enumerate(rollout.spec.guards)
        },
    }


def encode_history(history: EvidenceHistory) -> dict[str, Any]:
    """Encode the history for the store."""
    points = [[point.at, point.step, point.weight, [list(pair) for pair in point.evidence]] for point in history.points]
    return {"interval_s": history.interval_s, "points": points}


def decode_history(values: Document) -> EvidenceHistory:
    """Decode the history from the store; an older gateway's rollout has none."""
    points = tuple(
        EvidencePoint(at, step, weight, tuple((harm, health) for harm, health in evidence))
        for at, step, weight, evidence in values.get("points", ())
    )
    return EvidenceHistory(points, values.get("interval_s", FIRST_INTERVAL_S))
