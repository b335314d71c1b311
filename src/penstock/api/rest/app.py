"""Everything of the V2 REST protocol but ``infer``: health, metadata, configuration, statistics, repository."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.api.common.compression import MAX_RATIO
from penstock.api.common.content_coding import BOM, inflate
from penstock.api.common.work import LargeWork
from penstock.api.http1.answers import error_body, fault_fields
from penstock.api.rest.openapi import DOCS_PAGE, document
from penstock.core.errors import Cancelled, Fault, InvalidInput, NotFound, NotReady, OverBudget, TooLarge, Unsupported
from penstock.core.labels import HTTP_STATUS
from penstock.core.signature import TensorSpec
from penstock.core.slices import Pacer
from penstock.monitor.counters.totals import Totals
from penstock.monitor.told import Told
from penstock.serving.data_plane import DataPlane
from penstock.serving.server_queries import SERVER_NAME, ModelMetadata, VersionStatistics
from penstock.serving.shared_memory import Region

MOST_FEEDBACK = 10_000
MOST_LABELS = 100_000
"""Answers that one request may tell of, and labels of all of them."""

LABEL_CHARACTERS = 1024
"""Characters of a label that is a text."""

ID_CHARACTERS = 512
"""Characters of an id; answers are found by so many."""

SMALL_BODY = 1 << 20
"""Bytes of the body of a request that brings no data, such as for the index or for a load: more than any needs."""

log = logging.getLogger("penstock.rest")

Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(plane: DataPlane, version: str) -> ASGIApp:
    """The ASGI application for all paths but ``infer``."""
    endpoints = Endpoints(plane, version)
    app = Starlette(routes=endpoints.routes(), exception_handlers=_HANDLERS)
    app.router.redirect_slashes = False  # a redirect would repeat the caller's Host header
    return IgnoresTrailingSlash(app)


class IgnoresTrailingSlash:
    """Answers ``/v2/`` as ``/v2``: the protocol's OpenAPI description and some clients write paths so."""

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
        self._version = version
        self._described: Response | None = None

    def routes(self) -> list[Route]:
        """Every path with its method; other methods on these paths are answered with 405."""
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
            # POST reaches these two only in a form the infer road does not recognise
            "/v2/models/{model}/infer": self._odd_infer,
            "/v2/models/{model}/versions/{version}/infer": self._odd_infer,
        }
        offered = [Route(path, endpoint, methods=["GET"]) for path, endpoint in get.items()]
        offered += [Route(path, endpoint, methods=["POST"]) for path, endpoint in post.items()]
        return offered + [Route(path, _refused(why), methods=["GET", "POST"]) for path, why in _NOT_OFFERED.items()]

    async def _live(self, _: Request) -> Response:
        return _json({"live": self._plane.live}, 200 if self._plane.live else 503)

    async def _ready(self, _: Request) -> Response:
        ready = self._plane.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _server_metadata(self, _: Request) -> Response:
        return _json({"name": SERVER_NAME, "version": self._version, "extensions": self._plane.queries.extensions})

    async def _models(self, _: Request) -> Response:
        return _json({"models": list(self._plane.routing_table.models)})

    async def _model_metadata(self, request: Request) -> Response:
        return _json(_metadata(self._plane.queries.metadata(*_target(request))))

    async def _model_ready(self, request: Request) -> Response:
        model, version = _target(request)
        ready = self._plane.queries.model_ready(model, version)
        return _json({"name": model, "ready": ready}, 200 if ready else 503)

    async def _config(self, request: Request) -> Response:
        return _json(self._plane.queries.config(*_target(request)))

    async def _statistics(self, request: Request) -> Response:
        return _json({"model_stats": [_statistics(one) for one in self._plane.queries.statistics(*_target(request))]})

    async def _all_statistics(self, _: Request) -> Response:
        """All statistics, and the metadata of a model called "stats", which has the same path."""
        found = {"model_stats": [_statistics(one) for one in self._plane.queries.statistics()]}
        with suppress(NotFound, NotReady):
            found |= _metadata(self._plane.queries.metadata("stats"))
        return _json(found)

    async def _index(self, request: Request) -> Response:
        body = _decoded(await self._body(request), _IndexBody)
        lines = self._plane.queries.index(bool(body.ready))
        return _json([{key: value for key, value in _index_line(line).items() if value} for line in lines])

    async def _load(self, request: Request) -> Response:
        parameters = _decoded(await self._body(request), _RepositoryBody).parameters or {}
        if any(key.startswith("file:") for key in parameters):
            raise Unsupported("files cannot be sent with a load request; put them into the model folder")
        config = parameters.get("config")
        if config is not None and not isinstance(config, str):
            raise InvalidInput("the load parameter 'config' must be a string that holds a JSON object")
        await self._plane.queries.load(request.path_params["model"], config)
        return _json({})

    async def _unload(self, request: Request) -> Response:
        _decoded(await self._body(request), _RepositoryBody)
        await self._plane.queries.unload(request.path_params["model"])
        return _json({})

    async def _regions(self, request: Request) -> Response:
        found = self._plane.regions.status(request.path_params.get("region", ""))
        return _json([asdict(one) for one in found])

    async def _register(self, request: Request) -> Response:
        self._plane.regions.require()
        body = _decoded(await self._body(request), _RegionBody)
        self._plane.regions.register(Region(request.path_params["region"], body.key, body.offset or 0, body.byte_size))
        return _json({})

    async def _unregister(self, request: Request) -> Response:
        self._plane.regions.unregister(request.path_params.get("region", ""))
        return _json({})

    async def _cuda_regions(self, request: Request) -> Response:
        if region := request.path_params.get("region"):
            raise NotFound(f"unknown shared memory region '{region}'")
        return _json([])

    async def _cuda_unregister(self, _: Request) -> Response:
        """There is never a region to forget; clients ask for it before they register theirs."""
        return _json({})

    async def _feedback(self, request: Request) -> Response:
        body = _decoded(await self._body(request, self._plane.limits.max_json_bytes), _FeedbackBody)
        if len(body.feedback) > MOST_FEEDBACK:
            raise InvalidInput(f"at most {MOST_FEEDBACK} answers can be told of at a time")
        labels = sum([len(one.label) for one in body.feedback if isinstance(one.label, list)])
        if labels > MOST_LABELS:
            raise TooLarge(f"the feedback has {labels} labels, over the limit of {MOST_LABELS}; send fewer at a time")
        told = [_told(one) for one in body.feedback]
        accepted, matched = await self._plane.queries.feedback(request.path_params["model"], told)
        pending = {"pending": matched.pending} if matched.pending else {}
        return _json({"accepted": accepted, "unmatched": matched.unmatched, **pending}, 202)

    async def _odd_infer(self, request: Request) -> Response:
        raise InvalidInput("expected an infer request of the form POST /v2/models/MODEL[/versions/VERSION]/infer")

    async def _openapi(self, _: Request) -> Response:
        if self._described is None:
            self._described = _json(document(self._version))  # one answer for all: it is long, and always the same
        return self._described

    async def _docs(self, _: Request) -> Response:
        return Response(DOCS_PAGE, media_type="text/html")

    async def _body(self, request: Request, most: int = SMALL_BODY) -> bytes:
        """The plain body of a request, of at most so many bytes."""
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise TooLarge(f"the body is over the limit of {most} bytes; send less at a time")
                parts.append(part)
        except ClientDisconnect:
            raise Cancelled("the caller went away") from None
        coding = request.headers.get("content-encoding", "")
        return await self._inflated(b"".join(parts), coding.encode("latin-1"), most)

    async def _inflated(self, body: bytes, coding: bytes, most: int) -> bytes:
        """A body without its content coding; a thread inflates a large one."""
        try:
            return inflate(body, coding, most, None)
        except LargeWork:
            pass
        memory, size = self._plane.memory, min(len(body) * MAX_RATIO, most)
        if not memory.take(size):
            raise OverBudget("the worker has no memory left to inflate the body; try again later")
        try:
            work = partial(inflate, body, coding, most, Pacer().pause)
            return await self._plane.offload.run(work, len(body) + size)
        finally:
            memory.give_back(size)


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
"""Paths of the protocol that are refused, and the sentence they are refused with."""


