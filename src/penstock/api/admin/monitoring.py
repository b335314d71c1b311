"""The admin API for the monitor, policies and retraining: HTTP requests to calls of their services."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.admin.answers import AsciiJsonResponse, with_etag
from penstock.api.admin.approvals import ApproverCheck
from penstock.api.admin.caller_check import caller_of
from penstock.api.admin.incoming import (
    query_number,
    read_author,
    read_chunks,
    read_document,
    read_object,
    text_field,
)
from penstock.api.admin.policy_changes import replace_policy
from penstock.core.access.callers import ANONYMOUS, Caller
from penstock.core.errors import InvalidInput
from penstock.core.stated_numbers import number_fault
from penstock.monitor.shown_columns import ALL_COLUMNS, MOST_SHOWN, ShownColumns
from penstock.registry.records import Author

Document = dict[str, Any]

LONGEST_SEARCH = 128


class MonitorService(Protocol):
    """The monitor as the admin API uses it."""

    async def document(
        self, model: str, version: str | None, scope: str = "fleet", shown: ShownColumns = ALL_COLUMNS
    ) -> Document:
        """Return the monitor's document of a version (None: the answering one); ``scope`` is "fleet" or "gateway", and
        ``shown`` says which columns it has."""

    async def column(self, model: str, version: str | None, name: str, scope: str = "fleet") -> Document:
        """Return one column of a version with its evidence over time."""

    async def importance(self, model: str, version: str | None) -> Document:
        """Return how much the features of a version move its answers."""

    async def policy(self, model: str) -> Document:
        """Return a model's policy."""

    async def set_policy(
        self, model: str, document: Document, by: Author, if_revision: int | None = None, caller: Caller = ANONYMOUS
    ) -> Document:
        """Replace a model's policy; its owner-only settings must be the ``caller``'s to set."""

    async def check_policy(self, model: str, text: str, caller: Caller = ANONYMOUS) -> Document:
        """Return why a policy's text (YAML or JSON) would be refused, each fault with its line."""

    async def relearn(self, model: str, version: str | None, by: Author) -> Document:
        """Discard a version's reference and learn a new one from traffic."""

    async def learn(self, model: str, version: str, chunks: AsyncIterator[bytes], by: Author) -> Document:
        """Build a version's reference from training data."""


class CandidatesService(Protocol):
    """Candidates as the admin API uses them."""

    async def to_api(self, model: str) -> Document:
        """Return the open retraining request and the candidates of earlier ones."""

    async def approve(self, model: str, version: str, by: Author) -> Document:
        """Approve a candidate for rollout."""

    async def refuse(self, model: str, version: str, by: Author) -> Document:
        """Refuse a candidate for rollout."""


class RetrainingService(Protocol):
    """Retraining as the admin API uses it."""

    @property
    def candidates(self) -> CandidatesService:
        """The candidates of retraining requests."""

    async def ask(self, model: str, document: Document, by: Author) -> Document:
        """Request retraining."""

    async def document(self, model: str) -> Document:
        """Return the rules, requests, candidates and deliveries of a model."""

    async def deliveries(self, model: str) -> Document:
        """Return the deliveries of a model's events to sinks."""

    async def replay(self, model: str, by: Author, event: str | None = None, sink: str | None = None) -> Document:
        """Retry deliveries that were given up, by default all of a model."""


def monitor_routes(monitor: MonitorService) -> list[tuple[str, str, Any]]:
    """Return method, path and call of the routes for the monitor and policies."""
    return _MonitorCalls(monitor).table()


def retraining_routes(retraining: RetrainingService, approvers: ApproverCheck) -> list[tuple[str, str, Any]]:
    """Return method, path and call of the routes for retraining."""
    return _RetrainingCalls(retraining, approvers).table()


