"""Encodes a rollout as JSON values: for the admin API, and for the store."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from penstock.core.rollouts.gates import GateAnswer
from penstock.core.rollouts.guard_evidence import GuardState
from penstock.core.rollouts.guard_spec import ABSOLUTE, GuardSpec
from penstock.core.rollouts.guards import decode_state, describe_evidence, encode_state
from penstock.core.rollouts.pooling import decode_waiting, encode_waiting, waiting_counts
from penstock.core.rollouts.rollout import Rollout, RolloutState, is_split_sound, requests_needed
from penstock.core.rollouts.spec import encode_spec, parse_spec
from penstock.core.statistics.evidence import decode_evidence, evidence_values

Document = Mapping[str, Any]


def rollout_document(rollout: Rollout) -> dict[str, Any]:
    """Return the rollout for the admin API."""
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    return {
        **encode_spec(rollout.spec),
        "state": rollout.state.value,
        "step": rollout.step,
        "weight": rollout.weight,
        "in_place": rollout.in_place,
        "worker_losses": rollout.losses,
        "evidence": {guard.name: _describe_evidence(rollout, guard, state) for guard, state in pairs},
        "sample_ratio": {
            "verdict": "sound" if is_split_sound(rollout) else "mismatch",
            "log_e": round(rollout.ratio.log_e, 4),
            "n_canary": rollout.ratio.n_canary,
            "n_control": rollout.ratio.n_control,
        },
        "needed": requests_needed(rollout),
        "reason": rollout.reason,
    }


def _describe_evidence(rollout: Rollout, guard: GuardSpec, state: GuardState) -> Document:
    """Return a guard's evidence; counts that wait for comparison are included."""
    document = describe_evidence(guard, state, rollout.guard_alpha)
    canary, control = waiting_counts(rollout.waiting.get(_COUNTS_OF.get(guard.metric, ""), ((), ())))
    if guard.metric in ABSOLUTE:
        control = 0
    return {**document, "n_canary": document["n_canary"] + canary, "n_control": document["n_control"] + control}


_COUNTS_OF = {
    "errors": "errors",
    "error_ratio": "errors",
    "latency": "latency",
    "latency_p99": "latency",
    "outputs": "outputs",
    "quality": "quality",
}
"""The counts of a batch that each guard compares."""


def encode_rollout(rollout: Rollout) -> dict[str, Any]:
    """Encode the rollout for the store."""
    return {
        "spec": encode_spec(rollout.spec),
        "state": rollout.state.value,
        "step": rollout.step,
        "stage": rollout.stage,
        "began_at": rollout.began_at,
        "step_at": rollout.step_at,
        "guards": [encode_state(state) for state in rollout.guards],
        "ratio": evidence_values(rollout.ratio),
        "requests": rollout.requests,
        "reason": rollout.reason,
        "unready_since": rollout.unready_since,
        "deadline_from": rollout.deadline_from,
        "approved_step": rollout.approved_step,
        "labels": rollout.labels,
        "answers": [asdict(answer) for answer in rollout.answers],
        "in_place_stage": rollout.in_place_stage,
        "losses": rollout.losses,
        "waiting": encode_waiting(rollout.waiting),
    }


def decode_rollout(values: Document) -> Rollout:
    """Decode a rollout from the store."""
    return Rollout(
        parse_spec(values["spec"], None),
        RolloutState(values["state"]),
        values["step"],
        values["stage"],
        values["began_at"],
        values["step_at"],
        tuple(decode_state(state) for state in values["guards"]),
        decode_evidence(values["ratio"]),
        values["requests"],
        values["reason"],
        values["unready_since"],
        values.get("deadline_from", values["began_at"]),
        values.get("approved_step"),
        values.get("labels", 0),
        tuple(GateAnswer(**answer) for answer in values.get("answers", ())),
        values.get("in_place_stage", 0),
        values.get("losses", 0),
        decode_waiting(values.get("waiting", {})),
    )
