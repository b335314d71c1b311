"""What a step of a rollout waits for beside the guards: requests that were seen, and the approval of a person."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.routing import POINTS

MOST_STEPS = 32
LEAST_REQUESTS = 30
"""Canary requests that have to be seen at each step, whatever is known already."""

MOST_REQUESTS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the canary's ``weight`` of 10 000, the canary requests that have to be seen at it, and whether a person
    has to approve that it is left."""

    weight: int
    min_requests: int = LEAST_REQUESTS
    approval: bool = False


def steps_in(stated: Any) -> tuple[Step, ...]:
    """The steps from their JSON form: each a weight, or a weight with its gates.

    Raises:
        InvalidInput: they are none, or their weights do not grow.
    """
    if not isinstance(stated, list) or not 0 < len(stated) <= MOST_STEPS:
        raise InvalidInput(f"'steps' is a list of 1 to {MOST_STEPS} weights")
    steps = tuple(map(_step_in, stated))
    if not all(one.weight < other.weight for one, other in pairwise(steps)):
        raise InvalidInput(f"'steps' are growing weights from 1 to {POINTS}")
    return steps


def _step_in(stated: Any) -> Step:
    if not isinstance(stated, dict):
        stated = {"weight": stated}
    if not {"weight"} <= set(stated) <= {"weight", "min_requests", "approval"}:
        raise InvalidInput("'steps': each is a weight, or has 'weight', 'min_requests' and 'approval'")
    weight, least, approval = (
        stated["weight"],
        stated.get("min_requests", LEAST_REQUESTS),
        stated.get("approval", False),
    )
    if type(weight) is not int or not 0 < weight <= POINTS:
        raise InvalidInput(f"'steps' are growing weights from 1 to {POINTS}")
    if type(least) is not int or not 0 <= least <= MOST_REQUESTS:
        raise InvalidInput(f"'steps': 'min_requests' is a whole number from 0 to {MOST_REQUESTS}")
    if not isinstance(approval, bool):
        raise InvalidInput("'steps': 'approval' is true or false")
    return Step(weight, max(least, LEAST_REQUESTS), approval)


def steps_out(steps: tuple[Step, ...]) -> list[Any]:
    """The steps' JSON form: plain weights where there is nothing else to say."""
    return [step.weight if step == Step(step.weight) else _step_out(step) for step in steps]


def _step_out(step: Step) -> dict[str, Any]:
    return {"weight": step.weight, "min_requests": step.min_requests, "approval": step.approval}
