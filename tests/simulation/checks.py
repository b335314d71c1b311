"""Holds a run to the invariants: some after each step, the rest once everything has come to rest."""

from collections import Counter
from collections.abc import Iterable, Set

from penstock.control.retraining.candidates import RULES
from penstock.core.rollouts.rollout import RolloutState
from penstock.core.versions import VersionKey
from penstock.registry.records import ModelRecord, VersionState
from penstock.registry.stores.traffic import EXPERIMENT, Trial
from tests.simulation import invariants
from tests.simulation.faults import CHANGES, FAILED, WRITTEN
from tests.simulation.gateway import Gateway, World
from tests.simulation.operations import Asked, harmful
from tests.simulation.true_state import TrueState

EVIDENCE_EVERY = 8
"""Steps between two looks at what gateways have published."""


def does_harm(trial: Trial) -> bool:
    """Whether an open rollout gives traffic to a version that fails requests."""
    reported = trial.document["told"]
    return trial.kind != EXPERIMENT and bool(reported["weight"]) and harmful((trial.model, reported["to"]))


class Checks:
    """One run's; ``gateways`` are those that live, ``gone`` those that were replaced."""

    def __init__(self, world: World, counts: Counter[str], asked: list[Asked]) -> None:
        self._world = world
        self._counts = counts
        self._asked = asked
        self.gateways: list[Gateway] = []
        self.gone: list[Gateway] = []
        self.state = TrueState(world.opened(), world.loop.wall)
        self.audit = invariants.Audit()
        self._harm = invariants.Harm()
        self._leaderless_s = 0.0
        self._ended: set[str] = set()
        self.harmful: list[str] = []
        self._retired: set[VersionKey] = set()
        self._revision = -1
        self._checked_at = 0.0
        self._number = 0

    def check(self) -> None:
        """Check what always holds."""
        invariants.one_leads_in_a_term(gateway.lease.term for gateway in self.gateways)
        invariants.only_the_leader_writes(WRITTEN)
        invariants.failures_explain_themselves(FAILED)
        self._check_time()
        revision = self.state.store.revision()
        if revision != self._revision:
            self._revision = revision
            self._check_changes()
        self._number += 1
        if self._number % EVIDENCE_EVERY == 0:
            invariants.nothing_counts_twice(self.state.counted(), self._answered([*self.gateways, *self.gone]))

    def _check_time(self) -> None:
        now = self._world.loop.time()
        passed, self._checked_at = now - self._checked_at, now
        if not all(gateway.sound for gateway in self.gateways):
            return
        led = any(gateway.lease.term is not None for gateway in self.gateways)
        self._leaderless_s = 0.0 if led else self._leaderless_s + passed
        invariants.somebody_leads(self._leaderless_s)
        self._harm.add(self.harmful, passed)

    def _check_changes(self) -> None:
        models = self.state.store.models()
        invariants.aliases_lead_to_versions(models)
        invariants.routes_are_whole(models)
        invariants.routes_lead_to_versions(models)
        invariants.contents_are_kept(models, self._world.bucket.contents)
        self.audit.read(self.state)
        invariants.what_was_acknowledged_is_written(self._asked, self.audit)
        invariants.what_was_refused_is_not_written(self._asked, self.audit)
        invariants.an_operation_is_one_transaction(self._asked, CHANGES)
        self._retired |= _retired(models)
        self._check_trials({model.name: model for model in models})

    def _check_trials(self, models: dict[str, ModelRecord]) -> None:
        self.harmful = []
        happened = self.state.happened()
        invariants.requests_keep_the_budget(happened)
        for trial in self.state.trials(but=self._ended):
            if trial.kind == EXPERIMENT:
                invariants.rewards_count_once(trial, self._world.labels.rewards)
            elif trial.created_by == RULES:
                invariants.candidates_have_passed(trial, models[trial.model])
                invariants.candidates_are_approved(trial, happened)
            if trial.open:
                self.harmful += [trial.id] if does_harm(trial) else []
            else:
                self._end(trial)

    def _end(self, trial: Trial) -> None:
        state = trial.document[trial.kind]["state"]
        if state == RolloutState.PROMOTED:
            invariants.what_is_promoted_does_no_harm(trial)
            invariants.what_is_promoted_is_the_champion(trial, self.audit)
        else:
            invariants.ends_restore_the_route(trial, self.audit)
        self._ended.add(trial.id)
        self._counts[f"{trial.kind} {state}"] += 1
        if trial.created_by == RULES:
            self._counts[f"{trial.kind} of rules {state}"] += 1

    def at_rest(self, known: Set[VersionKey]) -> None:
        """Check what holds when nothing is under way any more, and nobody answers; ``known`` are versions that have
        been served for a while."""
        self._check_evidence(known - self._retired)
        opened = len(self.state.traffic.open_trials())
        number = len(self.gateways) + len(self.gone)
        invariants.counts_belong_to_open_trials(self.state.observations(), opened, number)
        self._counts.update(f"event {kind}" for kind, _ in self.state.happened())

    def _check_evidence(self, known: Set[VersionKey]) -> None:
        counted, labelled = self.state.counted(), self.state.labelled()
        answered = self._answered(self.gateways)
        published = sum((item.published for item in self.gone), Counter[VersionKey]())
        kept = {key: answered[key] + published[key] for key in known}
        invariants.nothing_counts_twice(counted, self._answered([*self.gateways, *self.gone]))
        invariants.nothing_is_lost(counted, kept)
        invariants.labels_count_once(labelled)
        invariants.labels_count_for_their_version(labelled, self._world.labels)
        invariants.no_label_is_lost(labelled, self._world.labels, but=self._retired)
        self._check_reports(known, counted, Counter(key for key, _ in labelled))

    def _check_reports(
        self, known: Set[VersionKey], counted: dict[VersionKey, int], labelled: Counter[VersionKey]
    ) -> None:
        """The gateway that leads tells the sum."""
        leader = next(gateway for gateway in self.gateways if gateway.lease.term is not None)
        for key in known:
            reported = leader.evidence.describe(key)
            found = (
                None
                if reported is None
                else (reported["answered"], (reported["performance"] or {"labels": 0})["labels"])
            )
            invariants.the_leader_reports_the_sum(key, found, (counted[key], labelled[key]))

    def served(self) -> set[VersionKey]:
        """The versions that gateways serve."""
        return {key for gateway in self.gateways for key in gateway.monitoring.own_counts()}

    @staticmethod
    def _answered(gateways: Iterable[Gateway]) -> Counter[VersionKey]:
        return sum((gateway.workers.answered for gateway in gateways), Counter[VersionKey]())


def _retired(models: Iterable[ModelRecord]) -> set[VersionKey]:
    return {
        (model.name, name)
        for model in models
        for name, version in model.versions.items()
        if version.state is VersionState.RETIRED
    }
