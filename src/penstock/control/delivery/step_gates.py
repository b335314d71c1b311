"""Queries the webhooks and expressions that rollouts wait for; the core decides by their answers."""

import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from penstock.control.delivery.questions import QUERIES, WEBHOOKS, GateQueries, QueryResult
from penstock.control.periodic import ProblemLog
from penstock.control.sinks import SinkContext, SinkFault
from penstock.control.sinks.webhook import ask_webhook
from penstock.core.rollouts.documents import rollout_document
from penstock.core.rollouts.gates import Gate, GateAnswer, WebhookGate, judge_query, judge_webhook
from penstock.core.rollouts.rollout import Rollout, RolloutState, guard_verdicts
from penstock.core.rollouts.waiting import waiting_inside
from penstock.core.sinks import SinkSpec
from penstock.registry.records import Document
from penstock.registry.stores.traffic import SOURCE, Trial, TrialEvent, event_id

log = logging.getLogger("penstock.control")

MARGIN_S = 1.0
"""Time beyond a webhook's own timeout, which ends the wait for it and gives the reason."""

QUERY_S = 10.0
"""Timeout of a query to Prometheus."""

GATE = "rollout.gate.v1"

Ask = Callable[[str], float | None]
"""Returns the current value of a PromQL expression; blocks, and raises ``NotReady`` without an answer."""


class Webhooks(Protocol):
    """The webhooks that a model's steps may query."""

    def has(self, model: str, sink: str) -> bool:
        """Whether a model's policy has a webhook with this name."""

    def ask(self, model: str, gate: WebhookGate, event: Document) -> float:
        """Return the status with which a webhook answers an event; blocks, and raises ``SinkFault`` without
        an answer.
        """


class PolicyWebhooks:
    """The webhooks among the sinks of policies; ``sinks_of`` returns those of a model."""

    def __init__(self, sinks_of: Callable[[str], Mapping[str, SinkSpec]], around: SinkContext) -> None:
        self._sinks_of = sinks_of
        self._around = around

    def has(self, model: str, sink: str) -> bool:
        """Whether a model's policy has a webhook with this name."""
        spec = self._sinks_of(model).get(sink)
        return spec is not None and spec.kind == "webhook"

    def ask(self, model: str, gate: WebhookGate, event: Document) -> float:
        """Return the status with which a webhook answers an event; blocks.

        Raises:
            SinkFault: it does not answer, or the policy has none of this name any more.
        """
        spec = self._sinks_of(model).get(gate.sink)
        if spec is None or spec.kind != "webhook":
            raise SinkFault("the policy has no webhook of this name")
        return ask_webhook(spec.values, event, self._around.of(spec), gate.timeout_s)


class StepGates:
    """The gates of one gateway's rollouts; ``ask`` queries Prometheus, None without one."""

    def __init__(self, ask: Ask | None, webhooks: Webhooks | None, questions: GateQueries) -> None:
        self._ask = ask
        self._webhooks = webhooks
        self._questions = questions
        self._problem_log = ProblemLog()

    def missing(self, model: str, gates: tuple[Gate, ...]) -> list[str]:
        """Return why gates could never pass."""
        return [reason for gate in gates if (reason := self._missing(model, gate))]

    def _missing(self, model: str, gate: Gate) -> str:
        if not isinstance(gate, WebhookGate):
            return "a step queries Prometheus, but none is configured; set prometheus.url" if self._ask is None else ""
        if self._webhooks is not None and self._webhooks.has(model, gate.sink):
            return ""
        return f"the policy of model '{model}' has no webhook '{gate.sink}' among its sinks"

    def values(self, trial: Trial, rollout: Rollout) -> dict[str, float]:
        """Return new answers to the queries of ``promql`` guards."""
        values = {}
        for query in [guard.query for guard in rollout.spec.guards if guard.query]:
            reply = self._query((trial.id, "guard", query), query)
            if reply is not None and reply.fault:
                self._problem_log.report((trial.id, query), f"rollout {trial.id}: {reply.fault}")
            elif reply is not None:
                self._problem_log.clear((trial.id, query))
                if reply.value is not None and math.isfinite(reply.value):
                    values[query] = reply.value
        return values

    def answers(self, trial: Trial, rollout: Rollout, now: float) -> tuple[GateAnswer, ...]:
        """Return the last answers of the gates of the present step; none is queried while the step waits for something
        else.
        """
        waits = not rollout.in_place or waiting_inside(rollout, guard_verdicts(rollout), now)
        if rollout.state is not RolloutState.RUNNING or rollout.step < 0 or waits:
            return ()
        gates = rollout.spec.steps[rollout.step].gates
        previous = {answer.gate: answer for answer in rollout.answers}
        answers = [self._evaluate(trial, rollout, gate, now) or previous.get(gate.name) for gate in gates]
        return tuple(answer for answer in answers if answer is not None)

    def _evaluate(self, trial: Trial, rollout: Rollout, gate: Gate, now: float) -> GateAnswer | None:
        key = (trial.id, str(rollout.stage), gate.name)
        if not isinstance(gate, WebhookGate):
            reply = self._query(key, gate.query)
            return None if reply is None else judge_query(gate, reply.value, reply.fault)
        if self._webhooks is None:
            return judge_webhook(gate, None, "no webhooks are available")
        question = partial(self._webhooks.ask, trial.model, gate, gate_event(trial, rollout, now))
        reply = self._questions.take_or_start(WEBHOOKS, key, question, gate.timeout_s + MARGIN_S)
        if reply is None:
            return None
        return judge_webhook(gate, None if reply.value is None else int(reply.value), reply.fault)

    def _query(self, key: tuple[str, ...], query: str) -> QueryResult | None:
        if self._ask is None:
            return QueryResult(None, "no Prometheus is configured")
        return self._questions.take_or_start(QUERIES, key, partial(self._ask, query), QUERY_S)


def gate_event(trial: Trial, rollout: Rollout, now: float) -> dict[str, Any]:
    """Return the CloudEvent for a webhook; its id is the same for each query of the same step."""
    data = {"rollout": trial.id, "model": trial.model, **rollout_document(rollout)}
    event = TrialEvent(GATE, f"models/{trial.model}/versions/{rollout.spec.to}", f"{trial.id} {rollout.stage}", data)
    return {
        "specversion": "1.0",
        "id": event_id(event),
        "source": SOURCE,
        "type": f"io.penstock.{event.type}",
        "subject": event.subject,
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": data,
    }
