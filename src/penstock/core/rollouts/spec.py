"""The specification of a rollout: versions, weights, guards and limits; parsed from JSON with every error."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.rollouts.gates import RolloutStep, describe_steps, parse_steps
from penstock.core.rollouts.guard_spec import COMPARED, MOST_GUARDS, GuardSpec, describe_guard, parse_guard
from penstock.core.routing import POINTS
from penstock.core.stated_numbers import number_fault
from penstock.core.versions import is_version

STEPS = tuple(map(RolloutStep, (100, 500, 2500, 5000, 10000)))
MIN_STEP_S = 30.0
ALPHA = 0.01
HOLD_BACK = 500
"""Points of the traffic that stay with the control until promotion, so that the last step can still be compared."""

MOST_HOLD_BACK = 5000
GUARDS = (GuardSpec("errors"), GuardSpec("latency", 1.2))
"""The default guards of a rollout."""

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """What was asked for: the versions, the canary's weights step by step, and what has to hold on the way.

    ``shadow`` > 0 mirrors that share (per cent) of the control's requests to the canary before the first step.
    ``deadline_s`` 0 is none. ``hold_back`` points stay with the control until promotion.
    """

    to: str
    control: str
    steps: tuple[RolloutStep, ...] = STEPS
    min_step_s: float = MIN_STEP_S
    alpha: float = ALPHA
    guards: tuple[GuardSpec, ...] = GUARDS
    on_inconclusive: str = "hold"
    deadline_s: float = 0.0
    shadow: float = 0.0
    dry_run: bool = False
    hold_back: int = HOLD_BACK

    def weight_at(self, step: int) -> int:
        """Return the canary's weight at a step, of 10 000: the stated one, less the hold-back for the control."""
        return min(self.steps[step].weight, POINTS - self.hold_back)

    def left_alone(self) -> list[str]:
        """Return the guards that cannot pass at the last step, because it leaves the control no traffic."""
        if self.weight_at(len(self.steps) - 1) < POINTS:
            return []
        return [guard.name for guard in self.guards if guard.metric in COMPARED]

    def exposure_after(self, step: int) -> float:
        """Return the canary's share of the traffic if it passes at a step."""
        return self.steps[step + 1].weight / POINTS if step + 1 < len(self.steps) else 1.0


_KNOWN = {
    "to",
    "from",
    "steps",
    "min_step_seconds",
    "alpha",
    "guards",
    "on_inconclusive",
    "deadline_seconds",
    "shadow",
    "dry_run",
    "hold_back",
    "reason",
}


def parse_spec(document: Document, control: str | None) -> RolloutSpec:
    """Parse the specification from an operator; ``control`` is the version that answers now, the default of 'from'.

    Raises:
        InvalidInput: with every fault of the document.
    """
    faults = [f"'{name}' is not a field of a rollout" for name in sorted(set(document) - _KNOWN)]
    to, source = document.get("to"), document.get("from") or control
    if not isinstance(to, str) or not is_version(to):
        faults.append("'to' must be a version")
    if not isinstance(source, str) or not is_version(source):
        faults.append("'from' must be a version")
    elif source == to:
        faults.append(f"version '{to}' already answers")
    steps = STEPS if document.get("steps") is None else _parse_steps(document["steps"], faults)
    min_step_s = _parse_number(document, "min_step_seconds", MIN_STEP_S, 0, 30 * 86_400, faults)
    alpha = _parse_number(document, "alpha", ALPHA, 1e-9, 0.5, faults)
    deadline_s = _parse_number(document, "deadline_seconds", 0.0, 0, 365 * 86_400, faults)
    guards = _parse_guards(document.get("guards"), faults)
    usual = 100.0 if any(guard.metric == "disagreement" for guard in guards) else 0.0
    shadow = _parse_number(document, "shadow", usual, 0, 100, faults)
    if usual and not shadow:
        faults.append("'shadow': the guard 'disagreement' needs mirrored requests")
    hold_back = document.get("hold_back", HOLD_BACK)
    if fault := number_fault("hold_back", hold_back, 0, MOST_HOLD_BACK, whole=True):
        faults.append(fault)
    policy, dry_run = document.get("on_inconclusive", "hold"), document.get("dry_run", False)
    if policy not in ("hold", "abort"):
        faults.append("'on_inconclusive' is 'hold' or 'abort'")
    if not isinstance(dry_run, bool):
        faults.append("'dry_run' must be true or false")
    if faults:
        raise InvalidInput("; ".join(faults))
    return RolloutSpec(
        str(to),
        str(source),
        steps,
        min_step_s,
        alpha,
        guards,
        str(policy),
        deadline_s,
        shadow,
        bool(dry_run),
        hold_back,
    )


def with_objectives(spec: RolloutSpec, slo: Mapping[str, float]) -> RolloutSpec:
    """What was asked for, and besides the limits that the model's service-level objectives set: absolute ones, and that
    of the ``errors`` guard where none was stated.

    ``slo`` is the policy's: ``error_ratio`` (0 to 1) and ``latency_p99_ms``. A guard that the rollout states is not
    changed.
    """
    stated = {guard.metric for guard in spec.guards}
    limits = {"error_ratio": slo.get("error_ratio"), "latency_p99": slo.get("latency_p99_ms")}
    added = [GuardSpec(metric, limit) for metric, limit in limits.items() if limit and metric not in stated]
    objective = slo.get("error_ratio", 0.0)
    guards = [replace(guard, objective=objective) if _is_default_errors(guard) else guard for guard in spec.guards]
    return replace(spec, guards=(*guards, *added))


def _is_default_errors(guard: GuardSpec) -> bool:
    return guard.metric == "errors" and not guard.limit


def _parse_steps(stated: Any, faults: list[str]) -> tuple[RolloutStep, ...]:
    try:
        return parse_steps(stated)
    except InvalidInput as fault:
        faults.append(str(fault))
        return ()


def _parse_number(document: Document, name: str, usual: float, least: float, most: float, faults: list[str]) -> float:
    value = document.get(name, usual)
    if value is None:
        value = usual
    if fault := number_fault(name, value, least, most):
        faults.append(fault)
        return usual
    return float(value)


def _parse_guards(stated: Any, faults: list[str]) -> tuple[GuardSpec, ...]:
    if stated is None:
        return GUARDS
    if not isinstance(stated, list) or not 0 < len(stated) <= MOST_GUARDS:
        faults.append(f"'guards' must be a list of 1 to {MOST_GUARDS}")
        return ()
    guards = []
    for item in stated:
        try:
            guards.append(parse_guard(item))
        except InvalidInput as fault:
            faults.append(str(fault))
    if len({guard.name for guard in guards}) < len(guards):
        faults.append("'guards' must name each metric once")
    return tuple(guards)


def encode_spec(spec: RolloutSpec) -> dict[str, Any]:
    """Encode the specification."""
    return {
        "to": spec.to,
        "from": spec.control,
        "steps": describe_steps(spec.steps),
        "min_step_seconds": spec.min_step_s,
        "alpha": spec.alpha,
        "guards": [describe_guard(guard) for guard in spec.guards],
        "on_inconclusive": spec.on_inconclusive,
        "deadline_seconds": spec.deadline_s or None,
        "shadow": spec.shadow,
        "dry_run": spec.dry_run,
        "hold_back": spec.hold_back,
    }
