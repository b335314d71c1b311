"""Runs rollouts: sums the counts of the gateways, calls the pure decision, and performs its action."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from penstock.control.delivery import observations
from penstock.control.delivery.model_versions import of_model, refuse_unready, serving
from penstock.control.delivery.questions import GateQueries, asking_pools
from penstock.control.delivery.step_gates import Ask, StepGates, Webhooks
from penstock.control.delivery.trial import CONTROLLER, UNREADABLE, TrialController, TrialWorkers, stored_route
from penstock.control.monitoring.label_comparisons import ComparedSignal, ComparisonTerms, LabelComparisons
from penstock.core.desired import VersionStatus, serving_version
from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.rollouts.decision import RolloutAction, RolloutActionKind, RolloutSnapshot, apply_action, decide
from penstock.core.rollouts.documents import rollout_document, rollout_in, rollout_out
from penstock.core.rollouts.progress import progress
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
from penstock.core.rollouts.spec import RolloutSpec, spec_in, with_objectives
from penstock.core.rollouts.waiting import waiting_for
from penstock.core.routing import POINTS, RouteSpec, ShadowSpec, lay_out, stored_out
from penstock.core.versions import CHAMPION
from penstock.registry.records import Author, Document, ModelRecord
from penstock.registry.stores.traffic import ROLLOUT, TrafficStore, Trial, TrialChange, TrialEvent
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
        self._parsed: dict[str, tuple[Document, _RolloutDocument]] = {}

    def _parse(self, trial: Trial) -> "_RolloutDocument":
        """Parse a trial's document, once for each read: a step needs it several times."""
        parsed = self._parsed.get(trial.model)
        if parsed is None or parsed[0] is not trial.document:
            parsed = self._parsed[trial.model] = trial.document, _RolloutDocument.parse(trial.document)
        return parsed[1]

    def first_change(
        self, document: Document, statuses: Mapping[str, VersionStatus], record: ModelRecord, trial_id: str
    ) -> TrialChange:
        """See ``TrialController``."""
        champion = record.aliases.get(CHAMPION)
        leads = None if champion is None else champion.version
        asked = spec_in(document, serving(record, statuses, str(document.get("to"))))
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
        stored = _RolloutDocument(
            start_rollout(spec, self.clock()), record.route, record.route, leads, trial_id, {}, losses
        )
        if not spec.dry_run:
            stored = replace(stored, route=stored.stage_route(record.route))
        answers = serving(record, statuses, spec.to)
        return TrialChange(stored.to_document(), route=stored.route, keep_route=spec.dry_run, answers=answers)

    def apply_verb(self, trial: Trial, verb: str, reason: str) -> Callable[[ModelRecord], TrialChange]:
        """See ``TrialController``; also raises ``Refused`` for a promotion of a version that is not ready."""
        after = _apply_verb(_RolloutDocument.parse(trial.document).rollout, verb, reason, self.clock())
        if verb == "promote":
            refuse_unready(trial.model, of_model(self.fleet.statuses(), trial.model), after.spec.to)
        return partial(_next_change, trial, after)

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
            {**_losses(observed), **document.losses},
        )
        written = replace(
            trial, document=replace(document, rollout=after, observations=known, losses=lost).to_document()
        )
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

    def _add_evidence(self, trial: Trial, document: "_RolloutDocument", observed: Mapping[str, Document]) -> Rollout:
        """Return the rollout with the gateways' new counts and lost workers since the last step."""
        rollout, lost = document.rollout, _losses(observed)
        versions, sticky = (rollout.spec.to, rollout.spec.control), bool(document.route and document.route.sticky)
        step = observations.evidence_step(document.observations, observed, rollout.stage, versions, sticky)
        step = replace(step, batch=replace(step.batch, values=self._gates.values(trial, rollout)))
        after = note_losses(rollout, sum(lost.values()) - sum(document.losses.get(item, lost[item]) for item in lost))
        return after if step.empty else add_batch(after, step.batch, step.requests, sticky or rollout.spec.dry_run)

    async def _perform(self, trial: Trial, rollout: Rollout, action: RolloutAction) -> None:
        after = apply_action(rollout, action, self.clock())
        log.warning("rollout %s of %s: %s (%s)", trial.id, trial.model, action.kind.value, action.reason)
        by = Author(CONTROLLER, action.reason)
        self.newest[trial.model] = await self.run_on_thread(
            self.leader.change, trial, partial(_next_change, trial, after), action.kind.value, by
        )
        self.background.start(trial.model)

    async def _hold(self, trial: Trial, rollout: Rollout, reason: str) -> None:
        """Pause the rollout: the next step failed because somebody has moved the champion, or a version does not pass
        its gates, and a person must decide."""
        after = replace(rollout, state=RolloutState.PAUSED, reason=reason, step_at=self.clock())
        with suppress(Conflict):
            make = partial(_next_change, trial, after)
            await self.run_on_thread(self.leader.change, trial, make, "pause", Author(CONTROLLER, reason))

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
            else {"labels": observations.waiting_labels_out(document.observations)}
        )
        notes = {"waiting_for": waits, "progress": progress(rollout, self.clock())}
        notes["warnings"] = self._warnings(trial.model, document)
        return {**self.common_fields(trial), **rollout_document(rollout), "needed_seconds": needed, **notes, **labels}

    def _warnings(self, model: str, document: "_RolloutDocument") -> list[str]:
        """Return warnings for an open rollout: that it is not promoted automatically, or that its end would not remove
        the version's traffic.
        """
        spec = document.rollout.spec
        if document.rollout.state not in OPEN or spec.dry_run:
            return []
        return [*_hold_back_warning(spec), *self._champion_warning(model, document)]

    def _champion_warning(self, model: str, document: "_RolloutDocument") -> list[str]:
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


