"""The admin API's calls on traffic and its monitor: routes, trials, references, events; words of HTTP to calls."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.api.admin.answers import Json, joined, revised
from penstock.api.admin.incoming import anything, by, chunks, count, document, if_revision
from penstock.core.errors import Fault, InvalidInput
from penstock.registry.records import By

Document = dict[str, Any]

SOME_EVENTS = 100
MOST_EVENTS = 1000
POLL_S = 0.5
KEEP_ALIVE_LOOKS = 30


class Traffic(Protocol):
    """What the admin API asks of routes; every call may raise a fault."""

    async def route(self, model: str) -> Document:
        """A model's route."""

    async def set_route(self, model: str, document: Document, by: By, if_revision: int | None = None) -> Document:
        """Replace it."""

    async def drop_route(self, model: str, by: By, if_revision: int | None = None) -> Document:
        """Take it away."""

    async def shadow(self, model: str, version: str) -> Document:
        """What a version did as a shadow."""

    async def events(self, model: str | None, after: int | None, limit: int) -> list[Document]:
        """What happened."""


class Trials(Protocol):
    """What it asks of rollouts, and of experiments."""

    async def begin(self, model: str, document: Document, by: By) -> Document:
        """Start one."""

    async def all(self, model: str) -> list[Document]:
        """All of a model."""

    async def one(self, model: str, trial_id: str) -> Document:
        """One."""

    async def act(self, model: str, trial_id: str, verb: str, by: By) -> Document:
        """Do something to one."""


class Monitor(Protocol):
    """What it asks of the monitor."""

    async def document(self, model: str, version: str | None, scope: str = "fleet") -> Document:
        """What is said of a version, or of each, by the counts of all gateways or (``gateway``) of this one."""

    async def policy(self, model: str) -> Document:
        """What is watched of a model."""

    async def set_policy(self, model: str, document: Document, by: By, if_revision: int | None = None) -> Document:
        """Change it."""

    async def relearn(self, model: str, version: str | None, by: By) -> Document:
        """Learn a version's reference anew from traffic."""

    async def learn(self, model: str, version: str, chunks: AsyncIterator[bytes], by: By) -> Document:
        """Make a version's reference of training data."""


class Candidates(Protocol):
    """What it asks of whoever takes new versions through their gates."""

    async def shown(self, model: str) -> Document:
        """The request under way, and the versions that came of one."""

    async def approve(self, model: str, version: str, by: By) -> Document:
        """Let a version be rolled out."""


class Retraining(Protocol):
    """What it asks of the retraining rules."""

    @property
    def candidates(self) -> Candidates:
        """Versions that came of requests."""

    async def ask(self, model: str, document: Document, by: By) -> Document:
        """Ask for retraining."""

    async def deliveries(self, model: str) -> Document:
        """What became of events on their way to sinks."""

    async def replay(self, model: str, by: By) -> Document:
        """Try again what was given up."""


class Fleet(Protocol):
    """What it asks of the fleet."""

    async def document(self) -> Document:
        """All gateways, and which of them leads."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Everything that decides who answers, and what watches the answers."""

    traffic: Traffic
    rollouts: Trials
    experiments: Trials
    monitor: Monitor
    retraining: Retraining
    fleet: Fleet


def routes(sides: Sides) -> list[Route]:
    """Every path below ``/admin/v1`` that has to do with traffic."""
    calls, rollouts = _Calls(sides.traffic), _TrialCalls(sides.rollouts, "rollouts")
    experiments = _TrialCalls(sides.experiments, "experiments")

    async def fleet(_: Request) -> Response:
        return Json(await sides.fleet.document())

    table = [
        ("GET", "/models/{model}/route", calls.route),
        ("PUT", "/models/{model}/route", calls.set_route),
        ("DELETE", "/models/{model}/route", calls.drop_route),
        ("GET", "/models/{model}/shadow/{version}", calls.shadow),
        *rollouts.table(),
        *experiments.table(),
        *_MonitorCalls(sides.monitor).table(),
        *_RetrainingCalls(sides.retraining).table(),
        ("GET", "/events", calls.events),
        ("GET", "/fleet", fleet),
    ]
    return joined(table)


class _TrialCalls:
    """The calls on one kind of trial."""

    def __init__(self, trials: Trials, name: str) -> None:
        self._trials = trials
        self._name = name

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
        return Json({self._name: await self._trials.all(request.path_params["model"])})

    async def begin(self, request: Request) -> Response:
        body = await anything(request)
        return revised(await self._trials.begin(request.path_params["model"], body, by(request, body)), 201)

    async def one(self, request: Request) -> Response:
        names = request.path_params
        return revised(await self._trials.one(names["model"], names["id"]))

    async def act(self, request: Request) -> Response:
        names = request.path_params
        body = await document(request, "reason")
        return revised(await self._trials.act(names["model"], names["id"], names["verb"], by(request, body)))


