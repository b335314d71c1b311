"""Runs rollouts: sums the counts of the gateways, calls the pure decision, and performs its action."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from penstock.control.calls.blocking import READ_S
from penstock.control.delivery import observations
from penstock.control.delivery.model_versions import find_serving_version, of_model, refuse_unready
from penstock.control.delivery.questions import GateQueries, asking_pools
from penstock.control.delivery.rollout_documents import RolloutDocument, next_change
from penstock.control.delivery.step_gates import Ask, StepGates, Webhooks
from penstock.control.delivery.trial import CONTROLLER, UNREADABLE, TrialController, TrialWorkers
from penstock.control.monitoring.label_comparisons import ComparedSignal, ComparisonTerms, LabelComparisons
from penstock.core.desired import VersionStatus, serving_version
from penstock.core.errors import Conflict, NotFound, Refused, unknown_model
from penstock.core.objectives import count_answered
from penstock.core.rollouts.decision import RolloutAction, RolloutActionKind, RolloutSnapshot, apply_action, decide
from penstock.core.rollouts.documents import rollout_document
from penstock.core.rollouts.evidence_history import decode_history, history_document
from penstock.core.rollouts.forecast import ControlCounts, fine_buckets, forecast_document, forecast_steps
from penstock.core.rollouts.progress import describe_progress
from penstock.core.rollouts.rollout import (
    OPEN,
    Rollout,
    RolloutState,
    add_batch,
    guard_verdicts,
    note_in_place,
    note_losses,
    note_ready,
    resume,
    seconds_needed,
    start_rollout,
)
from penstock.core.rollouts.spec import RolloutSpec, parse_spec, with_objectives
from penstock.core.rollouts.waiting import waiting_for
from penstock.core.routing import RouteSpec
from penstock.core.versions import CHAMPION
from penstock.registry.records import Author, Document, ModelRecord
from penstock.registry.stores.traffic import ROLLOUT, TrafficStore, Trial, TrialChange
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")


class Rollouts(TrialController):
    """All rollouts as seen by this gateway; ``ask`` queries Prometheus, None without one; ``slo`` returns a model's
    service-level objectives; ``webhooks`` are those that steps may query.
    """

    kind = ROLLOUT
    signal = ComparedSignal.WRONG

    def __init__(
        self,
        store: TrafficStore,
        fleet: TrialWorkers,
        gateway: str,
        labels: LabelComparisons,
        ask: Ask | None = None,
        clock: Callable[[], float] | None = None,
        slo: Callable[[str], Mapping[str, float]] = lambda _: {},
        webhooks: Webhooks | None = None,
        questions: GateQueries | None = None,
    ) -> None:
        super().__init__(store, fleet, gateway, labels, clock)
        self._slo = slo
        self._ask = ask
        asking = asking_pools()
        self.pools = (*self.pools, *asking.values())
        self._gates = StepGates(ask, webhooks, questions or GateQueries(asking))
        self._parsed: dict[str, tuple[Document, RolloutDocument]] = {}

    def _parse(self, trial: Trial) -> "RolloutDocument":
        """Parse a trial's document, once for each read: a step needs it several times."""
        parsed = self._parsed.get(trial.model)
        if parsed is None or parsed[0] is not trial.document:
            parsed = self._parsed[trial.model] = trial.document, RolloutDocument.parse(trial.document)
        return parsed[1]

    def first_change(
        self, document: Document, statuses: Mapping[str, VersionStatus], record: ModelRecord, trial_id: str
    ) -> TrialChange:
        """See ``TrialController``."""
        champion = record.aliases.get(CHAMPION)
        leads = None if champion is None else champion.version
        asked = parse_spec(document, find_serving_version(record, statuses, str(document.get("to"))))
        spec = with_objectives(asked, self._slo(record.name))
        for version in (spec.to, spec.control):
            refuse_unready(record.name, statuses, version)
        if any(guard.metric == "promql" for guard in spec.guards) and self._ask is None:
            raise Refused("a guard queries Prometheus, but none is configured; set prometheus.url")
        if missing := self._gates.missing(record.name, tuple(gate for step in spec.steps for gate in step.gates)):
            raise Refused("; ".join(missing))
        weighed = {} if record.route is None else {v: w for v, w in record.route.split.items() if w}
        if others := sorted(weighed.keys() - {spec.control, spec.to}):
            raise Refused(f"the route also weighs version '{others[0]}'; set it to one version first")
        losses = {self.gateway: self.fleet.losses(record.name, spec.to)}
        stored = RolloutDocument(
            start_rollout(spec, self.clock()), record.route, record.route, leads, trial_id, {}, losses
        )
        if not spec.dry_run:
            stored = replace(stored, route=stored.stage_route(record.route))
        answers = find_serving_version(record, statuses, spec.to)
        return TrialChange(stored.to_document(), route=stored.route, keep_route=spec.dry_run, answers=answers)

    def apply_verb(self, trial: Trial, verb: str, reason: str) -> Callable[[ModelRecord], TrialChange]:
        """See ``TrialController``; also raises ``Refused`` for a promotion of a version that is not ready."""
        after = _apply_verb(RolloutDocument.parse(trial.document).rollout, verb, reason, self.clock())
        if verb == "promote":
            refuse_unready(trial.model, of_model(self.fleet.statuses(), trial.model), after.spec.to)
        return partial(next_change, trial, after)

    def current_route(self, trial: Trial) -> tuple[RouteSpec | None, int]:
        """See ``TrialController``."""
        document = self._parse(trial)
        return document.route, document.rollout.stage

    def own_counts(self, trial: Trial) -> Document:
        """See ``TrialController``."""
        document = self._parse(trial)
        spec, arms = document.rollout.spec, {}
        for side, version in (("canary", spec.to), ("control", spec.control)):
            outputs = self.fleet.outputs(trial.model, version) if document.counts_outputs else 0
            arms[side] = observations.arm_counts(self.fleet.totals(trial.model, version), outputs)
        own = {"losses": self.fleet.losses(trial.model, spec.to)}
        return {"pairs": observations.shadow_pairs(self.fleet.totals(trial.model, spec.to)), **own, **arms}

    def comparison_terms(self, trial: Trial) -> ComparisonTerms | None:
        """See ``TrialController``: the answers of the present stage, where a guard or a gate needs labels."""
        rollout = self._parse(trial).rollout
        spec = rollout.spec
        guarded = any(guard.metric == "performance" for guard in spec.guards)
        if not guarded and not any(step.min_labels for step in spec.steps):
            return None
        return ComparisonTerms(trial.id, trial.model, self.signal, rollout.stage, (spec.to, spec.control))

    async def conduct(self, trial: Trial, observed: Mapping[str, Document], acknowledged: bool) -> None:
        """See ``TrialController``."""
        document, now = self._parse(trial), self.clock()
        ready = self.is_able(trial.model, document.rollout.spec.to)
        before = replace(document, rollout=note_in_place(note_ready(document.rollout, ready, now), acknowledged))
        after = self._add_evidence(trial, before, observed)
        after = replace(after, answers=self._gates.answers(trial, after, now))
        action = decide(RolloutSnapshot(after, now, ready, acknowledged))
        known, lost = (
            observations.last_of_stage(document.observations, observed, document.rollout.stage),
            {**_count_losses(observed), **document.losses},
        )
        recorded = replace(document.with_rollout(after, now), observations=known, losses=lost)
        written = replace(trial, document=recorded.to_document())
        try:
            if action is not None:
                await self._perform(written, after, action)
            elif after != document.rollout or document.has_changed(known, lost):
                self.newest[trial.model] = await self.run_on_thread(self.leader.keep, trial, written.document)
        except (Conflict, Refused) as fault:
            log.info("rollout %s of %s: %s", trial.id, trial.model, fault)
            promotes = action is not None and action.kind is RolloutActionKind.PROMOTE
            if promotes or isinstance(fault, Refused):
                await self._hold(written, after, str(fault))

    def _add_evidence(self, trial: Trial, document: "RolloutDocument", observed: Mapping[str, Document]) -> Rollout:
        """Return the rollout with the gateways' new counts and lost workers since the last step."""
        rollout, lost = document.rollout, _count_losses(observed)
        versions, sticky = (rollout.spec.to, rollout.spec.control), bool(document.route and document.route.sticky)
        step = observations.find_evidence_step(document.observations, observed, rollout.stage, versions, sticky)
        step = replace(step, batch=replace(step.batch, values=self._gates.values(trial, rollout)))
        after = note_losses(rollout, sum(lost.values()) - sum(document.losses.get(item, lost[item]) for item in lost))
        return after if step.empty else add_batch(after, step.batch, step.requests, sticky or rollout.spec.dry_run)

    async def _perform(self, trial: Trial, rollout: Rollout, action: RolloutAction) -> None:
        after = apply_action(rollout, action, self.clock())
        log.warning("rollout %s of %s: %s (%s)", trial.id, trial.model, action.kind.value, action.reason)
        by = Author(CONTROLLER, action.reason)
        self.newest[trial.model] = await self.run_on_thread(
            self.leader.change, trial, partial(next_change, trial, after), action.kind.value, by
        )
        self.background.start(trial.model)

    async def _hold(self, trial: Trial, rollout: Rollout, reason: str) -> None:
        """Pause the rollout: the next step failed because somebody has moved the champion, or a version does not pass
        its gates, and a person must decide."""
        after = replace(rollout, state=RolloutState.PAUSED, reason=reason, step_at=self.clock())
        with suppress(Conflict):
            make = partial(next_change, trial, after)
            await self.run_on_thread(self.leader.change, trial, make, "pause", Author(CONTROLLER, reason))

    async def preview(self, model: str, document: Document, rate: float | None = None) -> Document:
        """Return what a rollout would do and what it needs, without starting it; ``rate`` is the model's requests a
        second, None where it is not known.

        Raises:
            InvalidInput, NotFound, Refused, Conflict: as ``begin``, except for the gates of versions.
        """
        statuses = of_model(self.fleet.statuses(), model)
        if not statuses:
            raise unknown_model(model)
        make = partial(self.first_change, document, statuses)
        change = await self.run_on_thread(self.store.preview, model, make, deadline_s=READ_S)
        spec = RolloutDocument.parse(change.document).rollout.spec
        control = self._control_counts(model, spec, rate or 0.0)
        steps = await self.run_on_thread(forecast_steps, spec, control)
        return {"model": model, **forecast_document(spec, steps, control.requests_per_second)}

    def _control_counts(self, model: str, spec: RolloutSpec, rate: float) -> ControlCounts:
        """Return what the control did at this gateway so far, on whatever way requests came to it."""
        totals = self.fleet.totals(model, spec.control)
        answered, failed = count_answered(totals.live_outcomes())
        outputs = totals.output_bins(0) if self.fleet.outputs(model, spec.control) else ()
        return ControlCounts(
            (failed, answered - failed), fine_buckets(totals.live_buckets()), totals.split_runs(), outputs, rate
        )

    def evidence_history(self, trial: Trial) -> Document:
        """See ``TrialController``: the evidence of each guard."""
        document = self._parse(trial)
        return {"evidence_history": history_document(decode_history(document.history), document.rollout)}

    async def versions_tried(self, model: str) -> set[str]:
        """Return the versions that a rollout of a model was ever begun to."""
        return await self.run_on_thread(self.store.rollout_targets, model)

    def to_api(self, trial: Trial) -> Document:
        """See ``TrialController``."""
        document = self._parse(trial)
        rollout = document.rollout
        seconds = seconds_needed(rollout, self.clock()) if rollout.state is RolloutState.RUNNING else None
        needed = None if seconds is None else round(seconds, 1)
        waits = waiting_for(rollout, guard_verdicts(rollout), self.clock()) if rollout.state in OPEN else []
        if rollout.state is RolloutState.PAUSED:
            waits.insert(0, "a person to resume it")
        labels = (
            {}
            if self.comparison_terms(trial) is None
            else {"labels": observations.describe_waiting_labels(document.observations)}
        )
        notes = {"waiting_for": waits, "progress": describe_progress(rollout, self.clock())}
        notes["warnings"] = self._warnings(trial.model, document)
        return {**self.common_fields(trial), **rollout_document(rollout), "needed_seconds": needed, **notes, **labels}

    def _warnings(self, model: str, document: "RolloutDocument") -> list[str]:
        """Return warnings for an open rollout: that it is not promoted automatically, or that its end would not remove
        the version's traffic.
        """
        spec = document.rollout.spec
        if document.rollout.state not in OPEN or spec.dry_run:
            return []
        return [*_hold_back_warning(spec), *self._champion_warning(model, document)]

    def _champion_warning(self, model: str, document: "RolloutDocument") -> list[str]:
        spec = document.rollout.spec
        if document.base is not None or document.champion is not None:
            return []
        statuses = of_model(self.fleet.statuses(), model)
        if serving_version(None, None, statuses.values()) != spec.to:
            return []
        way = f"abort it, point alias '{CHAMPION}' to version '{spec.control}', and start it again"
        kept_on = (
            f"no champion is set, so version '{spec.to}' answers all requests as the newest one when the rollout ends"
        )
        return [f"{kept_on}, even after a rollback; {way}"]

    def readings(self) -> Iterator[Reading]:
        """Yield the state and the evidence of each model's newest rollout, as of the last step."""
        served = {(status.model, status.version) for status in self.fleet.statuses()}
        for trial in self.newest.values():
            try:
                rollout = self._parse(trial).rollout
            except UNREADABLE:
                continue  # a newer gateway's: what it means is not known here
            if not trial.open and (trial.model, rollout.spec.to) not in served:
                continue  # the version is gone
            for state in RolloutState:
                yield Point(metrics.ROLLOUT_STATE, (trial.model, rollout.spec.to, state.value), rollout.state is state)
            for guard, item in zip(rollout.spec.guards, rollout.guards, strict=True):
                yield Point(metrics.ROLLOUT_LOG_EVIDENCE, (trial.model, rollout.spec.to, guard.name), item.peak)


