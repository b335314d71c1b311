"""The common part of rollouts and experiments: every gateway stores its counts, and the leader acts.

All that a trial is lies in the database, so any gateway can go on where another one stopped. What is counted counts
only while all of a gateway's workers have had the trial's present weights for a moment.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol

from penstock.control.calls.blocking import READ_S, BlockingPool
from penstock.control.calls.repeated_read import RepeatedRead
from penstock.control.delivery.background_serving import BackgroundServing
from penstock.control.delivery.model_versions import of_model
from penstock.control.delivery.observations import NOT_CONVERGED, known_until
from penstock.control.monitoring.label_comparisons import ComparedSignal, ComparisonTerms, LabelComparisons
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.desired import Desired, ReadyState, VersionStatus
from penstock.core.errors import Conflict, Fault, NotReady, Refused, unknown_model
from penstock.core.routing import RouteSpec, decode_stored_route
from penstock.monitor.counters.totals import Totals
from penstock.registry.records import AuditEntry, Author, Document, ModelRecord
from penstock.registry.stores.traffic import TrafficStore, Trial, TrialChange

STEP_S = 0.5
SETTLE_S = 1.0
"""Time after a change of weights that does not count: caches are cold, and earlier answers are still open."""

SILENT_S = 10.0
"""Silence after which the leader does not wait for a gateway."""

NEWEST_STEPS = 10
"""Number of steps after which a gateway searches for trials that it has not read."""

UNREADABLE = (AttributeError, KeyError, TypeError, ValueError, Fault)
"""Exceptions for a document of an unknown format."""

LONGEST_S = 5.0
"""Maximum interval between two attempts to conduct a failing trial."""

TRIES = 20
THREADS = 4
CONTROLLER = "controller"


class TrialWorkers(Protocol):
    """The workers of this gateway, as trials need them."""

    @property
    def desired(self) -> Desired:
        """Return the desired state."""

    def is_applied(self) -> bool:
        """Whether all workers have applied it."""

    def statuses(self) -> list[VersionStatus]:
        """Return every version of every model."""

    def totals(self, model: str, version: str) -> Totals:
        """Return the counts of a version."""

    def losses(self, model: str, version: str) -> int:
        """Return how many workers have ended with calls of a version in flight, since the instance began."""

    def outputs(self, model: str, version: str) -> int:
        """Return the number of outputs of a version."""

    async def serve_changes(self) -> bool:
        """Publish stored changes to the workers; return whether all have applied them."""

    def renew(self) -> None:
        """Publish changes to the workers."""


@dataclass(slots=True)
class _Convergence:
    """The time since which this gateway's workers have the weights of a stage (seconds since the epoch)."""

    stage: int
    since: float


