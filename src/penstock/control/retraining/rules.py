"""Requests retraining when a model's rules decide so, and sends the events; only the leader of a fleet does.

A decision and its event are one transaction; sending goes on beside, at least once, in order for each model and sink.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from penstock.control.calls.blocking import READ_S, BlockingPool
from penstock.control.calls.repeated_read import RepeatedRead
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.control.retraining.candidate_decisions import CandidateWorkers
from penstock.control.retraining.candidates import RULES, Candidates, ReadModel, RolloutStarter
from penstock.control.retraining.dispatcher import Dispatcher
from penstock.control.retraining.row_source import RowSource
from penstock.control.retraining.slo_history import SloHistories
from penstock.control.sinks import RowFile, SinkContext
from penstock.core.desired import ModelSpec, ReadyState, VersionStatus, serving_version
from penstock.core.errors import Conflict, InvalidInput, NotFound, NotReady, Unsupported, unknown_model
from penstock.core.policies import MonitorPolicy
from penstock.core.triggers.conditions import DAY_S, ConditionResult, VersionSnapshot
from penstock.core.triggers.documents import evaluate_rules, requests_document, rules_document
from penstock.core.triggers.rules import RuleAction, RuleOutcome, TriggerKind, decide
from penstock.core.triggers.state import (
    InFlight,
    RuleState,
    decode_rule_state,
    encode_rule_state,
    without_schedule_times,
)
from penstock.core.versions import CHAMPION
from penstock.monitor.captured_rows import RowSelection
from penstock.registry.records import Author, Document
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.traffic import TrialEvent, event_id
from penstock.telemetry import delivery_metrics as metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")

LOOK_S = 1.0
THREADS = 4
OVERDUE_S = 600.0
LONGEST_S = 60.0
"""Maximum interval between two attempts to evaluate failing rules."""

REQUEST_TRIES = 3
MANUAL = "(by hand)"
MOST_FEATURES = 5


class MonitorView(Protocol):
    """The monitor, as the rules need it."""

    def policy_of(self, model: str) -> MonitorPolicy:
        """Return a model's policy."""

    def feature_names(self, key: tuple[str, str]) -> tuple[str, ...]:
        """Return the names of a version's features."""

    @property
    def can_judge(self) -> bool:
        """Whether its verdicts rest on the counts of all gateways."""

    def describe(self, model: str, version: str) -> Document:
        """Return the document of a version."""


