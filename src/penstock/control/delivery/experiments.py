"""Runs experiments: sums the rewards of each arm, and adapts the weights if a bandit decides."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from penstock.control.delivery.model_versions import find_serving_version, refuse_unready
from penstock.control.delivery.observations import NOT_CONVERGED, new_strata, stages_of, without_strata
from penstock.control.delivery.trial import CONTROLLER, TrialController, stored_route
from penstock.control.monitoring.label_comparisons import ComparedSignal, ComparisonTerms
from penstock.core import experiments
from penstock.core.desired import VersionStatus
from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.experiments import Experiment, ExperimentState
from penstock.core.routing import RouteSpec, encode_stored_route, lay_out, stable_of
from penstock.core.versions import CHAMPION
from penstock.registry.records import Author, Document, ModelRecord
from penstock.registry.stores.traffic import EXPERIMENT, Trial, TrialChange, TrialEvent

log = logging.getLogger("penstock.control")

WHOLE = 1
"""The stage of rewards: answers are compared from the beginning of an experiment to its end."""


class Experiments(TrialController):
    """All experiments as seen by this gateway."""

    kind = EXPERIMENT
    signal = ComparedSignal.REWARD

    def first_change(
        self, document: Document, statuses: Mapping[str, VersionStatus], record: ModelRecord, trial_id: str
    ) -> TrialChange:
        """See ``TrialController``."""
        spec = experiments.parse_spec(document)
        for version in spec.arms:
            refuse_unready(record.name, statuses, version)
        champion = record.aliases.get(CHAMPION)
        stable = stable_of(spec.arms, None if champion is None else champion.version)
        first = {"stage": NOT_CONVERGED, "at": self.clock(), **self._requests_by_arm(record.name, spec.arms)}
        observations = {self.gateway: first}  # what was counted before does not belong to it
        stored = _ExperimentDocument(
            experiments.start_experiment(spec, self.clock()), record.route, None, stable, trial_id, observations
        )
        stored = replace(stored, route=stored.stage_route(record.route))
        return TrialChange(stored.to_document(), route=stored.route, answers=find_serving_version(record, statuses))

    def apply_verb(self, trial: Trial, verb: str, reason: str) -> Callable[[ModelRecord], TrialChange]:
        """See ``TrialController``: an experiment can be paused, resumed and stopped."""
        document = _ExperimentDocument.parse(trial.document)
        present = document.experiment.state
        states = {"pause": ExperimentState.PAUSED, "resume": ExperimentState.RUNNING, "stop": ExperimentState.STOPPED}
        if verb not in states:
            raise NotFound("an experiment can be paused, resumed or stopped")
        if not document.experiment.is_open:
            raise Conflict("the experiment is over")
        if states[verb] is present:
            raise Conflict(f"the experiment is {present.value} already")
        why = reason or f"{verb} on request"
        after = replace(document.experiment, state=states[verb], reason=why, stage=document.experiment.stage + 1)
        return partial(_next_change, trial, after)

    def current_route(self, trial: Trial) -> tuple[RouteSpec | None, int]:
        """See ``TrialController``."""
        document = _ExperimentDocument.parse(trial.document)
        return document.route, document.experiment.stage

    def own_counts(self, trial: Trial) -> Document:
        """See ``TrialController``."""
        return self._requests_by_arm(trial.model, _ExperimentDocument.parse(trial.document).experiment.spec.arms)

    def _requests_by_arm(self, model: str, versions: Iterable[str]) -> Document:
        return {"arms": {version: self.fleet.totals(model, version).split_requests() for version in versions}}

    def comparison_terms(self, trial: Trial) -> ComparisonTerms:
        """See ``TrialController``: all answers since the experiment began, as rewards come late."""
        arms = tuple(_ExperimentDocument.parse(trial.document).experiment.spec.arms)
        return ComparisonTerms(trial.id, trial.model, self.signal, WHOLE, arms)

    async def conduct(self, trial: Trial, observed: Mapping[str, Document], acknowledged: bool) -> None:
        """See ``TrialController``."""
        document = _ExperimentDocument.parse(trial.document)
        before = document.experiment
        after = _add_observations(before, document.observations, observed)
        observations = _last_observations(document.observations, observed, before.stage)
        weights = experiments.decide(after, self.clock(), trial.revision) if acknowledged else None
        written = replace(trial, document=replace(document, experiment=after, observations=observations).to_document())
        try:
            if weights is not None:
                shares = ", ".join(f"{arm} {weight / 100:g} %" for arm, weight in weights.items())
                moved = replace(
                    after, weights=weights, stage=after.stage + 1, moved_at=self.clock(), reason=f"rewards: {shares}"
                )
                by = Author(CONTROLLER, moved.reason)
                await self.run_on_thread(self.leader.change, written, partial(_next_change, written, moved), "move", by)
                self.background.start(trial.model)
            elif after != before or stages_of(observations) != stages_of(document.observations):
                await self.run_on_thread(self.leader.keep, trial, written.document)
        except Conflict as conflict:
            log.info("experiment %s of %s: %s", trial.id, trial.model, conflict)
        except Refused as refused:
            await self._pause(written, after, str(refused))

    async def _pause(self, trial: Trial, experiment: Experiment, reason: str) -> None:
        """Pause the experiment with the weights it has: an arm that would gain traffic does not pass its gates."""
        log.warning("experiment %s of %s is paused: %s", trial.id, trial.model, reason)
        paused = replace(experiment, state=ExperimentState.PAUSED, reason=reason, stage=experiment.stage + 1)
        with suppress(Conflict):
            make = partial(_next_change, trial, paused)
            await self.run_on_thread(self.leader.change, trial, make, "pause", Author(CONTROLLER, reason))

    def to_api(self, trial: Trial) -> Document:
        """See ``TrialController``."""
        return {
            **self.common_fields(trial),
            **experiments.experiment_document(_ExperimentDocument.parse(trial.document).experiment),
        }


@dataclass(frozen=True, slots=True)
class _ExperimentDocument:
    """An experiment's document: the experiment, the route before it and the present one, who answers for arms that
    cannot, and what every gateway had counted when it was last brought up to date."""

    experiment: Experiment
    base: RouteSpec | None
    route: RouteSpec | None
    stable: str
    salt: str
    observations: Mapping[str, Document]

    @classmethod
    def parse(cls, document: Document) -> "_ExperimentDocument":
        return cls(
            experiments.decode_experiment(document["experiment"]),
            stored_route(document["base"]),
            stored_route(document["route"]),
            document["stable"],
            document["salt"],
            document["seen"],
        )

    def to_document(self) -> Document:
        return {
            "experiment": experiments.encode_experiment(self.experiment),
            "base": None if self.base is None else encode_stored_route(self.base),
            "route": None if self.route is None else encode_stored_route(self.route),
            "stable": self.stable,
            "salt": self.salt,
            "seen": dict(self.observations),
            "told": experiments.experiment_document(self.experiment),
        }

    def stage_route(self, present: RouteSpec | None) -> RouteSpec | None:
        """Return the route with the present weights; after the experiment, the previous route."""
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


def _add_observations(
    experiment: Experiment, before: Mapping[str, Document], now: Mapping[str, Document]
) -> Experiment:
    """Return the experiment with the gateways' new counts; a gateway whose counters restarted counts from now on."""
    requests: dict[str, int] = {}
    for gateway, observation in now.items():
        earlier = before.get(gateway)
        for arm, count in observation["arms"].items():
            gained = 0 if earlier is None else count - earlier["arms"].get(arm, 0)
            requests[arm] = requests.get(arm, 0) + max(0, gained)
    strata = new_strata(before, now, WHOLE)
    return experiments.add_rewards(experiment, strata, requests) if strata or any(requests.values()) else experiment


def _last_observations(before: Mapping[str, Document], now: Mapping[str, Document], stage: int) -> dict[str, Document]:
    """Return the last observation of each gateway that has had the weights of this stage."""
    observations = {}
    for gateway, observation in now.items():
        had = stage in (observation["stage"], before.get(gateway, observation)["stage"])
        observations[gateway] = {**without_strata(observation), "stage": stage if had else observation["stage"]}
    return observations


def _next_change(trial: Trial, after: Experiment, record: ModelRecord) -> TrialChange:
    """Return the changes of one transaction when weights change or a person acts."""
    document = replace(_ExperimentDocument.parse(trial.document), experiment=after)
    document = replace(document, route=document.stage_route(record.route))
    event = None
    if not after.is_open:
        subject, data = f"models/{trial.model}", {"experiment": trial.id, **experiments.experiment_document(after)}
        event = TrialEvent("experiment.finished.v1", subject, trial.id, data)
    return TrialChange(document.to_document(), after.is_open, document.route, event=event, returns=not after.is_open)
