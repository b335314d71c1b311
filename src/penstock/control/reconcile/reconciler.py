"""The reconciler: the only place that changes the desired state, at start and by load and unload requests, in turn."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from penstock.control.periodic import ProblemLog
from penstock.control.reconcile import status
from penstock.control.reconcile.overrides import override_config
from penstock.control.reconcile.planner import (
    ControllerState,
    MaterializedVersion,
    ObservedState,
    ReconcilePlan,
    SourceModel,
    has_pending_alias,
    next_expiry,
    plan,
)
from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired, ModelSpec, ReadyState
from penstock.core.errors import DeadlineExceeded, InvalidInput, NotReady, Overloaded, unknown_model
from penstock.core.versions import VersionKey

log = logging.getLogger("penstock.control")

WAITING = 64
"""Load and unload requests that may wait for their turn."""

FATAL_LOADS = 3
"""Workers that may die while they load the same content of a version; after that it is quarantined."""


class NoModelsYet(NotReady):
    """A source has offered no model since it was opened; it may later."""


class ModelSource(Protocol):
    """A source of models."""

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[SourceModel]:
        """Every model; ``settled_only`` leaves out files that may still be being copied. Rejected versions of the
        model ``retry`` are examined again. The source logs once why a version cannot be served.

        Raises:
            Fault: the source is unreachable, or is empty and was not before.
            NothingYet: it has offered no model so far, and may later.
        """


class ReconcilerWorkers(Protocol):
    """The workers as the reconciler needs them."""

    @property
    def workers(self) -> int:
        """How many there should be."""

    @property
    def reports(self) -> Mapping[int, WorkerReport]:
        """The latest report of each connected worker, by slot."""

    def publish(self, desired: Desired) -> None:
        """Send a desired state to all of them."""

    def save(self, state: ControllerState) -> None:
        """Store the state, so that it outlives this process."""

    def reusable(self, state: ControllerState) -> Collection[VersionKey]:
        """Versions whose counter blocks are unused, if no other block is free."""

    def departed_versions(self, state: ControllerState) -> Collection[VersionKey]:
        """Versions that were removed so long ago that their metrics have ended."""

    def clear(self, block: int) -> None:
        """Zero a counter block in every slot."""


class Reconciler:
    """Holds the models of the source and the requests of operators, and publishes the desired state that follows.

    ``decorate`` adds what the source does not know, such as how versions are monitored. ``clock`` gives seconds since
    the epoch, ``memory_bytes`` bounds the models of a worker (None: not at all). Belongs to the event loop.
    """

    def __init__(
        self,
        source: ModelSource,
        fleet: ReconcilerWorkers,
        state: ControllerState,
        last_block: int,
        load_s: float,
        clock: Callable[[], float] = time.time,
        memory_bytes: int | None = None,
    ) -> None:
        self._source = source
        self._fleet = fleet
        self._state = state
        self._last_block = last_block
        self._load_s = load_s
        self._clock, self._memory_bytes = clock, memory_bytes
        self._problem_log = ProblemLog()
        self._found: dict[str, SourceModel] = {}
        self._turn = asyncio.Lock()
        self._look = asyncio.Lock()
        self._waiting = 0
        self._waiting_for = ""
        self._changed = asyncio.Event()
        self._problems: dict[str, str] = {}
        self._fatal: Counter[tuple[str, str, str]] = Counter()
        self.decorate: Callable[[Desired], Desired] = lambda desired: desired
        self.desired = Desired()

    @property
    def state(self) -> ControllerState:
        """The controller state that belongs to the present desired state."""
        return self._state

    def begin(self, models: Sequence[SourceModel]) -> None:
        """Publish the first desired state."""
        self._waiting_for = ""
        self._found = {model.name: self._as_configured(model) for model in models}
        self._publish(self._state)

    def wait(self, reason: str, publish: bool) -> None:
        """Serve nothing until ``begin``, and refuse load requests; ``reason`` says why. ``publish`` says whether the
        workers are sent the empty state; otherwise they keep serving what they have."""
        self._waiting_for = reason
        if publish and not self.desired.waiting:
            self._publish(self._state)

    def materialized_version(self, model: str, version: str) -> MaterializedVersion | None:
        """The content of a version, None if the source has no such version."""
        source = self._found.get(model)
        return None if source is None else source.versions.get(version)

    def offered_versions(self) -> set[VersionKey]:
        """Every version that the source has."""
        return {(source.name, version) for source in self._found.values() for version in source.versions}

    def rejection_reason(self, model: str, version: str) -> str:
        """Why the newest content of a version is rejected, "" if it is accepted."""
        source = self._found.get(model)
        why = "" if source is None else source.refused.get(version, "")
        if source is not None and why:
            why = source.details.get(version, why)
        return f"its newest content is rejected: {why}" if why else ""

    def detail(self, model: str, version: str) -> str:
        """The full reason why a version (or, "", the model) is not served; "" where the public reason is complete."""
        source = self._found.get(model)
        return "" if source is None else source.details.get("" if source.problem else version, "")

    def on_report(self) -> None:
        """Handle a new report, a new connection or the end of one."""
        self._changed.set()
        self._changed = asyncio.Event()
        self.step()

    def step(self) -> None:
        """Publish changes that follow from time and the workers' progress: aliases that may move, versions that
        expire; release the counter blocks of versions that were removed long ago."""
        expiry = next_expiry(self._state)
        if has_pending_alias(self._found.values(), self._state) or (expiry is not None and expiry <= self._clock()):
            self._publish_if_new()
        if departed := self._fleet.departed_versions(self._state):
            self._release_blocks(departed)

    def _release_blocks(self, departed: Collection[VersionKey]) -> None:
        for key in departed:
            self._fleet.clear(self._state.blocks[key])
        blocks = {key: block for key, block in self._state.blocks.items() if key not in departed}
        self._fleet.save(state := replace(self._state, blocks=blocks))
        self._state = state

    async def refresh(self) -> None:
        """Scan the whole source and publish what has changed; a model that cannot be read keeps its state.

        Raises:
            Fault: the source is unreachable, or is empty and was not before.
        """
        self._refuse_early()
        async with self._look:
            scanned = await self._source.scan(settled_only=True)
            self._found = {model.name: self._fall_back(self._as_configured(model)) for model in scanned}
            self._publish_if_new()

    def _refuse_early(self) -> None:
        if self._waiting_for:
            raise NotReady("no model can be loaded yet; GET /readyz on the ops port says why")

    def _fall_back(self, model: SourceModel) -> SourceModel:
        """The previous state of a model none of whose versions can be served any more; else the model."""
        before = self._found.get(model.name)
        if not model.problem or before is None or before.problem:
            return model
        if self._problems.get(model.name) != model.problem:
            log.warning("model %s keeps its previous versions: %s", model.name, model.problem)
        self._problems[model.name] = model.problem
        return before

    async def load(self, model: str, config: str | None) -> None:
        """Scan the source of a model again and serve it; returns when every worker does.

        Raises:
            NotFound: the model does not exist.
            InvalidInput: the model or its given configuration cannot be served; the previous versions still answer.
            NotReady: its repository is unreachable.
            OverBudget: there is no memory or no counter block for it.
            DeadlineExceeded: it took longer than ``load_s``.
            Overloaded: too many requests wait.
        """
        self._refuse_early()
        with self._take_turn():
            async with self._turn:
                async with self._look:
                    source = await self._find(model)
                    configs = {name: text for name, text in self._state.configs.items() if name != model}
                    if config is not None:
                        source = await asyncio.to_thread(override_config, source, config)
                        configs[model] = config
                    self._refuse_problem(source)
                    self._found[model] = source
                    self._publish(self._state_for_retry(replace(self._state, configs=configs), model))
                await self._wait_until_loaded(model)
                if source.refused:
                    raise InvalidInput(
                        "; ".join(
                            status.explain_refusal(model, version, why) for version, why in source.refused.items()
                        )
                    )

    async def unload(self, model: str) -> None:
        """Stop serving a model; returns when no worker does, its last calls have ended and its memory is free.

        Raises:
            NotFound: the model does not exist.
            DeadlineExceeded: it took longer than ``load_s``.
            Overloaded: too many requests wait.
        """
        with self._take_turn():
            async with self._turn:
                if model not in self._found:
                    raise unknown_model(model)
                self._publish(replace(self._state, unloaded=self._state.unloaded | {model}))
                await self._wait_until(self.is_applied, model)
            await self._wait_until(lambda: status.is_released(model, self._fleet.reports.values()), model)

    def is_applied(self) -> bool:
        """Whether every connected worker has applied the present desired state."""
        return status.is_applied(self.desired, self._fleet.reports.values())

    async def wait_loaded(self, model: str, version: str, seconds: float) -> bool:
        """Wait until every worker has tried to load this version; False after that many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not self._has_been_tried(model, version):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def wait_applied(self, seconds: float) -> bool:
        """Wait until no alias waits and every worker has applied the desired state; False after that many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while has_pending_alias(self._found.values(), self._state) or not self.is_applied():
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def renew(self) -> None:
        """Publish what has changed, after a change outside the source."""
        if self.desired.revision:
            self._publish_if_new()

    def _has_been_tried(self, model: str, version: str) -> bool:
        specs = [spec for spec in self.desired.models if spec.name == model]
        for spec in (item for source in specs for item in source.versions if item.version == version):
            return status.version_tried(model, spec, self._fleet.reports, self._fleet.workers)
        return (
            any(version in spec.unavailable for spec in specs) or self.materialized_version(model, version) is not None
        )

    def _as_configured(self, model: SourceModel) -> SourceModel:
        """The model with the configuration that an operator gave it, if any."""
        config = self._state.configs.get(model.name)
        try:
            configured = model if config is None else override_config(model, config)
        except InvalidInput as fault:
            text = (
                f"model {model.name} is served with its own configuration, as the given one does not suit it: {fault}"
            )
            self._problem_log.report(model.name, text, fault)
            return model
        self._problem_log.clear(model.name)
        return configured

    def on_worker_death(self, report: WorkerReport) -> None:
        """Handle the death of a worker; a version whose loading kills several workers is quarantined."""
        loading = [version for version in report.versions.values() if version.state is ReadyState.LOADING]
        for version in loading:
            case = (*(key := (version.model, version.version)), version.tag)
            self._fatal[case] += 1
            if self._fatal[case] >= FATAL_LOADS and key not in self._state.quarantine:
                self._quarantine(key)

    def _refuse_problem(self, source: SourceModel) -> None:
        if not source.problem:
            return
        if source.name not in self._found:  # known from now on, although only by its problem
            self._found[source.name] = source
            self._publish(self._state)
        raise InvalidInput(status.explain_refusal(source.name, "", source.problem))

    def _quarantine(self, key: VersionKey) -> None:
        log.error("model %s version %s is quarantined: %d workers died while they loaded it", *key, FATAL_LOADS)
        reason = "loading it killed the worker process several times"
        self._publish(replace(self._state, quarantine={**self._state.quarantine, key: reason}))

    def _state_for_retry(self, state: ControllerState, model: str) -> ControllerState:
        """The state for a new attempt: content that failed is tried again although it has not changed."""
        failed = any(
            status.reason
            for report in self._fleet.reports.values()
            for status in report.versions.values()
            if status.model == model
        )
        attempts = dict(state.attempts)
        if failed or any(name == model for name, _ in state.quarantine):
            attempts[model] = attempts.get(model, 0) + 1
        quarantine = {key: reason for key, reason in state.quarantine.items() if key[0] != model}
        return replace(state, unloaded=state.unloaded - {model}, attempts=attempts, quarantine=quarantine)

    async def _find(self, model: str) -> SourceModel:
        try:
            scanned = await self._source.scan(settled_only=False, retry=model)
        except InvalidInput:
            scanned = []  # the folder holds no model any more
        for source in scanned:
            if source.name == model:
                return source
        raise unknown_model(model)

    def _publish_if_new(self) -> None:
        desired = self._make_plan(self._state).desired
        if (desired.models, desired.waiting) != (self.desired.models, self.desired.waiting):
            self._publish(self._state)

    def _publish(self, state: ControllerState) -> None:
        planned = self._make_plan(state)
        for block in planned.cleared:
            self._fleet.clear(block)
        self._fleet.save(planned.state)  # first: what could not be stored is not published, and is planned again
        self._state, self.desired = planned.state, planned.desired
        self._fleet.publish(self.desired)

    def _make_plan(self, state: ControllerState) -> ReconcilePlan:
        observed = ObservedState(self._clock(), self._ready(), self._fleet.reusable(state), self._memory_bytes)
        planned = plan(list(self._found.values()), state, self._last_block, observed)
        desired = self.decorate(planned.desired)
        return replace(planned, desired=replace(desired, waiting=bool(self._waiting_for)))

    def _ready(self) -> Collection[VersionKey]:
        statuses = status.find_statuses(self.desired, self._fleet.reports, self._fleet.workers)
        return {(status.model, status.version) for status in statuses if status.state is ReadyState.READY}

    async def _wait_until_loaded(self, model: str) -> None:
        await self._wait_until(lambda: self._load_result(model) is not None, model)
        if failed := self._load_result(model):
            raise status.load_fault(self._spec(model), failed)

    def _load_result(self, model: str) -> dict[str, str] | None:
        return status.load_results(self._spec(model), self._fleet.reports, self._fleet.workers)

    def _spec(self, model: str) -> ModelSpec:
        return next(spec for spec in self.desired.models if spec.name == model)

    async def _wait_until(self, done: Callable[[], bool], model: str) -> None:
        try:
            async with asyncio.timeout(self._load_s):
                while not done():
                    await self._changed.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"model '{model}' was not ready within {self._load_s:g} s") from None

    @contextmanager
    def _take_turn(self) -> Iterator[None]:
        if self._waiting >= WAITING:
            raise Overloaded(f"{WAITING} repository requests are waiting already; try again later")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
