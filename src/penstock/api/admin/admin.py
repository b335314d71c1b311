"""The admin API's calls on models and the registry: words of HTTP to calls of ``RegistryAdmin``, and back."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from penstock.api.admin.answers import Json, joined, revised
from penstock.api.admin.incoming import by, chunks, count, document, header_json, if_revision, word
from penstock.core.errors import InvalidInput
from penstock.core.lineage import metadata_of
from penstock.core.versions import CHAMPION
from penstock.registry.records import By, VersionRecord
from penstock.registry.stores.aliases import ANY, Expected

Document = dict[str, Any]

MOST_AUDIT = 1000
SOME_AUDIT = 100
WEBHOOK_BYTES = 1 << 20


class RegistryAdmin(Protocol):
    """What the admin API asks of the registry; every call may raise a fault."""

    async def models(self) -> list[Document]:
        """Every model."""

    async def model(self, name: str) -> Document:
        """One model."""

    async def push(
        self,
        model: str,
        version: str,
        chunks: AsyncIterator[bytes],
        metadata: Document,
        by: By,
        if_revision: int | None = None,
    ) -> tuple[Document, bool]:
        """A new version from its bytes; and whether it is new."""

    async def retire(
        self, model: str, version: str, by: By, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Take a version out of service for good."""

    async def export(self, model: str, version: str) -> tuple[Path, VersionRecord]:
        """The bytes of a version."""

    async def alias(
        self,
        model: str,
        alias: str,
        version: str,
        by: By,
        expected: Expected = ANY,
        if_revision: int | None = None,
        force: bool = False,
    ) -> Document:
        """Point an alias at a version."""

    async def drop_alias(
        self, model: str, alias: str, by: By, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Take an alias away."""

    async def rollback(
        self, model: str, by: By, alias: str = CHAMPION, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Lead an alias back."""

    async def settings(self, model: str) -> Document:
        """How a model's versions come and go."""

    async def configure(self, model: str, document: Document, by: By, if_revision: int | None = None) -> Document:
        """Change how they do."""

    def verify(self) -> AsyncIterator[Document]:
        """Hash everything."""

    async def collect(self) -> list[str]:
        """Delete what nobody needs."""

    async def audit(self, model: str | None, after: int | None, limit: int) -> list[Document]:
        """Who changed what: the first after a sequence number, or the newest."""

    async def audit_archives(self) -> list[Document]:
        """The archives of older changes."""

    async def archived_audit(self, name: str, model: str | None, after: int | None, limit: int) -> list[Document]:
        """Changes in an archive, as ``audit`` tells those that are in none."""

    async def identity(self) -> Document:
        """Which registry this is."""

    def mlflow_called(self, headers: Mapping[str, str], body: bytes) -> None:
        """MLflow says that something changed."""


def routes(registry_admin: RegistryAdmin) -> list[Route]:
    """Every path below ``/admin/v1`` that has to do with models and the registry."""
    calls = _Calls(registry_admin)
    version, alias = "/models/{model}/versions/{version}", "/models/{model}/aliases/{alias}"
    table = [
        ("GET", "/models", calls.models),
        ("GET", "/models/{model}", calls.model),
        ("PUT", version, calls.push),
        ("DELETE", version, calls.retire),
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
    return joined(table)


class _Calls:
    """One method for each call."""

    def __init__(self, registry_admin: RegistryAdmin) -> None:
        self._registrar = registry_admin

    async def models(self, _: Request) -> Response:
        return Json({"models": await self._registrar.models()})

    async def model(self, request: Request) -> Response:
        return revised(await self._registrar.model(request.path_params["model"]))

    async def push(self, request: Request) -> Response:
        names = request.path_params
        metadata = metadata_of(header_json(request, "penstock-metadata"))
        pushed, new = await self._registrar.push(
            names["model"], names["version"], chunks(request), metadata, by(request), if_revision(request)
        )
        return revised(pushed, 201 if new else 200)

    async def retire(self, request: Request) -> Response:
        names = request.path_params
        body = await document(request, "force", "reason")
        who, revision = by(request, body), if_revision(request)
        return revised(await self._registrar.retire(names["model"], names["version"], who, revision, _forced(body)))

    async def export(self, request: Request) -> Response:
        path, record = await self._registrar.export(request.path_params["model"], request.path_params["version"])
        kind = "application/octet-stream" if record.content.form == "onnx" else "application/x-tar"
        return FileResponse(path, media_type=kind, headers={"penstock-digest": record.content.digest})

    async def alias(self, request: Request) -> Response:
        names = request.path_params
        body = await document(request, "version", "expected", "force", "reason")
        expected: Expected = body.get("expected", ANY)
        if expected is not ANY and expected is not None and not isinstance(expected, str):
            raise InvalidInput("'expected' must be a version, or null where the alias must be new")
        moved = await self._registrar.alias(
            names["model"],
            names["alias"],
            word(body, "version"),
            by(request, body),
            expected,
            if_revision(request),
            _forced(body),
        )
        return revised(moved)

    async def drop_alias(self, request: Request) -> Response:
        names = request.path_params
        body = await document(request, "force", "reason")
        who, revision = by(request, body), if_revision(request)
        dropped = await self._registrar.drop_alias(names["model"], names["alias"], who, revision, _forced(body))
        return revised(dropped)

    async def rollback(self, request: Request) -> Response:
        body = await document(request, "alias", "force", "reason")
        alias, model = word(body, "alias", CHAMPION), request.path_params["model"]
        who, revision = by(request, body), if_revision(request)
        return revised(await self._registrar.rollback(model, who, alias, revision, _forced(body)))

    async def settings(self, request: Request) -> Response:
        return revised(await self._registrar.settings(request.path_params["model"]))

    async def configure(self, request: Request) -> Response:
        body = await document(request, "versions", "transition", "keep_warm_seconds", "reason")
        changes = {name: value for name, value in body.items() if name != "reason"}
        model, revision = request.path_params["model"], if_revision(request)
        return revised(await self._registrar.configure(model, changes, by(request, body), revision))

    async def identity(self, _: Request) -> Response:
        return Json(await self._registrar.identity())

    async def verify(self, request: Request) -> Response:
        await document(request)
        lines = self._registrar.verify()
        first = await anext(lines)  # a refusal comes before the answer begins
        return StreamingResponse(_json_lines(first, lines), media_type="application/x-ndjson")

    async def collect(self, request: Request) -> Response:
        await document(request)
        return Json({"deleted": await self._registrar.collect()})

    async def audit(self, request: Request) -> Response:
        return Json({"entries": await self._registrar.audit(*_selected(request))})

    async def audit_archives(self, _: Request) -> Response:
        return Json({"archives": await self._registrar.audit_archives()})

    async def archived_audit(self, request: Request) -> Response:
        name = request.path_params["name"]
        return Json({"entries": await self._registrar.archived_audit(name, *_selected(request))})

    async def mlflow(self, request: Request) -> Response:
        body = b"".join([chunk async for chunk in chunks(request, WEBHOOK_BYTES)])
        self._registrar.mlflow_called(request.headers, body)
        return Json({}, 202)


def _selected(request: Request) -> tuple[str | None, int | None, int]:
    """Which changes are asked for: of which model, after which sequence number, and how many."""
    limit = count(request, "limit")
    limit = SOME_AUDIT if limit is None else min(limit, MOST_AUDIT)
    return request.query_params.get("model") or None, count(request, "after"), limit


def _forced(body: Document) -> bool:
    """Whether a change is to be made although it has no effect now."""
    force = body.get("force", False)
    if not isinstance(force, bool):
        raise InvalidInput("'force' is true or false")
    return force


async def _json_lines(first: Document, rest: AsyncIterator[Document]) -> AsyncIterator[str]:
    yield json.dumps(first) + "\n"
    async for line in rest:
        yield json.dumps(line) + "\n"