def _hold_back_warning(spec: RolloutSpec) -> list[str]:
    names = spec.left_alone()
    if not names:
        return []
    return [
        f"the hold-back is 0, so the last step leaves nothing to compare {' and '.join(names)} with; promote it by hand"
    ]


def _apply_verb(rollout: Rollout, verb: str, reason: str, now: float) -> Rollout:
    """Return the rollout after a verb of a person."""
    if rollout.state not in OPEN:
        raise Conflict(f"the rollout is over: {rollout.state.value}")
    why = reason or f"{verb} on request"
    if verb == "pause":
        return replace(rollout, state=RolloutState.PAUSED, reason=why)
    if verb == "resume":
        if rollout.state is RolloutState.RUNNING:
            raise Conflict("the rollout is running already")
        return resume(rollout, now, why)
    if verb == "approve":
        return _approve(rollout, why)
    kinds = {"promote": RolloutActionKind.PROMOTE, "abort": RolloutActionKind.ROLL_BACK}
    if verb not in kinds:
        raise NotFound("a rollout can be paused, resumed, approved, promoted or aborted")
    return apply_action(rollout, RolloutAction(kinds[verb], why), now)


def _approve(rollout: Rollout, reason: str) -> Rollout:
    if rollout.step < 0 or not rollout.spec.steps[rollout.step].approval:
        raise Conflict("this step does not wait for approval")
    return replace(rollout, approved_step=rollout.step, reason=reason)


def _count_losses(observed: Mapping[str, Document]) -> dict[str, int]:
    """Return how many workers each gateway has lost with calls of the versions in flight, since its instance began."""
    return {gateway: observation.get("losses", 0) for gateway, observation in observed.items()}