def _refused(why: str) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        raise Unsupported(why)

    return endpoint


_Body = TypeVar("_Body", bound=msgspec.Struct)


class _IndexBody(msgspec.Struct):
    ready: bool | None = None


class _Feedback(msgspec.Struct):
    id: str
    label: Any = None
    reward: float | None = None
    timestamp: str | float | None = None


class _FeedbackBody(msgspec.Struct):
    feedback: list[_Feedback]


def _told(one: _Feedback) -> Told:
    labels = one.label if isinstance(one.label, list) else [one.label]
    if any(isinstance(label, (dict, list)) for label in labels):
        raise InvalidInput("a label is a number, a text or a truth value, or a list of them")
    if any(isinstance(label, str) and len(label) > LABEL_CHARACTERS for label in labels):
        raise InvalidInput(f"a label that is a text has at most {LABEL_CHARACTERS} characters")
    if one.reward is not None and not 0 <= one.reward <= 1:
        raise InvalidInput("a reward is a number from 0 to 1")
    if one.label is None and one.reward is None:
        raise InvalidInput("feedback needs a 'label' or a 'reward'")
    return Told(one.id[:ID_CHARACTERS], one.label, one.reward, _seconds(one.timestamp))


def _seconds(timestamp: str | float | None) -> float:
    """A time in seconds since the epoch or as ISO 8601, 0 for none."""
    if not isinstance(timestamp, str):
        return float(timestamp or 0.0)
    try:
        found = datetime.fromisoformat(timestamp)
    except ValueError:
        raise InvalidInput("a timestamp is an ISO 8601 time, or seconds since 1970") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