class Retraining:
    """One gateway's; ``sinks`` is what its sinks need, and ``rows`` has the captured rows, by default of the home.
    ``clock`` gives seconds since the epoch that go on steadily, and ``wall`` (the same by default) those of the clock
    that schedules go by."""

    def __init__(
        self,
        outbox: Outbox,
        record: ReadModel,
        fleet: CandidateWorkers,
        monitor: MonitorView,
        rollouts: RolloutStarter,
        sinks: SinkContext,
        clock: Callable[[], float] = time.time,
        rows: RowSource | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._wall = wall or clock
        self._pool = BlockingPool("retraining", THREADS)
        self._run = self._pool.call
        self._outbox = outbox
        self._leader = outbox.as_leader()
        self._record = record
        self._fleet = fleet
        self._monitor = monitor
        self._clock = clock
        self._rows = rows or RowSource(sinks.home)
        self.candidates = Candidates(outbox, record, fleet, monitor, rollouts, self._rows, clock)
        context = replace(sinks, gather=self._gather)
        self._dispatcher = Dispatcher(
            self._leader, lambda model: monitor.policy_of(model).sinks, context, self._run, clock
        )
        self._outcomes: Counter[tuple[str, str, str]] = Counter()
        self._last: dict[str, tuple[int, RuleState]] = {}
        self._results: dict[str, dict[str, ConditionResult]] = {}
        self._pending: dict[str, tuple[int, float]] = {}
        self._pending_read = RepeatedRead(partial(self._run, outbox.pending), outbox.change_mark)
        meanwhile = "retraining rules wait"
        rules = PeriodicTask("rules", self.judge_all, LOOK_S, overdue_s=OVERDUE_S, meanwhile=meanwhile)
        self.tasks = (
            rules,
            PeriodicTask("deliveries", self.deliver_all, LOOK_S, meanwhile="events wait to be sent"),
        )
        self._keyed: KeyedWork[str] = KeyedWork(rules, "rules of model", (LOOK_S, LONGEST_S), (NotReady,))
        self._histories = SloHistories(self._leader, self._run)

    # What people ask for.

    async def ask(self, model: str, document: Document, by: Author) -> Document:
        """Request retraining, whatever the rules decide; return the request and its sinks.

        Raises:
            NotFound: no such model or version.
            InvalidInput: the document has something else than a version and a reason.
        """
        version, now = self._asked_version(model, document), self._clock()
        monitor, sinks = self._monitor.describe(model, version), self._asked_sinks(model)
        data = {**_gather_evidence(monitor), "model": model, "version": version, "rule": MANUAL, "reason": by.reason}
        event = TrialEvent(TriggerKind.RETRAIN, f"models/{model}/versions/{version}", f"{MANUAL} {now:.3f}", data)
        await self._request(model, InFlight(version, now, event_id(event)), event, sinks, by)
        self._outcomes[model, MANUAL, RuleOutcome.REQUESTED] += 1
        return {"event": event_id(event), "model": model, "version": version, "sinks": sinks}

    def _asked_version(self, model: str, document: Document) -> str:
        """Return the version of a request: the stated one, or the one that answers; raises as ``ask``."""
        odd = sorted(set(document) - {"version", "reason"})
        if odd:
            raise InvalidInput(f"'{odd[0]}' is not a field of a retraining request")
        spec = next((item for item in self._fleet.desired.models if item.name == model), None)
        if spec is None:
            raise unknown_model(model)
        version = document.get("version") or self._serving(spec)
        if not isinstance(version, str) or version not in {item.version for item in spec.versions}:
            raise NotFound(f"model '{model}' serves no version '{str(version)[:64]}'")
        return version

    def _asked_sinks(self, model: str) -> list[str]:
        """Return the sinks of a request: those of the model's rules, or else all that its policy declares."""
        policy = self._monitor.policy_of(model)
        sinks = {item for trigger in policy.triggers if trigger.kind is TriggerKind.RETRAIN for item in trigger.send}
        return sorted(sinks) or sorted(policy.own_sinks)

    async def _request(self, model: str, flight: InFlight, event: TrialEvent, sinks: Sequence[str], by: Author) -> None:
        """Store a request together with its event.

        Raises:
            Conflict: the rules were written under every try.
        """
        commit = partial(self._outbox.commit, pin=_pinned_version(self._monitor.policy_of(model), flight.version))
        for _ in range(REQUEST_TRIES):
            stored, revision = await self._run(self._outbox.rule_state, model)
            before = decode_rule_state(stored)
            recent = tuple(at for at in before.requests if flight.at - at < DAY_S)
            after = encode_rule_state(replace(before, requests=(*recent, flight.at), in_flight=flight, failed=None))
            with suppress(Conflict):  # the rules may be written at the same moment
                await self._run(commit, model, revision, after, event, sinks, by)
                return
        raise Conflict("the rules of the model are changing; try again")

    async def deliveries(self, model: str) -> Document:
        """Return the deliveries of a model's events; raises ``NotFound``."""
        if not any(item.name == model for item in self._fleet.desired.models):
            raise unknown_model(model)
        problem = self._keyed.problem(model)
        deliveries = await self._run(self._outbox.deliveries, model, deadline_s=READ_S)
        return {"deliveries": deliveries, **({"problem": problem} if problem else {})}

    async def replay(self, model: str, by: Author, event: str | None = None, sink: str | None = None) -> Document:
        """Retry deliveries that were given up, by default all of the model; raises ``NotFound``."""
        return {"deliveries": await self._run(self._outbox.replay, model, by, event, sink)}

    async def document(self, model: str) -> Document:
        """Return the rules of a model with their state, its requests, candidates and deliveries.

        ``holds`` and ``evidence`` of a rule are known at the leader alone, which evaluates it. Raises ``NotFound``.
        """
        deliveries = await self.deliveries(model)
        state = decode_rule_state((await self._run(self._outbox.rule_state, model, deadline_s=READ_S))[0])
        policy, leads = self._monitor.policy_of(model), self._monitor.can_judge
        results = self._results.get(model) if leads else None
        return {
            "model": model,
            "rules": rules_document(policy.triggers, policy.rules.get("triggers", ()), state, results),
            **requests_document(state, policy.limits),
            "candidates": self.candidates.list_candidates(model, state),
            **deliveries,
        }

    # What happens by itself.

    async def judge_all(self) -> None:
        """Evaluate the rules of each model, if this gateway leads; at most one action for each."""
        ruled = {model.name: model for model in self._fleet.desired.models if self._is_ruled(model)}
        self._histories.forget_others(set(ruled))
        self._results = {model: results for model, results in self._results.items() if model in ruled}
        due = self._keyed.due(ruled)
        if not due:
            return
        if not await self._run(self._outbox.acquire_leadership):
            self._histories.forget()
            return
        for name in due:
            with self._keyed.isolated(name):
                await self.judge(ruled[name])
                await self.candidates.step(ruled[name], self._serving(ruled[name]))

    def _is_ruled(self, spec: ModelSpec) -> bool:
        policy = self._monitor.policy_of(spec.name)
        return bool(policy.triggers) or policy.limits.auto_rollout is not None

    async def deliver_all(self) -> None:
        """Begin to send due events, if this gateway leads."""
        self._pending = await self._pending_read.value()
        if not self._pending or not await self._run(self._outbox.acquire_leadership):
            return
        await self._dispatcher.step()

    async def judge(self, spec: ModelSpec) -> RuleAction | None:
        """Evaluate a model's rules; perform at most one action."""
        version = self._serving(spec)
        if version is None or not self._monitor.can_judge:
            return None
        policy, snapshot = self._monitor.policy_of(spec.name), await self._snapshot(spec, version)
        stored, revision = await self._run(self._outbox.rule_state, spec.name)
        previous = self._last.get(spec.name)
        before = previous[1] if previous is not None and previous[0] == revision else decode_rule_state(stored)
        self._results[spec.name] = evaluate_rules(policy.triggers, before, snapshot)
        after, action = decide(policy.triggers, policy.limits, before, snapshot)
        event = None if action is None or not action.sends else _make_event(action, snapshot)
        after = _with_event_id(after, before, event)
        sinks = action.trigger.send if action is not None else ()
        if without_schedule_times(after) != without_schedule_times(before):
            try:
                document = encode_rule_state(after)
                by = Author(RULES, f"rule {action.trigger.name}") if action is not None and event is not None else None
                commit = partial(self._leader.commit, pin=_pinned_version(policy, version))
                revision = await self._run(commit, spec.name, revision, document, event, sinks, by)
            except Conflict:
                return None  # another gateway has led meanwhile: look again
        self._last[spec.name] = revision, after  # when rules looked last is not worth a write by itself
        if action is not None:
            self._outcomes[spec.name, action.trigger.name, action.outcome] += 1
            log.warning("model %s version %s: rule %s: %s", spec.name, version, action.trigger.name, action.outcome)
        return action

    async def _age(self, model: str, version: str, now: float) -> float:
        try:
            record = await self._run(self._record, model)
            return now - datetime.fromisoformat(record.versions[version].created_at).timestamp()
        except (NotFound, KeyError, ValueError):
            return 0.0  # of a folder: nobody knows

    def _serving(self, spec: ModelSpec) -> str | None:
        return serving_version(spec.route, spec.aliases.get(CHAMPION), spec.unnamed(self._fleet.statuses()))

    def _statuses_of(self, spec: ModelSpec) -> list[VersionStatus]:
        return [status for status in self._fleet.statuses() if status.model == spec.name]

    async def _snapshot(self, spec: ModelSpec, version: str) -> VersionSnapshot:
        now, states = self._clock(), {item.version: item.state for item in self._statuses_of(spec)}
        failed = {item for item, state in states.items() if state is ReadyState.UNAVAILABLE}
        monitor, policy = self._monitor.describe(spec.name, version), self._monitor.policy_of(spec.name)
        chosen = version == (spec.aliases.get(CHAMPION) if spec.route is None else spec.route.stable)
        return VersionSnapshot(
            spec.name,
            version,
            now,
            monitor,
            age_s=await self._age(spec.name, version, now),
            ready=states.get(version) is ReadyState.READY,
            failed=() if chosen else failed,
            objectives=policy.objectives,
            history=await self._histories.add((spec.name, version), policy, monitor, now),
            wall=self._wall(),
        )

    def _gather(self, event: Document, folder: Path) -> RowFile | None:
        """Return the captured rows of an event's version, with their labels; without those held out for exams."""
        model, version = (str(event["data"].get(name, "")) for name in ("model", "version"))
        held_out, file = self._monitor.policy_of(model).limits.gates.held_out, folder / "rows.parquet"
        selection = RowSelection(model, version, 0.0 if held_out is None else held_out.share)
        try:
            gathered = self._rows.table(selection, file)
        except Unsupported:
            return None
        if gathered.of_fleet:
            data = {"model": model, "version": version, "event": event["id"], **gathered.document()}
            key = f"{event['id']} {self._clock():.3f}"
            self._leader.emit(model, TrialEvent("retraining.rows.v1", f"models/{model}/versions/{version}", key, data))
        return RowFile(file, gathered.document()) if gathered.rows else None

    def readings(self) -> Iterator[Reading]:
        """Return the counts of rule decisions, and of waiting events."""
        models = {item.name for item in self._fleet.desired.models}
        for key, count in self._outcomes.items():
            if key[0] in models:
                yield Point(metrics.RETRAINING_REQUESTS, key, count)
        for model, outcome, count in self._dispatcher.outcomes(models):
            yield Point(metrics.DELIVERIES, (model, outcome), count)
        for model in sorted(models | self._pending.keys()):
            number, oldest = self._pending.get(model, (0, 0.0))
            yield Point(metrics.OUTBOX_PENDING, (model,), number)
            yield Point(metrics.OUTBOX_AGE, (model,), max(0.0, self._clock() - oldest) if number else 0.0)

    @property
    def pools(self) -> tuple[BlockingPool, ...]:
        """Return the pools of blocking calls."""
        return self._pool, *self.candidates.pools, *self._dispatcher.pools

    def close(self) -> None:
        """End the threads."""
        self.candidates.close()
        self._dispatcher.close()
        self._pool.close()


def _pinned_version(policy: MonitorPolicy, version: str) -> str | None:
    """Return the version that keeps answering until the candidate of a request is decided."""
    return version if policy.limits.decide_who_answers else None


def _make_event(action: RuleAction, snapshot: VersionSnapshot) -> TrialEvent:
    """Return the event of an action; its key is the rule, the start of its cause, and the number of requests for it."""
    data = {
        **_gather_evidence(snapshot.monitor),
        "model": snapshot.model,
        "version": snapshot.version,
        "rule": action.trigger.name,
        "since": action.started,
        "escalated": action.outcome is RuleOutcome.ESCALATED,
        "requests_before": action.times,
        "conditions": list(action.evidence),
    }
    key = f"{action.trigger.name} {action.started:.3f} {action.times} {action.outcome}"
    return TrialEvent(action.trigger.kind, f"models/{snapshot.model}/versions/{snapshot.version}", key, data)


def _with_event_id(after: RuleState, before: RuleState, event: TrialEvent | None) -> RuleState:
    """Return the next state; a new request in it gets the id of its event."""
    flight = after.in_flight
    if event is None or flight is None or flight == before.in_flight:
        return after
    return replace(after, in_flight=replace(flight, event=event_id(event)))


def _gather_evidence(monitor: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evidence of an event: window and reference, the columns with the largest changes, performance,
    captured rows.
    """
    performance = monitor.get("performance") or {}
    columns: Sequence[Mapping[str, Any]] = [*(monitor.get("features") or ()), *(monitor.get("outputs") or ())]
    top = sorted(columns, key=lambda item: -float(item["psi"]))[:MOST_FEATURES]
    return {
        "reference": monitor.get("reference"),
        "window": monitor.get("window"),
        "rows_between_false_alarms": monitor.get("rows_between_false_alarms"),
        "features": [
            {key: item.get(key) for key in ("name", "state", "psi", "psi_threshold", "moved")} for item in top
        ],
        "performance": {
            "realised": performance.get("windowed"),
            "estimated": performance.get("estimated"),
            "labels": performance.get("labels"),
        },
        "captured": monitor.get("capture"),
    }
