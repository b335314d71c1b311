"""A rollout as JSON values: as people are shown it, and as it is stored."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from penstock.core.rollouts.gates import GateAnswer
from penstock.core.rollouts.guards import evidence_out, state_in, state_out
from penstock.core.rollouts.rollout import Rollout, State, more_needed, sound
from penstock.core.rollouts.spec import spec_in, spec_out
from penstock.core.statistics.evidence import evidence_in

Document = Mapping[str, Any]


def shown(rollout: Rollout) -> dict[str, Any]:
    """What people are shown."""
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    return {
        **spec_out(rollout.spec),
        "state": rollout.state.value,
        "step": rollout.step,
        "weight": rollout.weight,
        "in_place": rollout.in_place,
        "worker_losses": rollout.losses,
        "evidence": {guard.name: evidence_out(guard, state, rollout.guard_alpha) for guard, state in pairs},
        "sample_ratio": {
            "verdict": "sound" if sound(rollout) else "mismatch",
            "log_e": round(rollout.ratio.log_e, 4),
            "n_canary": rollout.ratio.n_canary,
            "n_control": rollout.ratio.n_control,
        },
        "needed": more_needed(rollout),
        "reason": rollout.reason,
    }


def rollout_out(rollout: Rollout) -> dict[str, Any]:
    """Everything that has to be kept."""
    return {
        "spec": spec_out(rollout.spec),
        "state": rollout.state.value,
        "step": rollout.step,
        "stage": rollout.stage,
        "began_at": rollout.began_at,
        "step_at": rollout.step_at,
        "guards": [state_out(state) for state in rollout.guards],
        "ratio": asdict(rollout.ratio),
        "requests": rollout.requests,
        "reason": rollout.reason,
        "unready_since": rollout.unready_since,
        "deadline_from": rollout.deadline_from,
        "approved_step": rollout.approved_step,
        "labels": rollout.labels,
        "answers": [asdict(answer) for answer in rollout.answers],
        "in_place_stage": rollout.in_place_stage,
        "losses": rollout.losses,
    }


def rollout_in(values: Document) -> Rollout:
    """A rollout from what was kept."""
    return Rollout(
        spec_in(values["spec"], None),
        State(values["state"]),
        values["step"],
        values["stage"],
        values["began_at"],
        values["step_at"],
        tuple(state_in(state) for state in values["guards"]),
        evidence_in(values["ratio"]),
        values["requests"],
        values["reason"],
        values["unready_since"],
        values.get("deadline_from", values["began_at"]),
        values.get("approved_step"),
        values.get("labels", 0),
        tuple(GateAnswer(**answer) for answer in values.get("answers", ())),
        values.get("in_place_stage", 0),
        values.get("losses", 0),
    )