class TrialController(ABC):
    """All trials of one kind as seen by this gateway; ``gateway`` names its counters, ``labels`` match the labels of
    its answers, ``clock`` gives seconds since the epoch, by default the database's.
    """

    kind: ClassVar[str]
    signal: ClassVar[ComparedSignal]

    def __init__(
        self,
        store: TrafficStore,
        fleet: TrialWorkers,
        gateway: str,
        labels: LabelComparisons,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.store = store
        self.leader = store.as_leader()
        self.fleet = fleet
        self.labels = labels
        self.clock = clock or store.now
        self.gateway = gateway
        self._pool = BlockingPool(f"{self.kind}s", THREADS)
        self.run_on_thread = self._pool.call
        self.pools: tuple[BlockingPool, ...] = (self._pool,)
        self._open_trials = RepeatedRead(partial(self.run_on_thread, store.open_trials), store.change_mark)
        self._newest_trials = RepeatedRead(partial(self.run_on_thread, store.newest, self.kind), store.change_mark)
        self.background = BackgroundServing(fleet)
        self._convergences: dict[str, _Convergence] = {}
        self._steps = 0
        self._has_open = True
        self.task = PeriodicTask(f"{self.kind}s", self.step, STEP_S)
        self._keyed: KeyedWork[str] = KeyedWork(self.task, self.kind, (STEP_S, LONGEST_S), shared=(NotReady,))
        self.newest: dict[str, Trial] = {}
        self._vote_rounds: dict[str, str] = {}

    # What a kind of trial is.

    @abstractmethod
    def first_change(
        self, document: Document, statuses: Mapping[str, VersionStatus], record: ModelRecord, trial_id: str
    ) -> TrialChange:
        """Return the first stored state of a new trial; raises the faults of ``begin``."""

    @abstractmethod
    def apply_verb(self, trial: Trial, verb: str, reason: str) -> Callable[[ModelRecord], TrialChange]:
        """Return the change that a verb of the admin API makes.

        Raises:
            Conflict: the trial is over, or already in that state.
            NotFound: trials of this kind have no such verb.
        """

    @abstractmethod
    def own_counts(self, trial: Trial) -> Document:
        """Return what this gateway has counted for a trial, without the stage."""

    @abstractmethod
    def comparison_terms(self, trial: Trial) -> ComparisonTerms | None:
        """Return what the labels of the present stage are compared by; None if the trial needs no labels."""

    @abstractmethod
    def current_route(self, trial: Trial) -> tuple[RouteSpec | None, int]:
        """Return the route that the trial has set for its model, and the number of the stage it belongs to."""

    @abstractmethod
    async def conduct(self, trial: Trial, observed: Mapping[str, Document], acknowledged: bool) -> None:
        """Move a trial forward by at most one step, by the observations of all gateways.

        ``acknowledged`` means that all workers of the fleet have the weights of the present stage.
        """

    @abstractmethod
    def to_api(self, trial: Trial) -> Document:
        """Return a trial as the admin API shows it."""

    # What people ask for.

    async def begin(self, model: str, document: Document, by: Author) -> Document:
        """Start a trial.

        Raises:
            InvalidInput: with every fault of the document.
            NotFound: no such model or version.
            Refused: a version is not ready, or something else stands against it.
            Conflict: another one of the model is not over.
        """
        return await self._begin(self.store, model, document, by)

    async def begin_as_leader(self, model: str, document: Document, by: Author) -> Document:
        """Begin a trial that the leader has decided; also raises ``NotLeading``."""
        return await self._begin(self.leader, model, document, by)

    async def _begin(self, store: TrafficStore, model: str, document: Document, by: Author) -> Document:
        statuses = of_model(self.fleet.statuses(), model)
        if not statuses:
            raise unknown_model(model)
        trial = await self.run_on_thread(
            store.begin, model, self.kind, partial(self.first_change, document, statuses), by
        )
        await self.fleet.serve_changes()
        self._converged_stage(trial)
        return self.to_api(trial)

    async def list_trials(self, model: str) -> list[Document]:
        """Return a model's trials, newest first.

        Raises:
            NotFound: no such model.
        """
        trials = await self.run_on_thread(self.store.trials, model, self.kind, deadline_s=READ_S)
        if not trials and not of_model(self.fleet.statuses(), model):
            raise unknown_model(model)
        return [
            document async for trial in with_turns(trials) if (document := self._to_api_if_readable(trial)) is not None
        ]

    def _readable(self, trial: Trial) -> Trial:
        """Return the trial; raises ``Refused`` if its document has an unknown format."""
        try:
            self.current_route(trial)
        except UNREADABLE as error:
            known = f"{self.kind} {trial.id} was written by another release of Penstock"
            raise Refused(f"{known}; a gateway of that release can show and end it", detail=repr(error)) from None
        return trial

    def _to_api_if_readable(self, trial: Trial) -> Document | None:
        """Return a trial as the admin API shows it; None for an unknown format of a newer gateway."""
        try:
            return self.to_api(trial)
        except UNREADABLE:
            return None

    async def get_trial(self, model: str, trial_id: str) -> Document:
        """Return one trial with its changes; raises ``NotFound``, or ``Refused`` if its format is unknown."""
        trial = self._readable(await self._find(model, trial_id))
        entries = await self.run_on_thread(self.store.trial_changes, trial, deadline_s=READ_S)
        changes = [_change_document(entry) for entry in entries]
        return {**self.to_api(trial), **self.evidence_history(trial), "changes": changes}

    def evidence_history(self, _: Trial) -> Document:
        """Return the evidence over time that a kind of trial records, to add to its document."""
        return {}

    async def act(self, model: str, trial_id: str, verb: str, by: Author) -> Document:
        """Apply a verb of the admin API, regardless of the evidence.

        Raises:
            NotFound: no such trial, or nothing that can be asked for.
            Refused: it is of another form.
            Conflict: it is over, or not in a state for this, or something else has moved meanwhile.
        """
        for _ in range(TRIES):  # the controller may be writing at the same moment
            trial = await self._find(model, trial_id)
            make = self.apply_verb(self._readable(trial), verb, by.reason)
            try:
                changed = await self.run_on_thread(self.store.change, trial, make, verb, by)
            except Conflict:
                if (await self._find(model, trial_id)).revision == trial.revision:
                    raise
                continue
            self.newest[model] = changed
            await self.fleet.serve_changes()
            self._converged_stage(changed)
            return self.to_api(changed)
        raise Conflict(f"the {self.kind} is changing at this moment; try again")

    async def _find(self, model: str, trial_id: str) -> Trial:
        return await self.run_on_thread(self.store.trial, model, self.kind, trial_id, deadline_s=READ_S)

    # What happens by itself.

    async def step(self) -> None:
        """Store this gateway's observations; as the leader, also move each trial forward by at most one step."""
        if not self._has_open and self._open_trials.is_current() and self._newest_trials.is_current():
            return  # there was no trial, and nothing was written since
        trials = [trial for trial in await self._open_trials.value() if trial.kind == self.kind]
        self.newest |= {trial.model: trial for trial in trials}
        await self._note_closed({trial.id for trial in trials})
        self._convergences = {
            trial.id: self._convergences[trial.id] for trial in trials if trial.id in self._convergences
        }
        self._has_open = bool(trials)
        self.labels.retain(self.signal, {trial.id for trial in trials})
        self._open_votes(trials)
        due = set(self._keyed.due(trial.id for trial in trials))
        leads: bool = bool(due) and await self.run_on_thread(self.store.acquire_leadership)
        for trial in trials:
            if trial.id in due:
                with self._keyed.isolated(trial.id):
                    await self._observe(trial)
                    if leads:
                        await self._conduct(trial)

    def decorate(self, desired: Desired) -> Desired:
        """Add to the desired state the rounds in which units of sticky splits vote here."""
        models = tuple(
            replace(model, vote_round=self._vote_rounds[model.name]) if model.name in self._vote_rounds else model
            for model in desired.models
        )
        return replace(desired, models=models)

    def _open_votes(self, trials: Iterable[Trial]) -> None:
        """Have the workers take votes in the stages for which the trial has stored an observation of this gateway, and
        in no others: everything counted from then on becomes evidence.
        """
        rounds: dict[str, str] = {}
        for trial in trials:
            with suppress(*UNREADABLE):  # noted where it is looked at
                route, stage = self.current_route(trial)
                if route is not None and route.sticky and _stage_of(trial.document["seen"].get(self.gateway)) == stage:
                    rounds[trial.model] = f"{trial.id}/{stage}"
        if rounds != self._vote_rounds:
            self._vote_rounds = rounds
            self.fleet.renew()

    async def _observe(self, trial: Trial) -> None:
        await self.run_on_thread(self.store.observe, trial.id, self.gateway, self._observation(trial))

    async def _conduct(self, trial: Trial) -> None:
        observed: dict[str, Document] = await self.run_on_thread(self.store.observations, trial.id)
        await self.conduct(trial, observed, self._is_acknowledged(trial, observed.values()))

    async def _note_closed(self, open_ids: set[str]) -> None:
        """Update the closed trials that this gateway shows: every gateway shows the same, even one that began later."""
        ended = any(trial.open and trial.id not in open_ids for trial in self.newest.values())
        self._steps += 1
        if not ended and self._steps % NEWEST_STEPS != 1:
            return
        for model, (trial_id, revision) in (await self._newest_trials.value()).items():
            previous = self.newest.get(model)
            if previous is None or (previous.id, previous.revision) != (trial_id, revision):
                self.newest[model] = await self._find(model, trial_id)

    def _is_acknowledged(self, trial: Trial, observed: Iterable[Document]) -> bool:
        """Return whether every living gateway has the present weights on all its workers."""
        stage = self.current_route(trial)[1]
        living = [observation for observation in observed if self.clock() - observation["at"] < SILENT_S]
        return bool(living) and all(observation["stage"] == stage for observation in living)

    def _observation(self, trial: Trial) -> Document:
        stage = self._converged_stage(trial)
        return {"stage": stage, "at": self.clock(), **self.own_counts(trial), "labels": self._own_labels(trial)}

    def _own_labels(self, trial: Trial) -> Document | None:
        """Return the labels that the leader has not taken over yet; None if the trial needs none."""
        terms = self.comparison_terms(trial)
        if terms is None:
            return None
        observation = trial.document["seen"].get(self.gateway)
        return self.labels.closed_strata(trial.id, terms.stage, known_until(observation, terms.stage))

    def _converged_stage(self, trial: Trial) -> int:
        """Return the stage whose weights all workers here have had for ``SETTLE_S``, else ``NOT_CONVERGED``."""
        route, stage = self.current_route(trial)
        served = next((model.route for model in self.fleet.desired.models if model.name == trial.model), None)
        now = self.clock()
        if served != route or not self.fleet.is_applied():
            self._convergences.pop(trial.id, None)
            return NOT_CONVERGED
        convergence = self._convergences.get(trial.id)
        if convergence is None or convergence.stage != stage:
            before = _stage_of(trial.document["seen"].get(self.gateway))
            convergence = self._convergences[trial.id] = _Convergence(stage, now - SETTLE_S if before == stage else now)
            if (terms := self.comparison_terms(trial)) is not None:
                self.labels.start(terms)
        return stage if now - convergence.since >= SETTLE_S else NOT_CONVERGED

    def is_able(self, model: str, version: str) -> bool:
        """Whether a version answers, or will soon."""
        status = of_model(self.fleet.statuses(), model).get(version)
        return status is not None and status.state is not ReadyState.UNAVAILABLE

    def common_fields(self, trial: Trial) -> Document:
        """Return the fields that every trial shows."""
        return {
            "id": trial.id,
            "model": trial.model,
            "revision": trial.revision,
            "created_at": trial.created_at,
            "created_by": trial.created_by,
            **({"problem": problem} if (problem := self._keyed.problem(trial.id)) else {}),
        }

    def close(self) -> None:
        """End the threads."""
        self.background.close()
        for pool in self.pools:
            pool.close()


async def with_turns(trials: Iterable[Trial]) -> AsyncIterator[Trial]:
    """Yield trials, with a turn of the event loop in between: there may be hundreds."""
    for trial in trials:
        await asyncio.sleep(0)
        yield trial


def _change_document(entry: AuditEntry) -> Document:
    """Return a change of a trial as the admin API shows it: who did what and why, and the state after it."""
    after = entry.after or {}
    state: Document = {name: after[name] for name in ("state", "step", "weight") if name in after}
    action = entry.action.partition(".")[2]
    return {"seq": entry.seq, "at": entry.at, "actor": entry.actor, "action": action, "reason": entry.reason, **state}


def _stage_of(observation: Document | None) -> int:
    stage: int = NOT_CONVERGED if observation is None else observation["stage"]
    return stage


def stored_route(stored: Any) -> RouteSpec | None:
    """Return the route in a trial's document."""
    return None if stored is None else decode_stored_route(stored)
