"""The admin API for a model's traffic: its route, the results of its shadows, and events."""

import logging
from collections.abc import Mapping
from typing import Protocol

from penstock.control.calls.blocking import READ_S, BlockingPool
from penstock.control.delivery.model_versions import find_serving_version, refuse_unready, withheld_versions
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.desired import Desired, ReadyState, VersionStatus, able_versions
from penstock.core.errors import NotFound, unknown_model
from penstock.core.route_preview import RoutePlan, preview_document
from penstock.core.routing import (
    POINTS,
    RouteSpec,
    choose_substitute,
    default_version,
    describe_route,
    parse_route,
    resolve_split,
)
from penstock.core.versions import CHAMPION, sort_key
from penstock.monitor.counters.totals import Totals
from penstock.registry.records import Author, Document, ModelRecord
from penstock.registry.stores.timeline import TimelineFilter
from penstock.registry.stores.traffic import TrafficStore, Trial, TrialEvent
from penstock.registry.stores.versions import VersionStore

log = logging.getLogger("penstock.control")

THREADS = 4
LOOK_S = 0.5
SAMPLES = 16
DEGRADED = "it cannot answer; the stable version does"
MISMATCHED = "a batch run gave different answers than its requests alone; every request now runs alone"


class RouteWorkers(Protocol):
    """The workers of this gateway, as routes need them."""

    @property
    def desired(self) -> Desired:
        """Return the desired state."""

    def statuses(self) -> list[VersionStatus]:
        """Return every version of every model."""

    def totals(self, model: str, version: str) -> Totals:
        """Return the counts of a version."""

    def samples(self, model: str, version: str) -> list[Document]:
        """Return the requests with the largest disagreements of a shadow."""

    async def serve_changes(self) -> bool:
        """Publish stored changes to the workers; return whether all have applied them."""


