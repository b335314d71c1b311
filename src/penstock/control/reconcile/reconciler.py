"""The one place where the desired state changes: at start, and by load and unload requests, one after the other."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from penstock.control.periodic import Complaints
from penstock.control.reconcile import status
from penstock.control.reconcile.overrides import overridden
from penstock.control.reconcile.planner import (
    Found,
    Ledger,
    Materialized,
    Observed,
    Plan,
    next_expiry,
    pending,
    plan,
)
from penstock.control.workers.server import Report
from penstock.core.desired import Desired, ModelSpec, State
from penstock.core.errors import DeadlineExceeded, InvalidInput, NotReady, Overloaded, unknown_model
from penstock.core.versions import VersionKey

log = logging.getLogger("penstock.control")

WAITING = 64
"""Load and unload requests that may wait for their turn."""

FATAL_LOADS = 3
"""Workers that may end while they load the same content of a version before nobody tries it again."""


class NothingYet(NotReady):
    """A source has had nothing to offer since it was opened; it may have later."""


class Source(Protocol):
    """Where models come from."""

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[Found]:
        """Every model there is; ``settled_only`` leaves out what may still be on its way in. What was refused of the
        model ``retry`` is looked at anew. Why something cannot be served is logged by the source, once.

        Raises:
            Fault: the source is away, or has nothing to offer where it had something before.
            NothingYet: it never had anything to offer, and may have later.
        """


class Fleet(Protocol):
    """The workers, as far as the desired state goes."""

    @property
    def workers(self) -> int:
        """How many there should be."""

    @property
    def reports(self) -> Mapping[int, Report]:
        """What the connected ones said last, by slot."""

    def publish(self, desired: Desired) -> None:
        """Tell all of them."""

    def save(self, ledger: Ledger) -> None:
        """Keep what must outlive this process."""

    def reusable(self, ledger: Ledger) -> Collection[VersionKey]:
        """Versions whose counter blocks nobody uses any more, if there is no other block left."""

    def departed(self, ledger: Ledger) -> Collection[VersionKey]:
        """Versions that have been gone for long enough for nothing to be told of them any more."""

    def clear(self, block: int) -> None:
        """Zero a counter block in every slot."""


class Reconciler:
    """Holds what was found and what was asked for, and publishes the desired state that follows.

    ``decorate`` adds to it what the source does not say, such as how versions are watched.

    ``clock`` gives the time in seconds since the epoch.
    """

    def __init__(
        self,
        source: Source,
        fleet: Fleet,
        ledger: Ledger,
        last_block: int,
        load_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._fleet = fleet
        self._ledger = ledger
        self._last_block = last_block
        self._load_s = load_s
        self._clock = clock
        self._complaints = Complaints()
        self._found: dict[str, Found] = {}
        self._turn = asyncio.Lock()
        self._look = asyncio.Lock()
        self._waiting = 0
        self._waiting_for = ""
        self._news = asyncio.Event()
        self._problems: dict[str, str] = {}
        self._fatal: Counter[tuple[str, str, str]] = Counter()
        self.decorate: Callable[[Desired], Desired] = lambda desired: desired
        self.desired = Desired()

    @property
    def ledger(self) -> Ledger:
        """What the present desired state rests on."""
        return self._ledger

    def begin(self, found: Sequence[Found]) -> None:
        """Publish the first desired state."""
        self._waiting_for = ""
        self._found = {model.name: self._as_configured(model) for model in found}
        self._publish(self._ledger)

    def wait(self, reason: str, publish: bool) -> None:
        """Serve nothing until ``begin``, and refuse load requests with the ``reason``; ``publish`` it to the workers,
        else those that serve something go on."""
        first, self._waiting_for = not self._waiting_for, reason
        if publish and first:
            self._publish(self._ledger)

    def placed(self, model: str, version: str) -> Materialized | None:
        """A version's content, None if the source has no such version."""
        found = self._found.get(model)
        return None if found is None else found.versions.get(version)

    def offered(self) -> set[VersionKey]:
        """Every version that the source has."""
        return {(found.name, version) for found in self._found.values() for version in found.versions}

    def refused(self, model: str, version: str) -> str:
        """Why a version's newest content is not taken, "" if it is."""
        found = self._found.get(model)
        why = "" if found is None else found.refused.get(version, "")
        if found is not None and why:
            why = found.details.get(version, why)
        return f"its newest content is not taken: {why}" if why else ""

    def detail(self, model: str, version: str) -> str:
        """The whole reason why a version (or, "", the model) is not served as it is now, "" where callers know it."""
        found = self._found.get(model)
        return "" if found is None else found.details.get("" if found.problem else version, "")

    def changed(self) -> None:
        """A worker reported something, came or went."""
        self._news.set()
        self._news = asyncio.Event()
        self.step()

    def step(self) -> None:
        """Publish what time and the workers' progress have changed: aliases that may move on, versions that may go;
        take counter blocks back of versions that went long ago."""
        expiry = next_expiry(self._ledger)
        if pending(self._found.values(), self._ledger) or (expiry is not None and expiry <= self._clock()):
            self._publish_if_new()
        if departed := self._fleet.departed(self._ledger):
            self._take_back(departed)

    def _take_back(self, departed: Collection[VersionKey]) -> None:
        for key in departed:
            self._fleet.clear(self._ledger.blocks[key])
        blocks = {key: block for key, block in self._ledger.blocks.items() if key not in departed}
        self._ledger = replace(self._ledger, blocks=blocks)
        self._fleet.save(self._ledger)

    async def refresh(self) -> None:
        """Look at the whole source again and publish what is different; what cannot be looked at stays as it is.

        Raises:
            Fault: the source is away, or has nothing to offer where it had something before.
        """
        self._refuse_early()
        async with self._look:
            scanned = await self._source.scan(settled_only=True)
            self._found = {model.name: self._kept(self._as_configured(model)) for model in scanned}
            self._publish_if_new()

    def _refuse_early(self) -> None:
        if self._waiting_for:
            raise NotReady("no model can be loaded yet; see the reason that the ops port's readiness tells")

    def _kept(self, model: Found) -> Found:
        """The model as it was before, if nothing of it can be served any more."""
        before = self._found.get(model.name)
        if not model.problem or before is None or before.problem:
            return model
        if self._problems.get(model.name) != model.problem:
            log.warning("model %s stays as it was: %s", model.name, model.problem)
        self._problems[model.name] = model.problem
        return before

    async def load(self, model: str, config: str | None) -> None:
        """Look at a model's source again and serve what is there; returns when every worker does.

        Raises:
            NotFound: there is no such model.
            InvalidInput: it, or the configuration given for it, cannot be served; what answered before still does.
            NotReady: its repository cannot be reached.
            DeadlineExceeded: it took too long.
            Overloaded: too many requests wait for their turn.
        """
        self._refuse_early()
        with self._queued():
            async with self._turn:
                async with self._look:
                    found = await self._find(model)
                    configs = {name: text for name, text in self._ledger.configs.items() if name != model}
                    if config is not None:
                        found = await asyncio.to_thread(overridden, found, config)
                        configs[model] = config
                    self._refuse_problem(found)
                    self._found[model] = found
                    self._publish(self._retried(replace(self._ledger, configs=configs), model))
                await self._until_loaded(model)
                if found.refused:
                    raise InvalidInput(
                        "; ".join(_refusal(model, version, why) for version, why in found.refused.items())
                    )

    async def unload(self, model: str) -> None:
        """Stop serving a model; returns when no worker does.

        Raises:
            NotFound: there is no such model.
            DeadlineExceeded: it took too long.
            Overloaded: too many requests wait for their turn.
        """
        with self._queued():
            async with self._turn:
                if model not in self._found:
                    raise unknown_model(model)
                self._publish(replace(self._ledger, unloaded=self._ledger.unloaded | {model}))
                await self._until(self.applied, model)

    def applied(self) -> bool:
        """Whether every connected worker has worked through the present desired state."""
        return status.applied(self.desired, self._fleet.reports.values())

    async def settled(self, model: str, version: str, seconds: float) -> bool:
        """Wait until every worker has tried to load this version; False if that took longer."""
        try:
            async with asyncio.timeout(seconds):
                while not self._settled(model, version):
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def acknowledged(self, seconds: float) -> bool:
        """Wait until no alias waits and every worker has worked through what was published; False if it took longer."""
        try:
            async with asyncio.timeout(seconds):
                while pending(self._found.values(), self._ledger) or not self.applied():
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def renew(self) -> None:
        """Publish what is different, as something besides the source has changed."""
        if self.desired.revision:
            self._publish_if_new()

    def _settled(self, model: str, version: str) -> bool:
        specs = [spec for spec in self.desired.models if spec.name == model]
        for spec in (one for found in specs for one in found.versions if one.version == version):
            return status.version_tried(model, spec, self._fleet.reports, self._fleet.workers)
        return any(version in spec.unavailable for spec in specs) or self.placed(model, version) is not None

    def _as_configured(self, model: Found) -> Found:
        """The model with the configuration an operator gave it, if any."""
        config = self._ledger.configs.get(model.name)
        try:
            configured = model if config is None else overridden(model, config)
        except InvalidInput as fault:
            text = f"model {model.name} is served with its own configuration: {fault}"
            self._complaints.tell(model.name, text, fault)
            return model
        self._complaints.over(model.name)
        return configured

    def died(self, report: Report) -> None:
        """A worker ended; versions that end one worker after the other while they load are not tried again."""
        loading = [version for version in report.versions.values() if version.state is State.LOADING]
        for version in loading:
            case = (version.model, version.version, version.tag)
            self._fatal[case] += 1
            if self._fatal[case] == FATAL_LOADS:
                self._quarantine((version.model, version.version))

    def _refuse_problem(self, found: Found) -> None:
        if not found.problem:
            return
        if found.name not in self._found:  # known from now on, if only by its problem
            self._found[found.name] = found
            self._publish(self._ledger)
        raise InvalidInput(_refusal(found.name, "", found.problem))

    def _quarantine(self, key: VersionKey) -> None:
        log.error("model %s version %s ended %d workers while it was loaded; it is left out", *key, FATAL_LOADS)
        reason = "loading it ended the worker process again and again"
        self._publish(replace(self._ledger, quarantine={**self._ledger.quarantine, key: reason}))

    def _retried(self, ledger: Ledger, model: str) -> Ledger:
        """The ledger for a new attempt: content that failed is tried again although it is the same."""
        failed = any(
            status.reason
            for report in self._fleet.reports.values()
            for status in report.versions.values()
            if status.model == model
        )
        attempts = dict(ledger.attempts)
        if failed or any(name == model for name, _ in ledger.quarantine):
            attempts[model] = attempts.get(model, 0) + 1
        quarantine = {key: reason for key, reason in ledger.quarantine.items() if key[0] != model}
        return replace(ledger, unloaded=ledger.unloaded - {model}, attempts=attempts, quarantine=quarantine)

    async def _find(self, model: str) -> Found:
        try:
            scanned = await self._source.scan(settled_only=False, retry=model)
        except InvalidInput:
            scanned = []  # the folder holds no model any more
        for found in scanned:
            if found.name == model:
                return found
        raise unknown_model(model)

    def _publish_if_new(self) -> None:
        if self._planned(self._ledger).desired.models != self.desired.models:
            self._publish(self._ledger)

    def _publish(self, ledger: Ledger) -> None:
        planned = self._planned(ledger)
        for block in planned.cleared:
            self._fleet.clear(block)
        self._ledger, self.desired = planned.ledger, planned.desired
        self._fleet.save(self._ledger)
        self._fleet.publish(self.desired)

    def _planned(self, ledger: Ledger) -> Plan:
        seen = Observed(self._clock(), self._ready(), self._fleet.reusable(ledger))
        planned = plan(list(self._found.values()), ledger, self._last_block, seen)
        desired = self.decorate(planned.desired)
        return replace(planned, desired=replace(desired, waiting=bool(self._waiting_for)))

    def _ready(self) -> Collection[VersionKey]:
        statuses = status.statuses(self.desired, self._fleet.reports, self._fleet.workers)
        return {(status.model, status.version) for status in statuses if status.state is State.READY}

    async def _until_loaded(self, model: str) -> None:
        await self._until(lambda: self._tried(model) is not None, model)
        if failed := self._tried(model):
            raise InvalidInput("; ".join(_refusal(model, version, why) for version, why in failed.items()))

    def _tried(self, model: str) -> dict[str, str] | None:
        return status.tried(self._spec(model), self._fleet.reports, self._fleet.workers)

    def _spec(self, model: str) -> ModelSpec:
        return next(spec for spec in self.desired.models if spec.name == model)

    async def _until(self, done: Callable[[], bool], model: str) -> None:
        try:
            async with asyncio.timeout(self._load_s):
                while not done():
                    await self._news.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"model '{model}' was not ready within {self._load_s:g} s") from None

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if self._waiting >= WAITING:
            raise Overloaded(f"{WAITING} repository requests are waiting already; try again later")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


def _refusal(model: str, version: str, why: str) -> str:
    named = f"model '{model}' version '{version}'" if version else f"model '{model}'"
    return f"{named} cannot be served: {why}"
