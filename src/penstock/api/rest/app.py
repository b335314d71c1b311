"""The endpoints of the V2 REST protocol except ``infer``: health, metadata, configuration, statistics, repository."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.api.rest.documents import (
    index_line,
    metadata_document,
    region_document,
    statistics_document,
)
from penstock.api.rest.explain import ExplainEndpoint
from penstock.api.rest.feedback_body import read_feedback
from penstock.api.rest.openapi import DOCS_PAGE, describe_openapi
from penstock.api.rest.request_body import BodyReader, decode_body
from penstock.api.rest.request_scope import access_of, author_of_request
from penstock.api.rest.responses import HANDLERS, json_response
from penstock.core.access.endpoints import REST, Requirement
from penstock.core.errors import InvalidInput, NotFound, NotReady, Unsupported
from penstock.serving.data_plane import DataPlane
from penstock.serving.server_queries import SERVER_NAME
from penstock.serving.shared_memory import SharedRegion

Endpoint = Callable[[Request], Awaitable[Response]]


OtherEndpoints = Mapping[tuple[str, str], tuple[Requirement, Endpoint]]
"""What endpoints of other protocols require, and what answers them, by method and path."""


def build_app(plane: DataPlane, version: str, others: OtherEndpoints = MappingProxyType({})) -> ASGIApp:
    """Build the ASGI application for all paths except those of predictions."""
    added = [Route(path, _check_access(*found), methods=[method]) for (method, path), found in others.items()]
    app = Starlette(routes=[*Endpoints(plane, version).routes(), *added], exception_handlers=HANDLERS)
    app.router.redirect_slashes = False  # a redirect would repeat the caller's Host header
    return TrailingSlashMiddleware(app)


class TrailingSlashMiddleware:
    """Answers ``/v2/`` as ``/v2``: the protocol's OpenAPI description and some clients append a slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope["path"] = scope["path"][:-1] or "/"
        await self._app(scope, receive, send)


class Endpoints:
    """The handlers, over one data plane."""

    def __init__(self, plane: DataPlane, version: str) -> None:
        self._plane = plane
        self._bodies = BodyReader(plane.memory, plane.offload)
        self._explanations = ExplainEndpoint(plane)
        self._version = version
        self._described: Response | None = None

    def routes(self) -> list[Route]:
        """Return every path with its method; other methods on these paths get 405."""
        get: dict[str, Endpoint] = {
            "/v2": self._server_metadata,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/v2/models": self._models,
            "/v2/models/stats": self._all_statistics,
            "/openapi.json": self._openapi,
            "/docs": self._docs,
            "/v2/cudasharedmemory/status": self._cuda_regions,
            "/v2/cudasharedmemory/region/{region}/status": self._cuda_regions,
        }
        for path in ("/v2/systemsharedmemory", "/v2/systemsharedmemory/region/{region}"):
            get[f"{path}/status"] = self._regions
        for suffix, endpoint in {
            "": self._model_metadata,
            "/ready": self._model_ready,
            "/config": self._config,
            "/stats": self._statistics,
        }.items():
            get[f"/v2/models/{{model}}{suffix}"] = endpoint
            get[f"/v2/models/{{model}}/versions/{{version}}{suffix}"] = endpoint
        post: dict[str, Endpoint] = {
            "/v2/models/{model}/feedback": self._feedback,
            "/v2/systemsharedmemory/region/{region}/register": self._register,
            "/v2/systemsharedmemory/region/{region}/unregister": self._unregister,
            "/v2/systemsharedmemory/unregister": self._unregister,
            "/v2/cudasharedmemory/region/{region}/unregister": self._cuda_unregister,
            "/v2/cudasharedmemory/unregister": self._cuda_unregister,
            "/v2/repository/index": self._index,
            "/v2/repository/{repository}/index": self._index,
            "/v2/repository/models/{model}/load": self._load,
            "/v2/repository/{repository}/models/{model}/load": self._load,
            "/v2/repository/models/{model}/unload": self._unload,
            "/v2/repository/{repository}/models/{model}/unload": self._unload,
            # only forms that the infer handler does not recognise get here
            "/v2/models/{model}/infer": self._unrecognised_infer,
            "/v2/models/{model}/versions/{version}/infer": self._unrecognised_infer,
            "/v2/models/{model}/explain": self._explanations.explain,
            "/v2/models/{model}/versions/{version}/explain": self._explanations.explain,
        }
        refused = {path: _refuse_endpoint(reason) for path, reason in _NOT_OFFERED.items()}
        return [*_make_routes("GET", get), *_make_routes("POST", post), *_make_routes("*", refused)]

    async def _live(self, _: Request) -> Response:
        return json_response({"live": self._plane.live}, 200 if self._plane.live else 503)

    async def _ready(self, _: Request) -> Response:
        ready = self._plane.ready()
        return json_response({"ready": ready}, 200 if ready else 503)

    async def _server_metadata(self, _: Request) -> Response:
        return json_response(
            {"name": SERVER_NAME, "version": self._version, "extensions": self._plane.queries.extensions}
        )

    async def _models(self, request: Request) -> Response:
        access = access_of(request)
        return json_response({"models": [name for name in self._plane.routing_table.models if access.sees(name)]})

    async def _model_metadata(self, request: Request) -> Response:
        return json_response(metadata_document(self._plane.queries.metadata(*_find_target(request))))

    async def _model_ready(self, request: Request) -> Response:
        model, version = _find_target(request)
        ready = self._plane.queries.model_ready(model, version)
        return json_response({"name": model, "ready": ready}, 200 if ready else 503)

    async def _config(self, request: Request) -> Response:
        return json_response(self._plane.queries.config(*_find_target(request)))

    async def _statistics(self, request: Request) -> Response:
        return json_response(
            {
                "model_stats": [
                    statistics_document(statistic)
                    for statistic in self._plane.queries.statistics(*_find_target(request))
                ]
            }
        )

    async def _all_statistics(self, request: Request) -> Response:
        """Return all statistics, and the metadata of a model called "stats", which has the same path."""
        access = access_of(request)
        statistics = [item for item in self._plane.queries.statistics() if access.reads(item.model)]
        document = {"model_stats": [statistics_document(statistic) for statistic in statistics]}
        with suppress(NotFound, NotReady):
            if access.sees("stats"):
                document |= metadata_document(self._plane.queries.metadata("stats"))
        return json_response(document)

    async def _index(self, request: Request) -> Response:
        body = decode_body(await self._bodies.read(request), _IndexBody)
        access, lines = access_of(request), self._plane.queries.index(bool(body.ready))
        return json_response([index_line(line) for line in lines if access.sees(line.name)])

    async def _load(self, request: Request) -> Response:
        parameters = decode_body(await self._bodies.read(request), _RepositoryBody).parameters or {}
        if any(key.startswith("file:") for key in parameters):
            raise Unsupported("files cannot be sent with a load request; put them into the model folder")
        config = parameters.get("config")
        if config is not None and not isinstance(config, str):
            raise InvalidInput("the load parameter 'config' must be a string that holds a JSON object")
        await self._plane.queries.load(request.path_params["model"], config, author_of_request(request))
        return json_response({})

    async def _unload(self, request: Request) -> Response:
        decode_body(await self._bodies.read(request), _RepositoryBody)
        await self._plane.queries.unload(request.path_params["model"], author_of_request(request))
        return json_response({})

    async def _regions(self, request: Request) -> Response:
        name, owner = request.path_params.get("region", ""), access_of(request).owner
        return json_response([region_document(item) for item in self._plane.regions.status(name, owner)])

    async def _register(self, request: Request) -> Response:
        self._plane.regions.path_or_raise()
        body = decode_body(await self._bodies.read(request), _RegionBody)
        name, owner = request.path_params["region"], access_of(request).owner
        self._plane.regions.register(SharedRegion(name, body.key, body.offset or 0, body.byte_size, owner))
        return json_response({})

    async def _unregister(self, request: Request) -> Response:
        self._plane.regions.unregister(request.path_params.get("region", ""), access_of(request).owner)
        return json_response({})

    async def _cuda_regions(self, request: Request) -> Response:
        if region := request.path_params.get("region"):
            raise NotFound(f"unknown shared memory region '{region}'")
        return json_response([])

    async def _cuda_unregister(self, _: Request) -> Response:
        """Succeed without effect: clients unregister all regions before they register theirs."""
        return json_response({})

    async def _feedback(self, request: Request) -> Response:
        feedback = read_feedback(await self._bodies.read(request, self._plane.limits.max_json_bytes))
        accepted, matched = await self._plane.queries.feedback(request.path_params["model"], feedback)
        pending = {"pending": matched.pending} if matched.pending else {}
        return json_response({"accepted": accepted, "unmatched": matched.unmatched, **pending}, 202)

    async def _unrecognised_infer(self, request: Request) -> Response:
        raise InvalidInput("expected an infer request of the form POST /v2/models/MODEL[/versions/VERSION]/infer")

    async def _openapi(self, _: Request) -> Response:
        if self._described is None:
            self._described = json_response(describe_openapi(self._version))  # built once: it is long and never changes
        return self._described

    async def _docs(self, _: Request) -> Response:
        return Response(DOCS_PAGE, media_type="text/html")