class _MonitorCalls:
    """The calls on the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        return [
            ("GET", "/models/{model}/monitor", self.document),
            ("POST", "/models/{model}/monitor/relearn", self.relearn),
            ("GET", "/models/{model}/policy", self.policy),
            ("PUT", "/models/{model}/policy", self.set_policy),
            ("PUT", "/models/{model}/versions/{version}/reference", self.learn),
        ]

    async def document(self, request: Request) -> Response:
        version = request.query_params.get("version") or None
        scope = request.query_params.get("scope") or "fleet"
        return Json(await self._monitor.document(request.path_params["model"], version, scope))

    async def relearn(self, request: Request) -> Response:
        body = await document(request, "version", "reason")
        version = body.get("version")
        if version is not None and not isinstance(version, str):
            raise InvalidInput("'version' is a text")
        return revised(await self._monitor.relearn(request.path_params["model"], version or None, by(request, body)))

    async def policy(self, request: Request) -> Response:
        return Json(await self._monitor.policy(request.path_params["model"]))

    async def set_policy(self, request: Request) -> Response:
        body = await anything(request)
        model, revision = request.path_params["model"], if_revision(request)
        return revised(await self._monitor.set_policy(model, body, by(request, body), revision))

    async def learn(self, request: Request) -> Response:
        names = request.path_params
        return revised(await self._monitor.learn(names["model"], names["version"], chunks(request), by(request)), 201)


class _RetrainingCalls:
    """The calls on retraining."""

    def __init__(self, retraining: Retraining) -> None:
        self._retraining = retraining

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        return [
            ("POST", "/models/{model}/retrain", self.ask),
            ("GET", "/models/{model}/candidates", self.candidates),
            ("POST", "/models/{model}/candidates/{version}/approve", self.approve),
            ("GET", "/models/{model}/outbox", self.deliveries),
            ("POST", "/models/{model}/outbox/replay", self.replay),
        ]

    async def ask(self, request: Request) -> Response:
        body = await anything(request)
        return Json(await self._retraining.ask(request.path_params["model"], body, by(request, body)), 201)

    async def candidates(self, request: Request) -> Response:
        return Json(await self._retraining.candidates.shown(request.path_params["model"]))

    async def approve(self, request: Request) -> Response:
        names, who = request.path_params, by(request, await document(request, "reason"))
        return Json(await self._retraining.candidates.approve(names["model"], names["version"], who))

    async def deliveries(self, request: Request) -> Response:
        return Json(await self._retraining.deliveries(request.path_params["model"]))

    async def replay(self, request: Request) -> Response:
        body = await document(request, "reason")
        return Json(await self._retraining.replay(request.path_params["model"], by(request, body)))


class _Calls:
    """The calls on routes and events."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    async def route(self, request: Request) -> Response:
        return revised(await self._traffic.route(request.path_params["model"]))

    async def set_route(self, request: Request) -> Response:
        body = await anything(request)
        model, revision = request.path_params["model"], if_revision(request)
        return revised(await self._traffic.set_route(model, body, by(request, body), revision))

    async def drop_route(self, request: Request) -> Response:
        who = by(request, await document(request, "reason"))
        return revised(await self._traffic.drop_route(request.path_params["model"], who, if_revision(request)))

    async def shadow(self, request: Request) -> Response:
        names = request.path_params
        return Json(await self._traffic.shadow(names["model"], names["version"]))

    async def events(self, request: Request) -> Response:
        model, after, limit = (
            request.query_params.get("model") or None,
            count(request, "after"),
            count(request, "limit"),
        )
        if "text/event-stream" in request.headers.get("accept", ""):
            if after is None and (last := request.headers.get("last-event-id", "")).isdigit():
                after = int(last)
            told = await self._traffic.events(model, after, SOME_EVENTS)  # a refusal comes before the stream begins
            return StreamingResponse(self._stream(model, told, after), media_type="text/event-stream")
        limit = SOME_EVENTS if limit is None else min(limit, MOST_EVENTS)
        return Json({"events": await self._traffic.events(model, after, limit)})

    async def _stream(self, model: str | None, told: list[Document], after: int | None) -> AsyncIterator[str]:
        """Server-sent events as they happen, with their sequence numbers as ids, from the newest of before on."""
        last, quiet = after or 0, 0
        while True:
            for event in told:
                last = max(last, event["sequence"])
                yield f"id: {event['sequence']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
            quiet = 0 if told else quiet + 1
            if quiet and not quiet % KEEP_ALIVE_LOOKS:
                yield ": nothing new\n\n"
            await asyncio.sleep(POLL_S)
            try:
                told = await self._traffic.events(model, last, SOME_EVENTS)
            except InvalidInput:
                return
            except Fault:
                told = []
