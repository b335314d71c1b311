"""The gates of a step of a rollout beside its guards: time, requests, labels, approval, a webhook, a query."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.rollouts.guard_spec import MOST_QUERY
from penstock.core.routing import POINTS
from penstock.core.sinks import NAME
from penstock.core.stated_numbers import number_fault

MOST_STEPS = 32
LEAST_REQUESTS = 30
"""Minimum canary requests at each step, whatever is known already."""

MOST_REQUESTS = 1_000_000_000
WEBHOOK_S = 10.0
"""Default timeout of a webhook."""

MOST_WEBHOOK_S = 60.0
OK = 200

COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class WebhookGate:
    """A webhook that must answer 200: the name of a webhook among the policy's sinks, and its timeout."""

    sink: str
    timeout_s: float = WEBHOOK_S

    @property
    def name(self) -> str:
        """Return its name in a list of gates."""
        return f"webhook '{self.sink}'"

    @property
    def condition(self) -> str:
        """Return the condition to pass, as text after its name."""
        return "to answer 200"


@dataclass(frozen=True, slots=True)
class QueryGate:
    """A PromQL expression whose value must compare with ``limit`` by ``operator`` (one of ``COMPARE``)."""

    query: str
    operator: str
    limit: float

    @property
    def name(self) -> str:
        """Return its name in a list of gates."""
        return f"query '{self.query}'"

    @property
    def condition(self) -> str:
        """Return the condition to pass, as text after its name."""
        return f"to be {self.operator} {self.limit:g}"


Gate = WebhookGate | QueryGate


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """The last answer of a gate: whether it lets the rollout step forward, and its text."""

    gate: str
    passed: bool
    said: str


def judge_webhook(gate: WebhookGate, status: int | None, fault: str = "") -> GateAnswer:
    """Return the answer of a webhook that returned a status, or none because of an error."""
    said = fault or f"it answered {status}"
    return GateAnswer(gate.name, status == OK and not fault, said)


def judge_query(gate: QueryGate, value: float | None, fault: str = "") -> GateAnswer:
    """Return the answer of a query that returned a value, none, or none because of an error: without a value it does
    not pass.
    """
    if fault or value is None or math.isnan(value):
        return GateAnswer(gate.name, False, fault or "it gives no value")
    return GateAnswer(gate.name, COMPARE[gate.operator](value, gate.limit), f"it is {value:g}")


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """One step: the canary's ``weight`` of 10 000, the minimum canary requests and labels, whether a person must
    approve the next step, and its outside gates.
    """

    weight: int
    min_requests: int = LEAST_REQUESTS
    approval: bool = False
    min_labels: int = 0
    webhook: WebhookGate | None = None
    query: QueryGate | None = None

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Return the outside gates."""
        return tuple(gate for gate in (self.webhook, self.query) if gate is not None)


def parse_steps(stated: Any) -> tuple[RolloutStep, ...]:
    """Parse the steps from their JSON form: each is a weight, or a weight with its gates.

    Raises:
        InvalidInput: they are none, or their weights do not grow.
    """
    if not isinstance(stated, list) or not 0 < len(stated) <= MOST_STEPS:
        raise InvalidInput(f"'steps' must be a list of 1 to {MOST_STEPS} weights")
    steps = tuple(map(_parse_step, stated))
    if not all(one.weight < other.weight for one, other in pairwise(steps)):
        raise InvalidInput(f"'steps' must be growing weights from 1 to {POINTS}")
    return steps


_STEP_FIELDS = ("weight", "min_requests", "approval", "min_labels", "webhook", "query")


def _parse_step(stated: Any) -> RolloutStep:
    if not isinstance(stated, dict):
        stated = {"weight": stated}
    if not {"weight"} <= set(stated) <= set(_STEP_FIELDS):
        raise InvalidInput(f"'steps': each must be a weight or have {', '.join(_STEP_FIELDS)}")
    weight, approval = stated["weight"], stated.get("approval", False)
    if type(weight) is not int or not 0 < weight <= POINTS:
        raise InvalidInput(f"'steps' must be growing weights from 1 to {POINTS}")
    if not isinstance(approval, bool):
        raise InvalidInput("'steps': 'approval' must be true or false")
    return RolloutStep(
        weight,
        max(_count(stated, "min_requests", LEAST_REQUESTS), LEAST_REQUESTS),
        approval,
        _count(stated, "min_labels", 0),
        _parse_webhook(stated.get("webhook")),
        _parse_query(stated.get("query")),
    )


def _count(stated: Mapping[str, Any], word: str, usual: int) -> int:
    value = stated.get(word, usual)
    if fault := number_fault(word, value, 0, MOST_REQUESTS, whole=True):
        raise InvalidInput(f"'steps': {fault}")
    return int(value)


def _parse_webhook(stated: Any) -> WebhookGate | None:
    if stated is None:
        return None
    if isinstance(stated, str):
        stated = {"sink": stated}
    if not isinstance(stated, dict) or not {"sink"} <= set(stated) <= {"sink", "timeout_seconds"}:
        raise InvalidInput(
            "'steps': 'webhook' must be the name of a webhook among the policy's sinks, or an object with 'sink' "
            "and 'timeout_seconds'"
        )
    sink, timeout_s = stated["sink"], stated.get("timeout_seconds", WEBHOOK_S)
    if not isinstance(sink, str) or not NAME.fullmatch(sink):
        raise InvalidInput("'steps': 'webhook' names a sink of the policy, never an address")
    if type(timeout_s) not in (int, float) or not 0 < timeout_s <= MOST_WEBHOOK_S:
        raise InvalidInput(f"'steps': 'timeout_seconds' of a webhook must be above 0, and {MOST_WEBHOOK_S:g} at most")
    return WebhookGate(sink, float(timeout_s))


def _parse_query(stated: Any) -> QueryGate | None:
    if stated is None:
        return None
    if not isinstance(stated, dict) or set(stated) != {"query", "operator", "limit"}:
        raise InvalidInput("'steps': 'query' must have 'query', 'operator' and 'limit'")
    query, compare, limit = stated["query"], stated["operator"], stated["limit"]
    if not isinstance(query, str) or not 0 < len(query) <= MOST_QUERY:
        raise InvalidInput("'steps': the 'query' of a query must be a PromQL expression")
    if not isinstance(compare, str) or compare not in COMPARE:
        raise InvalidInput(f"'steps': the 'operator' of a query must be one of {', '.join(COMPARE)}")
    if type(limit) not in (int, float) or not math.isfinite(limit):
        raise InvalidInput("'steps': the 'limit' of a query must be a number")
    return QueryGate(query, compare, float(limit))


def describe_steps(steps: tuple[RolloutStep, ...]) -> list[Any]:
    """Return the steps' JSON form: plain weights where a step has nothing else."""
    return [step.weight if step == RolloutStep(step.weight) else _describe_step(step) for step in steps]


def _describe_step(step: RolloutStep) -> dict[str, Any]:
    out: dict[str, Any] = {"weight": step.weight, "min_requests": step.min_requests, "approval": step.approval}
    if step.min_labels:
        out["min_labels"] = step.min_labels
    if step.webhook is not None:
        out["webhook"] = {"sink": step.webhook.sink, "timeout_seconds": step.webhook.timeout_s}
    if step.query is not None:
        out["query"] = {"query": step.query.query, "operator": step.query.operator, "limit": step.query.limit}
    return out
