"""The two roads to a registry: through a running gateway, or, where none runs, by hand in this process."""

import asyncio
import getpass
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from penstock.cli.client import CallFailed, Document
from penstock.cli.console import Exit
from penstock.cli.upload import Upload

EXIT_OF = {
    "invalid": Exit.USAGE,
    "not_found": Exit.NOT_FOUND,
    "refused": Exit.REFUSED,
    "too_large": Exit.REFUSED,
    "conflict": Exit.CONFLICT,
    "overloaded": Exit.UNAVAILABLE,
    "not_ready": Exit.UNAVAILABLE,
    "deadline": Exit.UNAVAILABLE,
    "damaged": Exit.INTEGRITY,
}
"""What the command line exits with, by what kind of fault it was."""

CALL_S = 60.0
LONG_CALL_S = 900.0
"""Wait for a push, which ends with the version loaded, and for a check of everything."""

Tell = Callable[[int, int], None]
"""Hears how many bytes of how many are done."""


class Registry(Protocol):
    """What the verbs need; every call raises ``CallFailed``."""

    def models(self) -> list[Document]:
        """Every model."""

    def model(self, name: str) -> Document:
        """One model."""

    def push(self, model: str, version: str, data: Upload, metadata: Document, reason: str, tell: Tell) -> Document:
        """A new version."""

    def alias(self, model: str, alias: str, version: str, expected: str | None, reason: str) -> Document:
        """Move an alias; ``expected`` None compares nothing, "" means that it must be new."""

    def rollback(self, model: str, alias: str, reason: str) -> Document:
        """Lead an alias back."""

    def retire(self, model: str, version: str, reason: str) -> Document:
        """Take a version out of service."""

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """Change how versions come and go; without changes, tell how they do."""

    def verify(self, tell: Tell) -> list[Document]:
        """Hash everything; what is not as it should be."""

    def export(self, model: str, version: str, into: Path, tell: Tell) -> str:
        """Write a version's bytes to a file; their digest as the registry has it."""

    def collect(self) -> list[str]:
        """Delete what nobody needs."""

    def audit(self, model: str | None, limit: int) -> list[Document]:
        """Who changed what."""


