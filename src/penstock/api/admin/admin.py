"""The admin API for models and the registry: HTTP requests to calls of ``RegistryService``."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from penstock.api.admin.answers import AsciiJsonResponse, build_routes, with_etag
from penstock.api.admin.audit import AuditService
from penstock.api.admin.audit import list_routes as audit_routes
from penstock.api.admin.caller_check import visible_models
from penstock.api.admin.incoming import (
    query_number,
    read_author,
    read_chunks,
    read_document,
    read_header_object,
    read_if_match,
    text_field,
)
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.errors import InvalidInput
from penstock.core.lineage import metadata_of
from penstock.core.model_signing import BUNDLE_BYTES
from penstock.core.versions import CHAMPION
from penstock.registry.records import Author, VersionRecord
from penstock.registry.stores.aliases import ANY, Expected

Document = dict[str, Any]

MOST_AUDIT = 1000
DEFAULT_AUDIT = 100
WEBHOOK_BYTES = 1 << 20


class RegistryService(Protocol):
    """The registry as the admin API uses it; every call may raise a ``Fault``."""

    async def models(self) -> list[Document]:
        """Return every model."""

    async def model(self, name: str) -> Document:
        """Return one model."""

    async def push(
        self,
        model: str,
        version: str,
        chunks: AsyncIterator[bytes],
        metadata: Document,
        by: Author,
        if_revision: int | None = None,
    ) -> tuple[Document, bool]:
        """Add a version from its bytes; return it, and whether it is new."""

    async def add_signature(self, model: str, version: str, bundle: str, by: Author) -> Document:
        """Add a signature to a version that was pushed, or will be."""

    async def approve(self, model: str, version: str, by: Author) -> Document:
        """Approve a version for traffic."""

    async def gates(self, model: str, version: str) -> Document:
        """Return the result of every gate of a version."""

    async def retire(
        self, model: str, version: str, by: Author, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Take a version out of service permanently."""

    @property
    def auditing(self) -> AuditService:
        """The audit as a verifiable log."""

    async def export(self, model: str, version: str, by: Author) -> tuple[Path, VersionRecord]:
        """Return the file and record of a version."""

    async def alias(
        self,
        model: str,
        alias: str,
        version: str,
        by: Author,
        expected: Expected = ANY,
        if_revision: int | None = None,
        force: bool = False,
    ) -> Document:
        """Point an alias at a version."""

    async def drop_alias(
        self, model: str, alias: str, by: Author, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Delete an alias."""

    async def rollback(
        self, model: str, by: Author, alias: str = CHAMPION, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Move an alias back to its previous version."""

    async def settings(self, model: str) -> Document:
        """Return a model's settings."""

    async def configure(self, model: str, document: Document, by: Author, if_revision: int | None = None) -> Document:
        """Change a model's settings."""

    def verify(self) -> AsyncIterator[Document]:
        """Check every digest; yields progress, then the findings."""

    async def collect(self) -> list[str]:
        """Delete unused contents and return their digests."""

    async def audit(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        """Return audit entries of visible models: the first after a sequence number, or the newest."""

    async def audit_archives(self) -> list[Document]:
        """Return the archives of older entries."""

    async def archived_audit(
        self, name: str, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        """Return entries of an archive; as ``audit``."""

    async def identity(self) -> Document:
        """Return the identity of the registry."""

    def mlflow_called(self, headers: Mapping[str, str], body: bytes) -> None:
        """Handle a webhook of MLflow."""


def list_routes(registry_admin: RegistryService) -> list[Route]:
    """Return the routes below ``/admin/v1`` for models and the registry."""
    calls = _RegistryEndpoints(registry_admin)
    version, alias = "/models/{model}/versions/{version}", "/models/{model}/aliases/{alias}"
    table = [
        ("GET", "/models", calls.models),
        ("GET", "/models/{model}", calls.model),
        ("PUT", version, calls.push),
        ("DELETE", version, calls.retire),
        ("PUT", f"{version}/signatures", calls.add_signature),
        ("POST", f"{version}/approve", calls.approve),
        ("GET", f"{version}/gates", calls.gates),
        ("GET", f"{version}/content", calls.export),
        ("PUT", alias, calls.alias),
        ("DELETE", alias, calls.drop_alias),
        ("POST", "/models/{model}/rollback", calls.rollback),
        ("GET", "/models/{model}/settings", calls.settings),
        ("PUT", "/models/{model}/settings", calls.configure),
        ("GET", "/registry", calls.identity),
        ("POST", "/registry/verify", calls.verify),
        ("POST", "/registry/collect", calls.collect),
        ("GET", "/audit", calls.audit),
        ("GET", "/audit/archives", calls.audit_archives),
        ("GET", "/audit/archives/{name}", calls.archived_audit),
        ("POST", "/webhooks/mlflow", calls.mlflow),
    ]
    return [*build_routes(table), *audit_routes(registry_admin.auditing)]


class _RegistryEndpoints:
    """One method for each route."""

    def __init__(self, registry_admin: RegistryService) -> None:
        self._registry_admin = registry_admin

    async def models(self, request: Request) -> Response:
        visible = visible_models(request)
        models = [model for model in await self._registry_admin.models() if visible.allows(model["name"])]
        return AsciiJsonResponse({"models": models})

    async def model(self, request: Request) -> Response:
        return with_etag(await self._registry_admin.model(request.path_params["model"]))

    async def push(self, request: Request) -> Response:
        names = request.path_params
        metadata = metadata_of(read_header_object(request, "penstock-metadata"))
        pushed, new = await self._registry_admin.push(
            names["model"],
            names["version"],
            read_chunks(request),
            metadata,
            read_author(request),
            read_if_match(request),
        )
        return with_etag(pushed, 201 if new else 200)

    async def add_signature(self, request: Request) -> Response:
        names = request.path_params
        content = b"".join([chunk async for chunk in read_chunks(request, BUNDLE_BYTES)])
        try:
            bundle = content.decode()
        except UnicodeDecodeError:
            raise InvalidInput("the signature is not UTF-8 text") from None
        author = read_author(request)
        added = await self._registry_admin.add_signature(names["model"], names["version"], bundle, author)
        return AsciiJsonResponse(added, 201)

    async def approve(self, request: Request) -> Response:
        names = request.path_params
        author = read_author(request, await read_document(request, "reason"))
        return AsciiJsonResponse(await self._registry_admin.approve(names["model"], names["version"], author))

    async def gates(self, request: Request) -> Response:
        names = request.path_params
        return AsciiJsonResponse(await self._registry_admin.gates(names["model"], names["version"]))

    async def retire(self, request: Request) -> Response:
        names = request.path_params
        body = await read_document(request, "force", "reason")
        author, revision = read_author(request, body), read_if_match(request)
        return with_etag(
            await self._registry_admin.retire(names["model"], names["version"], author, revision, _is_forced(body))
        )

    async def export(self, request: Request) -> Response:
        names = request.path_params
        path, record = await self._registry_admin.export(names["model"], names["version"], read_author(request))
        kind = "application/octet-stream" if record.content.form == "onnx" else "application/x-tar"
        return FileResponse(path, media_type=kind, headers={"penstock-digest": record.content.digest})

    async def alias(self, request: Request) -> Response:
        names = request.path_params
        body = await read_document(request, "version", "expected", "force", "reason")
        expected: Expected = body.get("expected", ANY)
        if expected is not ANY and expected is not None and not isinstance(expected, str):
            raise InvalidInput("'expected' must be a version, or null if the alias must be new")
        moved = await self._registry_admin.alias(
            names["model"],
            names["alias"],
            text_field(body, "version"),
            read_author(request, body),
            expected,
            read_if_match(request),
            _is_forced(body),
        )
        return with_etag(moved)

    async def drop_alias(self, request: Request) -> Response:
        names = request.path_params
        body = await read_document(request, "force", "reason")
        author, revision = read_author(request, body), read_if_match(request)
        dropped = await self._registry_admin.drop_alias(
            names["model"], names["alias"], author, revision, _is_forced(body)
        )
        return with_etag(dropped)

    async def rollback(self, request: Request) -> Response:
        body = await read_document(request, "alias", "force", "reason")
        alias, model = text_field(body, "alias", CHAMPION), request.path_params["model"]
        author, revision = read_author(request, body), read_if_match(request)
        return with_etag(await self._registry_admin.rollback(model, author, alias, revision, _is_forced(body)))

    async def settings(self, request: Request) -> Response:
        return with_etag(await self._registry_admin.settings(request.path_params["model"]))

    async def configure(self, request: Request) -> Response:
        body = await read_document(request, "versions", "transition", "keep_warm_seconds", "reason")
        changes = {name: value for name, value in body.items() if name != "reason"}
        model, revision = request.path_params["model"], read_if_match(request)
        return with_etag(await self._registry_admin.configure(model, changes, read_author(request, body), revision))

    async def identity(self, request: Request) -> Response:
        document = await self._registry_admin.identity()
        if not visible_models(request).is_everything:
            document = {**document, "repositories": []}
        return AsciiJsonResponse(document)

    async def verify(self, request: Request) -> Response:
        await read_document(request)
        lines = self._registry_admin.verify()
        first = await anext(lines)  # a refusal is raised before the response starts
        return StreamingResponse(_json_lines(first, lines), media_type="application/x-ndjson")

    async def collect(self, request: Request) -> Response:
        await read_document(request)
        return AsciiJsonResponse({"deleted": await self._registry_admin.collect()})

    async def audit(self, request: Request) -> Response:
        entries = await self._registry_admin.audit(*_query_parameters(request), visible_models(request))
        return AsciiJsonResponse({"entries": entries})

    async def audit_archives(self, _: Request) -> Response:
        return AsciiJsonResponse({"archives": await self._registry_admin.audit_archives()})

    async def archived_audit(self, request: Request) -> Response:
        name, visible = request.path_params["name"], visible_models(request)
        entries = await self._registry_admin.archived_audit(name, *_query_parameters(request), visible)
        return AsciiJsonResponse({"entries": entries})

    async def mlflow(self, request: Request) -> Response:
        body = b"".join([chunk async for chunk in read_chunks(request, WEBHOOK_BYTES)])
        self._registry_admin.mlflow_called(request.headers, body)
        return AsciiJsonResponse({}, 202)


def _query_parameters(request: Request) -> tuple[str | None, int | None, int]:
    """Return the model, sequence number and limit in the query."""
    limit = query_number(request, "limit")
    limit = DEFAULT_AUDIT if limit is None else min(limit, MOST_AUDIT)
    return request.query_params.get("model") or None, query_number(request, "after"), limit


def _is_forced(body: Document) -> bool:
    """Return the field ``force``: whether to make a change that has no effect now."""
    force = body.get("force", False)
    if not isinstance(force, bool):
        raise InvalidInput("'force' must be true or false")
    return force


async def _json_lines(first: Document, rest: AsyncIterator[Document]) -> AsyncIterator[str]:
    yield json.dumps(first) + "\n"
    async for line in rest:
        yield json.dumps(line) + "\n"
