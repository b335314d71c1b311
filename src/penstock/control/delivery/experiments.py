"""Runs experiments: adds up the rewards of each arm, and lets a bandit's decision move the weights."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from penstock.control.delivery.model_versions import refuse_unready
from penstock.control.delivery.observations import UNSETTLED, new_strata, stages, without_strata
from penstock.control.delivery.trial import CONTROLLER, Trials, kept_route
from penstock.control.monitoring.label_comparisons import Signal, Terms
from penstock.core import experiments
from penstock.core.desired import VersionStatus
from penstock.core.errors import Conflict, NotFound
from penstock.core.experiments import Experiment, State
from penstock.core.routing import RouteSpec, lay_out, stable_of, stored_out
from penstock.core.versions import CHAMPION
from penstock.registry.records import By, Document, ModelRecord
from penstock.registry.stores.traffic import EXPERIMENT, Change, Event, Trial

log = logging.getLogger("penstock.control")

WHOLE = 1
"""The stage of rewards: answers are compared from the beginning of an experiment to its end."""


class Experiments(Trials):
    """All experiments as this gateway sees them."""

    kind = EXPERIMENT
    signal = Signal.REWARD

    def beginning(
        self, document: Document, statuses: Mapping[str, VersionStatus], record: ModelRecord, trial_id: str
    ) -> Change:
        """See ``Trials``."""
        spec = experiments.spec_in(document)
        for version in spec.arms:
            refuse_unready(record.name, statuses, version)
        champion = record.aliases.get(CHAMPION)
        stable = stable_of(spec.arms, None if champion is None else champion.version)
        first = {"stage": UNSETTLED, "at": self.clock(), **self._counted(record.name, spec.arms)}
        seen = {self.gateway: first}  # what was counted before does not belong to it
        kept = _Kept(experiments.start_experiment(spec, self.clock()), record.route, None, stable, trial_id, seen)
        kept = replace(kept, route=kept.stage_route(record.route))
        return Change(kept.out(), route=kept.route)

    def asked(self, trial: Trial, verb: str, reason: str) -> Callable[[ModelRecord], Change]:
        """See ``Trials``: an experiment can be paused, resumed and stopped."""
        kept = _Kept.of(trial.document)
        present = kept.experiment.state
        states = {"pause": State.PAUSED, "resume": State.RUNNING, "stop": State.STOPPED}
        if verb not in states:
            raise NotFound("an experiment can be paused, resumed or stopped")
        if not kept.experiment.is_open:
            raise Conflict("the experiment is over")
        if states[verb] is present:
            raise Conflict(f"the experiment is {present.value} already")
        why = reason or f"{verb} on request"
        after = replace(kept.experiment, state=states[verb], reason=why, stage=kept.experiment.stage + 1)
        return partial(_next, trial, after)

    def weighed(self, trial: Trial) -> tuple[RouteSpec | None, int]:
        """See ``Trials``."""
        kept = _Kept.of(trial.document)
        return kept.route, kept.experiment.stage

    def look(self, trial: Trial) -> Document:
        """See ``Trials``."""
        return self._counted(trial.model, _Kept.of(trial.document).experiment.spec.arms)

    def _counted(self, model: str, versions: Iterable[str]) -> Document:
        return {"arms": {version: self.fleet.totals(model, version).split_requests() for version in versions}}

    def compared(self, trial: Trial) -> Terms:
        """See ``Trials``: all answers since the experiment began; rewards come late, and weights may move before."""
        arms = tuple(_Kept.of(trial.document).experiment.spec.arms)
        return Terms(trial.id, trial.model, self.signal, WHOLE, arms)

    async def conduct(self, trial: Trial, looks: Mapping[str, Document], acknowledged: bool) -> None:
        """See ``Trials``."""
        kept = _Kept.of(trial.document)
        before = kept.experiment
        after = _added(before, kept.seen, looks)
        seen = _remembered(kept.seen, looks, before.stage)
        weights = experiments.decide(after, self.clock(), trial.revision) if acknowledged else None
        written = replace(trial, document=replace(kept, experiment=after, seen=seen).out())
        try:
            if weights is not None:
                shares = ", ".join(f"{arm} {weight / 100:g} %" for arm, weight in weights.items())
                moved = replace(
                    after, weights=weights, stage=after.stage + 1, moved_at=self.clock(), reason=f"rewards: {shares}"
                )
                by = By(CONTROLLER, moved.reason)
                await self.run_on_thread(self.leader.change, written, partial(_next, written, moved), "move", by)
                self.background.start(trial.model)
            elif after != before or stages(seen) != stages(kept.seen):
                await self.run_on_thread(self.leader.keep, trial, written.document)
        except Conflict as conflict:
            log.info("experiment %s of %s: %s", trial.id, trial.model, conflict)

    def shown(self, trial: Trial) -> Document:
        """See ``Trials``."""
        return {**self.heading(trial), **experiments.experiment_document(_Kept.of(trial.document).experiment)}


@dataclass(frozen=True, slots=True)
class _Kept:
    """An experiment's document: the experiment, the route before it and the present one, who answers for arms that
    cannot, and what every gateway had counted when it was last brought up to date."""

    experiment: Experiment
    base: RouteSpec | None
    route: RouteSpec | None
    stable: str
    salt: str
    seen: Mapping[str, Document]

    @classmethod
    def of(cls, document: Document) -> "_Kept":
        return cls(
            experiments.experiment_in(document["experiment"]),
            kept_route(document["base"]),
            kept_route(document["route"]),
            document["stable"],
            document["salt"],
            document["seen"],
        )

    def out(self) -> Document:
        return {
            "experiment": experiments.experiment_out(self.experiment),
            "base": None if self.base is None else stored_out(self.base),
            "route": None if self.route is None else stored_out(self.route),
            "stable": self.stable,
            "salt": self.salt,
            "seen": dict(self.seen),
            "told": experiments.experiment_document(self.experiment),
        }

    def stage_route(self, present: RouteSpec | None) -> RouteSpec | None:
        """The route of the present weights; the one before the experiment once that is over."""
        if not self.experiment.is_open:
            return self.base
        split = dict(self.experiment.weights)
        return RouteSpec(
            split,
            self.experiment.spec.sticky,
            () if self.base is None else self.base.rules,
            () if self.base is None else self.base.shadow,
            self.stable,
            lay_out(split, () if present is None else present.ranges),
            self.salt,
        )


def _added(experiment: Experiment, before: Mapping[str, Document], now: Mapping[str, Document]) -> Experiment:
    """The experiment with what the gateways have counted since; one whose counters began anew counts from now on."""
    requests: dict[str, int] = {}
    for gateway, look in now.items():
        earlier = before.get(gateway)
        for arm, count in look["arms"].items():
            gained = 0 if earlier is None else count - earlier["arms"].get(arm, 0)
            requests[arm] = requests.get(arm, 0) + max(0, gained)
    strata = new_strata(before, now, WHOLE)
    return experiments.add_rewards(experiment, strata, requests) if strata or any(requests.values()) else experiment


def _remembered(before: Mapping[str, Document], now: Mapping[str, Document], stage: int) -> dict[str, Document]:
    """The last look of each gateway; one that has had the weights of this stage has had them."""
    found = {}
    for gateway, look in now.items():
        had = stage in (look["stage"], before.get(gateway, look)["stage"])
        found[gateway] = {**without_strata(look), "stage": stage if had else look["stage"]}
    return found


def _next(trial: Trial, after: Experiment, record: ModelRecord) -> Change:
    """What changes together when weights move or a person asks for something."""
    kept = replace(_Kept.of(trial.document), experiment=after)
    kept = replace(kept, route=kept.stage_route(record.route))
    event = None
    if not after.is_open:
        subject, data = f"models/{trial.model}", {"experiment": trial.id, **experiments.experiment_document(after)}
        event = Event("experiment.finished.v1", subject, trial.id, data)
    return Change(kept.out(), after.is_open, kept.route, event=event)