def actor() -> str:
    """Who uses the command line, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class ByGateway:
    """Through the admin API of a gateway at ``address`` (host:port of its ops port)."""

    def __init__(self, address: str) -> None:
        self._address = address

    def models(self) -> list[Document]:
        """See ``Registry``."""
        found: list[Document] = self._call("GET", "/models")["models"]
        return found

    def model(self, name: str) -> Document:
        """See ``Registry``."""
        return self._call("GET", _path(name))

    def push(self, model: str, version: str, data: Upload, metadata: Document, reason: str, tell: Tell) -> Document:
        """See ``Registry``."""
        headers = {
            "content-type": data.kind,
            "content-length": str(data.size),
            "penstock-metadata": json.dumps(metadata),
            "penstock-reason": quote(reason),
        }
        return self._call("PUT", _path(model, "versions", version), _told(data, tell), headers, LONG_CALL_S)

    def alias(self, model: str, alias: str, version: str, expected: str | None, reason: str) -> Document:
        """See ``Registry``."""
        body: Document = {"version": version, "reason": reason}
        if expected is not None:
            body["expected"] = expected or None
        return self._call("PUT", _path(model, "aliases", alias), body)

    def rollback(self, model: str, alias: str, reason: str) -> Document:
        """See ``Registry``."""
        return self._call("POST", _path(model, "rollback"), {"alias": alias, "reason": reason})

    def retire(self, model: str, version: str, reason: str) -> Document:
        """See ``Registry``."""
        headers = {"penstock-reason": quote(reason)}
        return self._call("DELETE", _path(model, "versions", version), None, headers)

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """See ``Registry``."""
        path = _path(model, "settings")
        return self._call("PUT", path, {**changes, "reason": reason}) if changes else self._call("GET", path)

    def verify(self, tell: Tell) -> list[Document]:
        """See ``Registry``."""
        with self._answer("POST", "/registry/verify", None, {}, LONG_CALL_S) as answer:
            for text in answer:
                line = json.loads(text)
                if "findings" in line:
                    findings: list[Document] = line["findings"]
                    return findings
                tell(line["done"], line["total"])
        raise CallFailed("the gateway did not finish the check", Exit.UNAVAILABLE)

    def export(self, model: str, version: str, into: Path, tell: Tell) -> str:
        """See ``Registry``."""
        path = f"{_path(model, 'versions', version)}/content"
        with self._answer("GET", path, None, {}, LONG_CALL_S) as answer, into.open("wb") as file:
            total, done = int(answer.headers.get("content-length", 0)), 0
            while chunk := answer.read(1 << 20):
                file.write(chunk)
                done += len(chunk)
                tell(done, total)
            return answer.headers["penstock-digest"] or ""

    def collect(self) -> list[str]:
        """See ``Registry``."""
        deleted: list[str] = self._call("POST", "/registry/collect", None, {}, LONG_CALL_S)["deleted"]
        return deleted

    def audit(self, model: str | None, limit: int) -> list[Document]:
        """See ``Registry``."""
        query = urlencode({"limit": limit} | ({"model": model} if model else {}))
        entries: list[Document] = self._call("GET", f"/audit?{query}")["entries"]
        return entries

    def _call(
        self,
        method: str,
        path: str,
        body: Document | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = CALL_S,
    ) -> Document:
        sent: bytes | Iterable[bytes] | None = body if not isinstance(body, dict) else json.dumps(body).encode()
        stated = {"content-type": "application/json"} if isinstance(body, dict) else {}
        with self._answer(method, path, sent, {**stated, **(headers or {})}, seconds) as answer:
            document: Document = json.loads(answer.read())
        return document

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], seconds: float
    ) -> Iterator[HTTPResponse]:
        connection = HTTPConnection(self._address, timeout=seconds)
        try:
            with _named(self._address):
                with suppress(
                    BrokenPipeError, ConnectionResetError
                ):  # refused before all was sent: the answer says why
                    connection.request(method, f"/admin/v1{path}", body, {"penstock-actor": quote(actor()), **headers})
                answer = connection.getresponse()
                if answer.status not in (200, 201):
                    raise _refusal(answer)
                yield answer
        finally:
            connection.close()


@contextmanager
def _named(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise CallFailed(f"no answer from {address}: {reason}", Exit.UNAVAILABLE) from None


def _refusal(answer: HTTPResponse) -> CallFailed:
    try:
        text = str(json.loads(answer.read())["error"])
    except (ValueError, KeyError, TypeError):
        text = f"the gateway answered with status {answer.status}"
    return CallFailed(text, EXIT_OF.get(answer.headers["penstock-fault"] or "", Exit.FAILURE))


def _path(model: str, *parts: str) -> str:
    return "/".join(["/models", *(quote(part, safe="") for part in (model, *parts))])


def _told(data: Upload, tell: Tell) -> Iterable[bytes]:
    done = 0
    for chunk in data.chunks:
        yield chunk
        done += len(chunk)
        tell(done, data.size)


class ByHand:
    """Directly in the registry at a place, with admission in this process; what is admitted counts as ready."""

    def __init__(self, place: Any, settings: Any) -> None:
        from penstock.registry.admission import AdmissionOptions
        from penstock.registry.registry import open_registry

        with _faults_named():
            self._registry = open_registry(place, settings.admission.max_bytes)
            self._registry.store.identity()
        self._admission = AdmissionOptions(settings.admission.seconds, settings.admission.memory_bytes)

    def models(self) -> list[Document]:
        """See ``Registry``."""
        with _faults_named():
            return [_document(record) for record in self._registry.store.models()]

    def model(self, name: str) -> Document:
        """See ``Registry``."""
        with _faults_named():
            return _document(self._registry.store.model(name))

    def push(self, model: str, version: str, data: Upload, metadata: Document, reason: str, tell: Tell) -> Document:
        """See ``Registry``."""
        from penstock.core.lineage import metadata_of
        from penstock.registry.records import By
        from penstock.registry.registry import check_names

        with _faults_named():
            check_names(model, version)
            checked = metadata_of(metadata)
            with self._registry.receive() as incoming:
                for chunk in _told(data, tell):
                    incoming.write(chunk)
                incoming.close()
                with self._registry.prepared(incoming) as prepared:
                    report = asyncio.run(self._examine(prepared.subject))
                    self._registry.commit(prepared, model, version, report, checked, By(actor(), reason))
            document = _document(self._registry.store.model(model))
        shown = next(one for one in document["versions"] if one["version"] == version)
        return {**shown, "model": model, "revision": document["revision"]}

    async def _examine(self, subject: Any) -> Any:
        from penstock.registry.admission import Examiner

        examiner = Examiner(self._admission)
        try:
            return await examiner.examine(subject)
        finally:
            await examiner.close()

    def alias(self, model: str, alias: str, version: str, expected: str | None, reason: str) -> Document:
        """See ``Registry``."""
        from penstock.registry.registry import check_alias
        from penstock.registry.store import ANY

        with _faults_named():
            check_alias(alias)
            self._registry.store.model(model)
            wanted = ANY if expected is None else expected or None
            move = self._registry.store.move_alias(model, alias, version, self._by(reason), expected=wanted)
        return _moved(model, alias, move)

    def rollback(self, model: str, alias: str, reason: str) -> Document:
        """See ``Registry``."""
        from penstock.registry.registry import CHAMPION, check_alias, usable_versions

        with _faults_named():
            check_alias(alias)
            usable = usable_versions(self._registry.store.model(model))
            fallback = usable[-2] if alias == CHAMPION and len(usable) > 1 else None
            move = self._registry.store.roll_back(model, alias, self._by(reason), usable.__contains__, fallback)
        return _moved(model, alias, move)

    def retire(self, model: str, version: str, reason: str) -> Document:
        """See ``Registry``."""
        with _faults_named():
            self._registry.store.retire(model, version, self._by(reason))
        return self.model(model)

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """See ``Registry``."""
        from penstock.registry.settings import settings_in, settings_out

        with _faults_named():
            record = self._registry.store.model(model)
            if not changes:
                return {**settings_out(record.settings), "revision": record.revision}
            settings = settings_in({**settings_out(record.settings), **changes})
            revision = self._registry.store.configure(model, settings, self._by(reason))
        return {**settings_out(settings), "revision": revision}

    def verify(self, tell: Tell) -> list[Document]:
        """See ``Registry``."""
        with _faults_named():
            return [asdict(finding) for finding in self._registry.verify(tell)]

    def export(self, model: str, version: str, into: Path, tell: Tell) -> str:
        """See ``Registry``."""
        with _faults_named():
            path, record = self._registry.export(model, version)
            shutil.copyfile(path, into)
            tell(record.content.size, record.content.size)
        return record.content.digest

    def collect(self) -> list[str]:
        """See ``Registry``."""
        with _faults_named():
            return self._registry.collect()

    def audit(self, model: str | None, limit: int) -> list[Document]:
        """See ``Registry``."""
        with _faults_named():
            return [asdict(entry) for entry in self._registry.store.audit(model, None, limit)]

    def _by(self, reason: str) -> Any:
        from penstock.registry.records import By

        return By(actor(), reason)


def _document(record: Any) -> Document:
    from penstock.registry.documents import ADMITTED, Shown, model_document

    return model_document(record, {version: Shown(ADMITTED) for version in record.versions})


def _moved(model: str, alias: str, move: Any) -> Document:
    return {"model": model, "alias": alias, "version": move.after, "before": move.before, "revision": move.revision}


@contextmanager
def _faults_named() -> Iterator[None]:
    from penstock.core.errors import Fault

    try:
        yield
    except Fault as fault:
        raise CallFailed(str(fault), EXIT_OF.get(fault.kind, Exit.FAILURE)) from None
    except OSError as error:
        raise CallFailed((error.strerror or type(error).__name__).lower(), Exit.FAILURE) from None