class _RegionBody(msgspec.Struct):
    key: str
    byte_size: int
    offset: int | None = None


class _RepositoryBody(msgspec.Struct):
    parameters: dict[str, Any] | None = None


def _decoded(body: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body.removeprefix(BOM) or b"{}", type=kind)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid: {error}") from None


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


def _metadata(found: ModelMetadata) -> dict[str, Any]:
    return {
        "name": found.name,
        "versions": found.versions,
        "platform": found.platform,
        "inputs": [_described(spec) for spec in found.inputs],
        "outputs": [_described(spec) for spec in found.outputs],
        **({"properties": found.properties} if found.properties else {}),
    }


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _index_line(line: Any) -> dict[str, str]:
    return {"name": line.name, "version": line.version, "state": line.state, "reason": line.reason}


def _duration(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}


def _statistics(one: VersionStatistics) -> dict[str, Any]:
    totals = one.totals
    return {
        "name": one.model,
        "version": one.version,
        "last_inference": totals.last_inference_ms,
        "inference_count": totals.inferences,
        "execution_count": totals.executions,
        "inference_stats": _inference_stats(totals),
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(count, decode),
                "compute_infer": _duration(count, run),
                "compute_output": _duration(count, encode),
            }
            for size, count, decode, run, encode in totals.batches()
        ],
        "memory_usage": [],
        "response_stats": {},
    }


def _inference_stats(totals: Totals) -> dict[str, dict[str, int]]:
    stages = {stage: totals.stage(stage) for stage in ("queue", "decode", "run", "encode")}
    succeeded = totals.outcome_count(succeeded=True)
    return {
        "success": _duration(succeeded, totals.success_ns),
        "fail": _duration(totals.outcome_count(succeeded=False), totals.fail_ns),
        "queue": _duration(stages["queue"].count, stages["queue"].total),
        "compute_input": _duration(stages["decode"].count, stages["decode"].total),
        "compute_infer": _duration(stages["run"].count, stages["run"].total),
        "compute_output": _duration(stages["encode"].count, stages["encode"].total),
        "cache_hit": _duration(0, 0),
        "cache_miss": _duration(0, 0),
    }


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _fault(_: Request, fault: Fault) -> Response:
    response = Response(error_body(str(fault)), HTTP_STATUS[fault.kind], media_type="application/json")
    for name, value in fault_fields(fault):
        response.headers[name.decode()] = value.decode()
    return response


async def _http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"allow": f"{_allowed(error)}, OPTIONS"})
    sentence = {404: "no such path", 405: "this method is not allowed here"}.get(error.status_code, error.detail)
    return Response(error_body(sentence), error.status_code, error.headers, media_type="application/json")


def _allowed(error: HTTPException) -> str:
    return (error.headers or {}).get("Allow", "GET")


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return Response(error_body("the request failed"), 500, media_type="application/json")


_HANDLERS: dict[Any, Any] = {Fault: _fault, HTTPException: _http_error, Exception: _unexpected}