def _next_change(trial: Trial, after: Rollout, record: ModelRecord) -> TrialChange:
    """Return the changes of one transaction when a rollout changes its state."""
    document = _RolloutDocument.parse(trial.document)
    before, document = document.rollout, replace(document, rollout=after)
    event = None if after.state in OPEN else _finished_event(trial, after)
    if after.spec.dry_run or (after.state in OPEN and after.stage == before.stage):
        return TrialChange(document.to_document(), open=after.state in OPEN, keep_route=True, event=event)
    document = replace(document, route=document.stage_route(record.route))
    promotion = (document.champion, after.spec.to) if after.state is RolloutState.PROMOTED else None
    return TrialChange(
        document.to_document(),
        after.state in OPEN,
        document.route,
        champion=promotion,
        event=event,
        returns=after.ended_without_promotion,
    )


@dataclass(frozen=True, slots=True)
class _RolloutDocument:
    """A rollout's document: the rollout, the route before it and the present one, the champion before it, and what
    every gateway had counted when its evidence was last brought up to date."""

    rollout: Rollout
    base: RouteSpec | None
    route: RouteSpec | None
    champion: str | None
    salt: str
    observations: Mapping[str, Document]
    losses: Mapping[str, int]

    @classmethod
    def parse(cls, document: Document) -> "_RolloutDocument":
        return cls(
            rollout_in(document["rollout"]),
            stored_route(document["base"]),
            stored_route(document["route"]),
            document["champion"],
            document["salt"],
            document["seen"],
            document.get("losses", {}),
        )

    def has_changed(self, observed: Mapping[str, Document], losses: Mapping[str, int]) -> bool:
        """Whether gateways have reached another stage, or are new."""
        return observations.stages_of(observed) != observations.stages_of(self.observations) or losses != self.losses

    def to_document(self) -> Document:
        return {
            "rollout": rollout_out(self.rollout),
            "base": None if self.base is None else stored_out(self.base),
            "route": None if self.route is None else stored_out(self.route),
            "champion": self.champion,
            "salt": self.salt,
            "seen": dict(self.observations),
            "losses": dict(self.losses),
            "told": rollout_document(self.rollout),
        }

    @property
    def counts_outputs(self) -> bool:
        """Whether outputs must be counted."""
        return any(guard.metric in ("outputs", "quality") for guard in self.rollout.spec.guards)

    def stage_route(self, present: RouteSpec | None) -> RouteSpec | None:
        """Return the route of the rollout's present stage; None if the champion alone decides again."""
        rollout, base = self.rollout, self.base
        spec, weight = rollout.spec, rollout.weight
        if rollout.ended_without_promotion:
            return base
        if rollout.state is RolloutState.PROMOTED:
            return None if base is None else _promoted_route(base, spec.to, present)
        split = {spec.control: POINTS - weight, spec.to: weight}
        mirrored = (ShadowSpec(spec.to, rollout.mirrored),) if rollout.mirrored else ()
        shadow = () if base is None else tuple(item for item in base.shadow if item.version != spec.to)
        return RouteSpec(
            split,
            "" if base is None else base.sticky,
            () if base is None else base.rules,
            (*shadow, *mirrored),
            spec.control,
            lay_out(split, () if present is None else present.ranges),
            self.salt,
            watched=self.counts_outputs,
        )


def _promoted_route(base: RouteSpec, to: str, present: RouteSpec | None) -> RouteSpec:
    """Return the previous route with the promoted version in place of the control."""
    split = {to: POINTS}
    shadow = tuple(item for item in base.shadow if item.version != to)
    ranges = lay_out(split, () if present is None else present.ranges)
    return replace(base, split=split, shadow=shadow, stable=to, ranges=ranges)


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


def _finished_event(trial: Trial, rollout: Rollout) -> TrialEvent:
    return TrialEvent(
        "rollout.finished.v1",
        f"models/{trial.model}/versions/{rollout.spec.to}",
        trial.id,
        {"rollout": trial.id, "model": trial.model, **rollout_document(rollout)},
    )


def _losses(observed: Mapping[str, Document]) -> dict[str, int]:
    """Return how many workers each gateway has lost with calls of the versions in flight, since its instance began."""
    return {gateway: observation.get("losses", 0) for gateway, observation in observed.items()}