_NOT_OFFERED = {
    "/v2/models/{model}/generate": "generate is not offered; send an infer request",
    "/v2/models/{model}/generate_stream": "generate_stream is not offered; send infer requests",
    "/v2/models/{model}/versions/{version}/generate": "generate is not offered; send an infer request",
    "/v2/models/{model}/versions/{version}/generate_stream": "generate_stream is not offered; send infer requests",
    "/v2/models/{model}/trace/setting": "trace settings are not offered over the protocol",
    "/v2/trace/setting": "trace settings are not offered over the protocol",
    "/v2/logging": "log settings are not offered over the protocol",
    "/v2/cudasharedmemory/region/{region}/register": (
        "the shared memory of accelerators is not offered; send tensor data in the request"
    ),
}
"""Unsupported paths of the protocol, and their error texts."""


def _make_routes(method: str, endpoints: Mapping[str, Endpoint]) -> list[Route]:
    """Return the routes of endpoints by path, each with its check; ``*`` is GET and POST.

    Raises:
        KeyError: the table of requirements has no entry for one of them.
    """
    methods = ["GET", "POST"] if method == "*" else [method]
    return [
        Route(path, _check_access(REST[f"{method} {path}"], endpoint), methods=methods)
        for path, endpoint in endpoints.items()
    ]


def _check_access(requirement: Requirement, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint behind the check of what it requires, for the model that it is given."""

    async def checked(request: Request) -> Response:
        client: object = request.scope["client"]
        access_of(request).check(requirement, request.path_params.get("model", ""), lambda _: client)
        return await endpoint(request)

    return checked


def _refuse_endpoint(reason: str) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        raise Unsupported(reason)

    return endpoint


class _IndexBody(msgspec.Struct):
    ready: bool | None = None


class _RegionBody(msgspec.Struct):
    key: str
    byte_size: int
    offset: int | None = None


class _RepositoryBody(msgspec.Struct):
    parameters: dict[str, Any] | None = None


def _find_target(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")