class _MonitorCalls:
    """The calls on the monitor."""

    def __init__(self, monitor: MonitorService) -> None:
        self._monitor = monitor

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        return [
            ("GET", "/models/{model}/monitor", self.document),
            ("GET", "/models/{model}/monitor/column", self.column),
            ("GET", "/models/{model}/importance", self.importance),
            ("POST", "/models/{model}/monitor/relearn", self.relearn),
            ("GET", "/models/{model}/policy", self.policy),
            ("PUT", "/models/{model}/policy", self.set_policy),
            ("POST", "/models/{model}/policy/check", self.check_policy),
            ("PUT", "/models/{model}/versions/{version}/reference", self.learn),
        ]

    async def document(self, request: Request) -> Response:
        version = request.query_params.get("version") or None
        scope = request.query_params.get("scope") or "fleet"
        model, shown = request.path_params["model"], read_shown_columns(request)
        return AsciiJsonResponse(await self._monitor.document(model, version, scope, shown))

    async def column(self, request: Request) -> Response:
        name, version = request.query_params.get("name", ""), request.query_params.get("version") or None
        if not name:
            raise InvalidInput("'name' must give the name of a column")
        scope = request.query_params.get("scope") or "fleet"
        return AsciiJsonResponse(await self._monitor.column(request.path_params["model"], version, name, scope))

    async def importance(self, request: Request) -> Response:
        version = request.query_params.get("version") or None
        return AsciiJsonResponse(await self._monitor.importance(request.path_params["model"], version))

    async def relearn(self, request: Request) -> Response:
        body = await read_document(request, "version", "reason")
        version = body.get("version")
        if version is not None and not isinstance(version, str):
            raise InvalidInput("'version' must be a text")
        return with_etag(
            await self._monitor.relearn(request.path_params["model"], version or None, read_author(request, body))
        )

    async def policy(self, request: Request) -> Response:
        return with_etag(await self._monitor.policy(request.path_params["model"]))

    async def check_policy(self, request: Request) -> Response:
        body = await read_document(request, "yaml")
        text = body.get("yaml")
        if not isinstance(text, str):
            raise InvalidInput("'yaml' must be the text of a policy")
        found = await self._monitor.check_policy(request.path_params["model"], text, caller_of(request))
        return AsciiJsonResponse(found)

    async def set_policy(self, request: Request) -> Response:
        return with_etag(await replace_policy(self._monitor, request))

    async def learn(self, request: Request) -> Response:
        names = request.path_params
        return with_etag(
            await self._monitor.learn(names["model"], names["version"], read_chunks(request), read_author(request)), 201
        )


class _RetrainingCalls:
    """The calls on retraining."""

    def __init__(self, retraining: RetrainingService, approvers: ApproverCheck) -> None:
        self._retraining = retraining
        self._approvers = approvers

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        return [
            ("POST", "/models/{model}/retrain", self.ask),
            ("GET", "/models/{model}/candidates", self.candidates),
            ("POST", "/models/{model}/candidates/{version}/approve", self.approve),
            ("POST", "/models/{model}/candidates/{version}/refuse", self.refuse),
            ("GET", "/models/{model}/retraining", self.document),
            ("GET", "/models/{model}/outbox", self.deliveries),
            ("POST", "/models/{model}/outbox/replay", self.replay),
        ]

    async def ask(self, request: Request) -> Response:
        body = await read_object(request)
        return AsciiJsonResponse(
            await self._retraining.ask(request.path_params["model"], body, read_author(request, body)), 201
        )

    async def candidates(self, request: Request) -> Response:
        return AsciiJsonResponse(await self._retraining.candidates.to_api(request.path_params["model"]))

    async def approve(self, request: Request) -> Response:
        names, author = request.path_params, read_author(request, await read_document(request, "reason"))
        await self._approvers.check(request, names["model"], names["version"])
        return AsciiJsonResponse(await self._retraining.candidates.approve(names["model"], names["version"], author))

    async def refuse(self, request: Request) -> Response:
        names, author = request.path_params, read_author(request, await read_document(request, "reason"))
        return AsciiJsonResponse(await self._retraining.candidates.refuse(names["model"], names["version"], author))

    async def document(self, request: Request) -> Response:
        return AsciiJsonResponse(await self._retraining.document(request.path_params["model"]))

    async def deliveries(self, request: Request) -> Response:
        return AsciiJsonResponse(await self._retraining.deliveries(request.path_params["model"]))

    async def replay(self, request: Request) -> Response:
        body = await read_document(request, "event", "sink", "reason")
        event, sink = (text_field(body, name) if name in body else None for name in ("event", "sink"))
        author, model = read_author(request, body), request.path_params["model"]
        return AsciiJsonResponse(await self._retraining.replay(model, author, event, sink))


def read_shown_columns(request: Request) -> ShownColumns:
    """Return which columns the query asks for: all without ``columns``.

    Raises:
        InvalidInput: ``columns`` is not a whole number, or more than a document may have.
    """
    most = query_number(request, "columns")
    if most is None:
        return ALL_COLUMNS
    if fault := number_fault("columns", most, 1, MOST_SHOWN, whole=True):
        raise InvalidInput(fault)
    return ShownColumns(most, request.query_params.get("search", "")[:LONGEST_SEARCH])
