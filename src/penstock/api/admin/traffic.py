"""The admin API for traffic: routes, rollouts, experiments, the monitor, retraining, events and the fleet."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.api.admin.answers import AsciiJsonResponse, build_routes, with_etag
from penstock.api.admin.approvals import ApproverCheck, PushedVersions
from penstock.api.admin.caller_check import caller_of, is_still_valid, visible_models
from penstock.api.admin.erasures import ErasureCalls, ErasureService
from penstock.api.admin.incoming import (
    query_number,
    read_author,
    read_document,
    read_if_match,
    read_object,
)
from penstock.api.admin.monitoring import MonitorService, RetrainingService, monitor_routes, retraining_routes
from penstock.api.admin.overview import OverviewService
from penstock.api.admin.predictions import PredictionCalls, PredictionService
from penstock.api.admin.recent_traffic import RecentTrafficCalls, RecentTrafficService
from penstock.api.admin.visible_fleet import visible_fleet
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.errors import Fault, InvalidInput
from penstock.core.owner_only import owner_only_of_rollout, refuse_unproven
from penstock.core.stated_numbers import number_fault
from penstock.registry.records import Author
from penstock.registry.stores.timeline import TimelineFilter

Document = dict[str, Any]

DEFAULT_EVENTS = 100
MOST_EVENTS = 1000
MOST_RATE = 1e9
DEFAULT_TIMELINE = 50
LONGEST_FILTER = 128
POLL_S = 0.5
KEEP_ALIVE_POLLS = 30


class RoutesService(Protocol):
    """Routes as the admin API uses them; every call may raise a ``Fault``."""

    async def route(self, model: str) -> Document:
        """Return a model's route."""

    async def set_route(self, model: str, document: Document, by: Author, if_revision: int | None = None) -> Document:
        """Replace a model's route."""

    async def preview(self, model: str, document: Document) -> Document:
        """Return what a route would do, without setting it."""

    async def drop_route(self, model: str, by: Author, if_revision: int | None = None) -> Document:
        """Delete a model's route."""

    async def shadow(self, model: str, version: str) -> Document:
        """Return the results of a version as a shadow."""

    async def events(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        """Return events of visible models: the first after a sequence number, or the newest."""

    async def timeline(self, wanted: TimelineFilter, limit: int, visible: ModelFilter = EVERY_MODEL) -> Document:
        """Return events and changes of visible models together, newest first."""

    async def newest_entries(self) -> dict[str, str]:
        """Return a text for each model that differs after each new event or change of it."""


class TrialsService(Protocol):
    """Rollouts or experiments as the admin API uses them."""

    async def begin(self, model: str, document: Document, by: Author) -> Document:
        """Start a trial."""

    async def list_trials(self, model: str) -> list[Document]:
        """Return all trials of a model."""

    async def get_trial(self, model: str, trial_id: str) -> Document:
        """Return one trial."""

    async def act(self, model: str, trial_id: str, verb: str, by: Author) -> Document:
        """Apply a verb, such as "pause", to a trial."""


class RolloutsService(TrialsService, Protocol):
    """Rollouts as the admin API uses them."""

    async def preview(self, model: str, document: Document, rate: float | None = None) -> Document:
        """Return what a rollout would do and need at ``rate`` requests a second, without starting it."""


class FleetService(Protocol):
    """The fleet as the admin API uses it."""

    async def document(self) -> Document:
        """Return all gateways and the leader."""


@dataclass(frozen=True, slots=True)
class TrafficApi:
    """The services behind the traffic API; ``mark`` returns an object that is equal as long as models and routes are
    the same."""

    traffic: RoutesService
    rollouts: RolloutsService
    experiments: TrialsService
    monitor: MonitorService
    retraining: RetrainingService
    fleet: FleetService
    erasures: ErasureService
    predictions: PredictionService
    recent: RecentTrafficService
    mark: Callable[[], object]
    overview: OverviewService


def list_routes(services: TrafficApi, pushed: PushedVersions) -> list[Route]:
    """Return the routes below ``/admin/v1`` for traffic; ``pushed`` knows whose versions are approved."""
    calls, approvers = _Calls(services.traffic), ApproverCheck(pushed)
    rollouts = _TrialCalls(services.rollouts, "rollouts", approvers)
    experiments = _TrialCalls(services.experiments, "experiments", approvers)

    async def fleet(request: Request) -> Response:
        return AsciiJsonResponse(visible_fleet(await services.fleet.document(), visible_models(request)))

    table = [
        ("GET", "/models/{model}/route", calls.route),
        ("PUT", "/models/{model}/route", calls.set_route),
        ("DELETE", "/models/{model}/route", calls.drop_route),
        ("POST", "/models/{model}/route/preview", calls.preview_route),
        ("GET", "/models/{model}/shadow/{version}", calls.shadow),
        ("POST", "/models/{model}/rollouts/preview", _RolloutPreview(services.rollouts, services.recent).preview),
        *rollouts.table(),
        *experiments.table(),
        *monitor_routes(services.monitor),
        *retraining_routes(services.retraining, approvers),
        *ErasureCalls(services.erasures).table(),
        *PredictionCalls(services.predictions).table(),
        *RecentTrafficCalls(services.recent).table(),
        ("GET", "/events", calls.events),
        ("GET", "/timeline", calls.timeline),
        ("GET", "/fleet", fleet),
    ]
    return build_routes(table)


class _TrialCalls:
    """The calls on one kind of trial."""

    def __init__(self, trials: TrialsService, name: str, approvers: ApproverCheck) -> None:
        self._trials = trials
        self._name = name
        self._approvers = approvers

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        path = f"/models/{{model}}/{self._name}"
        return [
            ("GET", path, self.all),
            ("POST", path, self.begin),
            ("GET", f"{path}/{{id}}", self.one),
            ("POST", f"{path}/{{id}}/{{verb}}", self.act),
        ]

    async def all(self, request: Request) -> Response:
        return AsciiJsonResponse({self._name: await self._trials.list_trials(request.path_params["model"])})

    async def begin(self, request: Request) -> Response:
        body = await read_object(request)
        refuse_unproven(caller_of(request), owner_only_of_rollout(body))
        return with_etag(await self._trials.begin(request.path_params["model"], body, read_author(request, body)), 201)

    async def one(self, request: Request) -> Response:
        names = request.path_params
        return with_etag(await self._trials.get_trial(names["model"], names["id"]))

    async def act(self, request: Request) -> Response:
        names = request.path_params
        body = await read_document(request, "reason")
        if names["verb"] == "approve":
            trial = await self._trials.get_trial(names["model"], names["id"])
            await self._approvers.check(request, names["model"], str(trial.get("to")))
        return with_etag(await self._trials.act(names["model"], names["id"], names["verb"], read_author(request, body)))


class _RolloutPreview:
    """The preview of a rollout."""

    def __init__(self, rollouts: RolloutsService, recent: RecentTrafficService) -> None:
        self._rollouts = rollouts
        self._recent = recent

    async def preview(self, request: Request) -> Response:
        """Answer what a rollout would need; nothing is changed."""
        body, model = await read_object(request), request.path_params["model"]
        rate = body.pop("requests_per_second", None)
        if rate is None:
            rate = self._recent.document()["models"].get(model, {}).get("requests_per_second")
        if rate is not None and (fault := number_fault("requests_per_second", rate, 0, MOST_RATE)):
            raise InvalidInput(fault)
        return AsciiJsonResponse(await self._rollouts.preview(model, body, rate))


class _Calls:
    """The calls on routes and events."""

    def __init__(self, traffic: RoutesService) -> None:
        self._traffic = traffic

    async def route(self, request: Request) -> Response:
        return with_etag(await self._traffic.route(request.path_params["model"]))

    async def set_route(self, request: Request) -> Response:
        body = await read_object(request)
        model, revision = request.path_params["model"], read_if_match(request)
        return with_etag(await self._traffic.set_route(model, body, read_author(request, body), revision))

    async def preview_route(self, request: Request) -> Response:
        body = await read_object(request)
        return AsciiJsonResponse(await self._traffic.preview(request.path_params["model"], body))

    async def drop_route(self, request: Request) -> Response:
        author = read_author(request, await read_document(request, "reason"))
        return with_etag(await self._traffic.drop_route(request.path_params["model"], author, read_if_match(request)))

    async def shadow(self, request: Request) -> Response:
        names = request.path_params
        return AsciiJsonResponse(await self._traffic.shadow(names["model"], names["version"]))

    async def events(self, request: Request) -> Response:
        model, after, limit = (
            request.query_params.get("model") or None,
            query_number(request, "after"),
            query_number(request, "limit"),
        )
        visible = visible_models(request)
        if "text/event-stream" in request.headers.get("accept", ""):
            if after is None and (last := request.headers.get("last-event-id", "")).isdigit():
                after = int(last)
            first = await self._traffic.events(model, after, DEFAULT_EVENTS, visible)  # may raise before the stream
            return StreamingResponse(self._stream(request, model, first, after), media_type="text/event-stream")
        limit = DEFAULT_EVENTS if limit is None else min(limit, MOST_EVENTS)
        return AsciiJsonResponse({"events": await self._traffic.events(model, after, limit, visible)})

    async def timeline(self, request: Request) -> Response:
        asked = {name: request.query_params.get(name, "")[:LONGEST_FILTER] for name in ("model", "kind", "person")}
        wanted = TimelineFilter(**asked, before=request.query_params.get("before", ""))
        limit = query_number(request, "limit")
        found = self._traffic.timeline(wanted, DEFAULT_TIMELINE if limit is None else limit, visible_models(request))
        return AsciiJsonResponse(await found)

    async def _stream(
        self, request: Request, model: str | None, events: list[Document], after: int | None
    ) -> AsyncIterator[str]:
        """Yield server-sent events as they happen, starting with ``events``; their ids are sequence numbers. The stream
        ends with the caller's credential, or when it may do something else than before."""
        last, quiet = after or 0, 0
        while True:
            for event in events:
                last = max(last, event["sequence"])
                yield f"id: {event['sequence']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
            quiet = 0 if events else quiet + 1
            if quiet and not quiet % KEEP_ALIVE_POLLS:
                yield ": keep-alive\n\n"
            await asyncio.sleep(POLL_S)
            if not is_still_valid(request):
                return
            try:
                events = await self._traffic.events(model, last, DEFAULT_EVENTS, visible_models(request))
            except InvalidInput:
                return
            except Fault:
                events = []