class RouteAdmin:
    """The routes of one gateway; every change takes an actor and a reason."""

    def __init__(self, registry: VersionStore, store: TrafficStore, fleet: RouteWorkers) -> None:
        self._registry = registry
        self._store = store
        self._fleet = fleet
        self._pool = BlockingPool("traffic", THREADS)
        self._run = self._pool.call
        self.pools = (self._pool,)
        self._unable: set[tuple[str, str]] = set()
        self._mismatches: dict[tuple[str, str], int] = {}
        self._pending: dict[tuple[str, str, str], str] = {}
        self.task = PeriodicTask("routes", self.step, LOOK_S)
        self._keyed: KeyedWork[tuple[str, str, str]] = KeyedWork(self.task, "event that could not be written:")

    async def route(self, model: str) -> Document:
        """Return a model's route; without one, the default (``set`` says which).

        Raises:
            NotFound: no such model.
        """
        return await self._document(model, self._statuses(model))

    async def _document(self, model: str, statuses: Mapping[str, VersionStatus]) -> Document:
        record, running = await self._read(model)
        trial = None if running is None else {"kind": running.kind, "id": running.id}
        who = {"answers": _who_answers(record, statuses, running), "trial": trial, "revision": record.revision}
        if record.route is not None:
            return {**describe_route(record.route), "set": True, **who}
        answers = find_serving_version(record, statuses)
        split = {} if answers is None else {answers: POINTS}
        return {**describe_route(RouteSpec(split, stable=answers or "")), "set": False, **who}

    async def set_route(self, model: str, document: Document, by: Author, if_revision: int | None = None) -> Document:
        """Replace a model's route; returns when every worker has it.

        Raises:
            InvalidInput: with every fault of the document; the old route stays.
            NotFound: no such model or version.
            Refused: a version that would get requests is not ready.
            Conflict: the model is not as expected, or a rollout has its traffic.
        """
        statuses = self._statuses(model)

        def make(record: ModelRecord) -> RouteSpec:
            return _checked_route(record, document, statuses)

        def answers(record: ModelRecord) -> str | None:
            return find_serving_version(record, statuses)

        revision = await self._run(self._store.set_route, model, make, by, if_revision, answers)
        return await self._to_api(model, revision)

    async def preview(self, model: str, document: Document) -> Document:
        """Return what a route would do, without setting it; raises the faults of ``set_route`` about the document."""
        statuses = self._statuses(model)
        record, running = await self._read(model)
        route = _checked_route(record, document, statuses)
        champion = _find_champion(record)
        trial = "" if running is None else f"{running.kind} {running.id}"
        able = _find_able(record, statuses, route)
        plan = RoutePlan(route, record.route, find_serving_version(record, statuses), able, champion, trial)
        return {"model": model, **preview_document(plan), "revision": record.revision}

    async def _read(self, model: str) -> tuple[ModelRecord, Trial | None]:
        """Return a model's record, an empty one if the registry has none, and its open trial."""
        try:
            record = await self._run(self._registry.model, model, deadline_s=READ_S)
        except NotFound:
            record = ModelRecord(model, 0)
        return record, await self._run(self._store.open_trial, model, deadline_s=READ_S)

    async def drop_route(self, model: str, by: Author, if_revision: int | None = None) -> Document:
        """Delete a model's route: its champion, or its newest ready version, answers again."""
        self._statuses(model)
        revision = await self._run(self._store.set_route, model, lambda _: None, by, if_revision)
        return await self._to_api(model, revision)

    async def _to_api(self, model: str, revision: int) -> Document:
        acknowledged = await self._fleet.serve_changes()
        document = await self._document(model, self._statuses_of(model))  # it is done, whoever serves it
        return {**document, "revision": revision, "acknowledged": acknowledged}

    async def shadow(self, model: str, version: str) -> Document:
        """Return the results of a version as a shadow here, and the requests with the largest disagreements; raises
        ``NotFound``.
        """
        if version not in self._statuses(model):
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        totals = self._fleet.totals(model, version).shadow()
        return {
            "model": model,
            "version": version,
            **_describe_shadow(totals),
            "samples": self._fleet.samples(model, version)[:SAMPLES],
        }

    async def events(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        """Return at most ``limit`` events of visible models in order: the first after a sequence number, or the
        newest."""
        return await self._run(self._store.events, model, after, limit, visible, deadline_s=READ_S)

    async def timeline(self, wanted: TimelineFilter, limit: int, visible: ModelFilter = EVERY_MODEL) -> Document:
        """Return events and changes together, newest first; raises ``InvalidInput`` for an unknown place to go on."""
        return await self._run(self._store.timeline.entries, wanted, limit, visible, deadline_s=READ_S)

    async def newest_entries(self) -> dict[str, str]:
        """Return a text for each model that differs after each new event or change of it."""
        return await self._run(self._store.timeline.newest, deadline_s=READ_S)

    async def newest_events(self) -> list[Document]:
        """Return the newest event of each model."""
        return await self._run(self._store.newest_events, deadline_s=READ_S)

    async def step(self) -> None:
        """Log and record when a version that should answer cannot, or can again, and when batch runs were wrong."""
        self._pending |= {("route.degraded.v1", *key): DEGRADED for key in self._newly_degraded()}
        self._pending |= {("joint_run.mismatched.v1", *key): MISMATCHED for key in self._newly_mismatched()}
        for key in self._keyed.due(self._pending):
            with self._keyed.isolated(key):
                await self._emit(*key)
                del self._pending[key]

    async def _emit(self, kind: str, model: str, version: str) -> None:
        data = {"model": model, "version": version, "reason": self._pending[kind, model, version]}
        await self._run(self._store.emit_once, model, TrialEvent(kind, f"models/{model}/versions/{version}", "", data))

    def _newly_degraded(self) -> list[tuple[str, str]]:
        """Return the versions that have stopped answering since the last step."""
        states = {(status.model, status.version): status.state for status in self._fleet.statuses()}
        unable = {
            (model.name, version)
            for model in self._fleet.desired.models
            if model.route is not None
            for version in model.route.receivers()
            if states.get((model.name, version), ReadyState.UNAVAILABLE) is ReadyState.UNAVAILABLE
        }
        fresh, healed, self._unable = unable - self._unable, self._unable - unable, unable
        for model, version in sorted(fresh):
            log.error("model %s version %s cannot answer; the stable version gets its requests", model, version)
        for model, version in sorted(healed):
            log.warning("model %s version %s gets its requests again", model, version)
        return sorted(fresh)

    def _newly_mismatched(self) -> list[tuple[str, str]]:
        """Return the versions with batch runs that were found to be wrong since the last look."""
        served = [(model.name, version.version) for model in self._fleet.desired.models for version in model.versions]
        counts = {key: self._fleet.totals(*key).joint_run_mismatches for key in served}
        fresh = [key for key, count in counts.items() if count > self._mismatches.get(key, count)]
        self._mismatches = counts
        return fresh

    def close(self) -> None:
        """End the threads."""
        self._pool.close()

    def _statuses(self, model: str) -> Mapping[str, VersionStatus]:
        statuses = self._statuses_of(model)
        if not statuses:
            raise unknown_model(model)
        return statuses

    def _statuses_of(self, model: str) -> Mapping[str, VersionStatus]:
        return {status.version: status for status in self._fleet.statuses() if status.model == model}


def _find_champion(record: ModelRecord) -> str | None:
    alias = record.aliases.get(CHAMPION)
    return None if alias is None else alias.version


def _checked_route(record: ModelRecord, document: Document, statuses: Mapping[str, VersionStatus]) -> RouteSpec:
    """Return the route of a document; raises ``InvalidInput``, or ``Refused`` if a version of it is not ready."""
    route = parse_route(document, record.route, _find_champion(record))
    for version in sorted(route.receivers(), key=sort_key):
        refuse_unready(record.name, statuses, version)
    return route


def _find_able(record: ModelRecord, statuses: Mapping[str, VersionStatus], route: RouteSpec | None) -> set[str]:
    """Return the versions that can answer and pass their gates."""
    passing = [status for status in statuses.values() if status.version not in withheld_versions(record)]
    return able_versions(passing, route, _find_champion(record))


def _who_answers(record: ModelRecord, statuses: Mapping[str, VersionStatus], running: Trial | None) -> str:
    """Return which version answers requests without a version, and why, in one sentence."""
    champion, able = _find_champion(record), _find_able(record, statuses, record.route)
    if not able:
        return f"no version answers: none is ready{' and passes its gates' if record.withheld else ''}"
    if record.route is not None:
        return _who_answers_by_route(record.route, champion, able, running)
    version = default_version(champion, able)
    if champion == version:
        return f"version {version} answers: alias '{CHAMPION}'"
    lost = "" if champion is None else f"alias '{CHAMPION}' points to {champion}, which is not ready, and "
    return f"version {version} answers: {lost}it is the newest ready one"


def _who_answers_by_route(route: RouteSpec, champion: str | None, able: set[str], running: Trial | None) -> str:
    points = resolve_split(route, champion, able)
    shares = [f"version {version} {weight / 100:g} %" for version, weight in points.items() if weight]
    decides = "the route" if running is None else f"{running.kind} {running.id}"
    parts = [f"{', '.join(shares)}: {decides} decides"]
    lost = [version for version, weight in route.split.items() if weight and version not in able]
    instead = (choose_substitute(route, able) or default_version(champion, able)) if lost else None
    if lost:
        parts.append(f"version {instead} answers for {', '.join(lost)}, which cannot")
    if champion is not None and champion not in (route.stable, instead):
        parts.append(f"alias '{CHAMPION}' (version {champion}) has no effect meanwhile")
    return "; ".join(parts)


def _describe_shadow(totals: Mapping[str, float]) -> Document:
    def each(word: str, by: str) -> float | None:
        return totals[word] / totals[by] if totals[by] else None

    return {
        "mirrored": totals["mirrored"],
        "pairs": totals["pairs"],
        "missed": totals["missed"],
        "dropped": totals["dropped"],
        "disagreements": totals["disagreements"],
        "flip_ratio": each("flips", "rows"),
        "max_abs_diff": totals["max_abs_diff"],
        "mean_abs_diff": each("sum_abs_diff", "elements"),
        "primary_run_us": None if not totals["pairs"] else totals["primary_ns"] / totals["pairs"] / 1000,
        "shadow_run_us": None if not totals["pairs"] else totals["shadow_ns"] / totals["pairs"] / 1000,
    }
