"""A registry client over the admin API of a running gateway."""

import json
import select
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode

from penstock.cli.client import EXITS, CallFailed, Document
from penstock.cli.connections import Address, describe, open_connection
from penstock.cli.console import ExitCode
from penstock.cli.registry_client import EXIT_OF, OnProgress, Write, upload_chunks, user_name
from penstock.cli.tls import explain
from penstock.cli.upload import Upload

CALL_S = 60.0
CHUNK = 1 << 20
LONG_CALL_S = 900.0
"""Seconds to wait for a push, which ends when the version is loaded, and for a full check."""


class AdminApiClient:
    """Calls the admin API of a gateway at ``address`` (its ops port, or its owner's socket).

    Every call raises ``CallFailed``. Each opens a connection of its own, so that threads may share a client.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def models(self) -> list[Document]:
        """See ``RegistryClient``."""
        models: list[Document] = self._call("GET", "/models").get("models", [])
        return models

    def model(self, name: str) -> Document:
        """See ``RegistryClient``."""
        return self._call("GET", _make_path(name))

    def push(
        self, model: str, version: str, data: Upload, metadata: Document, reason: str, on_progress: OnProgress
    ) -> Document:
        """See ``RegistryClient``."""
        headers = {
            "content-type": data.kind,
            "content-length": str(data.size),
            "penstock-metadata": json.dumps(metadata),
            "penstock-reason": quote(reason),
        }
        return self._call(
            "PUT", _make_path(model, "versions", version), upload_chunks(data, on_progress), headers, LONG_CALL_S
        )

    def add_signature(self, model: str, version: str, bundle: str, reason: str) -> Document:
        """See ``RegistryClient``."""
        content = bundle.encode()
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        path = _make_path(model, "versions", version, "signatures")
        return self._call("PUT", path, [content], {**headers, "penstock-reason": quote(reason)})

    def gates(self, model: str, version: str) -> Document:
        """See ``RegistryClient``."""
        return self._call("GET", _make_path(model, "versions", version, "gates"))

    def approve_version(self, model: str, version: str, reason: str) -> Document:
        """See ``RegistryClient``."""
        return self._call("POST", _make_path(model, "versions", version, "approve"), {"reason": reason})

    def alias(
        self, model: str, alias: str, version: str, expected: str | None, reason: str, force: bool = False
    ) -> Document:
        """See ``RegistryClient``."""
        body: Document = {"version": version, "reason": reason, **({"force": True} if force else {})}
        if expected is not None:
            body["expected"] = expected or None
        return self._call("PUT", _make_path(model, "aliases", alias), body)

    def drop_alias(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """See ``RegistryClient``."""
        body: Document = {"reason": reason, **({"force": True} if force else {})}
        return self._call("DELETE", _make_path(model, "aliases", alias), body)

    def rollback(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """See ``RegistryClient``."""
        body: Document = {"alias": alias, "reason": reason, **({"force": True} if force else {})}
        return self._call("POST", _make_path(model, "rollback"), body)

    def retire(self, model: str, version: str, reason: str, force: bool = False) -> Document:
        """See ``RegistryClient``."""
        body: Document = {"reason": reason, **({"force": True} if force else {})}
        return self._call("DELETE", _make_path(model, "versions", version), body)

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """See ``RegistryClient``."""
        path = _make_path(model, "settings")
        return self._call("PUT", path, {**changes, "reason": reason}) if changes else self._call("GET", path)

    def verify(self, on_progress: OnProgress) -> list[Document]:
        """See ``RegistryClient``."""
        with self._answer("POST", "/registry/verify", None, {}, LONG_CALL_S) as answer:
            for text in answer:
                line = json.loads(text)
                if "findings" in line:
                    findings: list[Document] = line["findings"]
                    return findings
                on_progress(line["done"], line["total"])
        raise CallFailed("the gateway did not finish the check", ExitCode.UNAVAILABLE)

    def export(self, model: str, version: str, write: Write, on_progress: OnProgress) -> str:
        """See ``RegistryClient``."""
        path = f"{_make_path(model, 'versions', version)}/content"
        with self._answer("GET", path, None, {}, LONG_CALL_S) as answer:
            total, done = int(answer.headers.get("content-length", 0)), 0
            while chunk := answer.read(CHUNK):
                write(chunk)
                done += len(chunk)
                on_progress(done, total)
            if done < total:
                raise CallFailed(
                    "the gateway closed the connection before the download was complete", ExitCode.UNAVAILABLE
                )
            return answer.headers["penstock-digest"] or ""

    def collect(self) -> list[str]:
        """See ``RegistryClient``."""
        deleted: list[str] = self._call("POST", "/registry/collect", None, {}, LONG_CALL_S).get("deleted", [])
        return deleted

    def route(self, model: str) -> Document:
        """Return a model's route."""
        return self._call("GET", _make_path(model, "route"))

    def set_route(self, model: str, route: Document, revision: int | None = None) -> Document:
        """Replace a route; with ``revision``, only if the model still has that revision."""
        headers = {} if revision is None else {"if-match": f'"{revision}"'}
        return self._call("PUT", _make_path(model, "route"), route, headers)

    def drop_route(self, model: str, reason: str) -> Document:
        """Delete a route."""
        return self._call("DELETE", _make_path(model, "route"), {"reason": reason})

    def shadow(self, model: str, version: str) -> Document:
        """Return the results of a version as a shadow."""
        return self._call("GET", _make_path(model, "shadow", version))

    def begin(self, model: str, kind: str, specification: Document) -> Document:
        """Start a trial; ``kind`` is "rollouts" or "experiments"."""
        return self._call("POST", _make_path(model, kind), specification)

    def trials(self, model: str, kind: str) -> list[Document]:
        """Return a model's trials, newest first."""
        trials: list[Document] = self._call("GET", _make_path(model, kind)).get(kind, [])
        return trials

    def trial(self, model: str, kind: str, trial_id: str) -> Document:
        """Return one trial."""
        return self._call("GET", _make_path(model, kind, trial_id))

    def act(self, model: str, kind: str, trial_id: str, verb: str, reason: str) -> Document:
        """Apply a verb, such as "pause", to a trial."""
        return self._call("POST", _make_path(model, kind, trial_id, verb), {"reason": reason})

    def monitor(self, model: str, version: str | None = None) -> Document:
        """Return the monitor's document of a version, by default of the one that answers."""
        query = f"?{urlencode({'version': version})}" if version else ""
        return self._call("GET", f"{_make_path(model, 'monitor')}{query}")

    def importance(self, model: str, version: str | None = None) -> Document:
        """Return how much the features of a version move its answers, by default of the one that answers."""
        query = f"?{urlencode({'version': version})}" if version else ""
        return self._call("GET", f"{_make_path(model, 'importance')}{query}")

    def explain_captured(self, model: str, version: str, request_id: str, parameters: Document) -> Document:
        """Return the explanation of a captured request."""
        body: Document = {"id": request_id, "parameters": parameters} | ({"version": version} if version else {})
        return self._call("POST", _make_path(model, "captured", "explain"), body)

    def relearn(self, model: str, version: str | None, reason: str) -> Document:
        """Discard a version's reference and learn a new one from traffic."""
        body = {"reason": reason} | ({"version": version} if version else {})
        return self._call("POST", _make_path(model, "monitor", "relearn"), body)

    def policy(self, model: str) -> Document:
        """Return a model's policy."""
        return self._call("GET", _make_path(model, "policy"))

    def set_policy(self, model: str, document: Document) -> Document:
        """Replace a model's policy."""
        return self._call("PUT", _make_path(model, "policy"), document)

    def set_reference(self, model: str, version: str, data: Upload, on_progress: OnProgress) -> Document:
        """Upload a version's training data as its reference."""
        headers = {"content-type": data.kind, "content-length": str(data.size)}
        path = _make_path(model, "versions", version, "reference")
        return self._call("PUT", path, upload_chunks(data, on_progress), headers, LONG_CALL_S)

    def retrain(self, model: str, version: str | None, reason: str) -> Document:
        """Request retraining."""
        body = {"reason": reason} | ({"version": version} if version else {})
        return self._call("POST", _make_path(model, "retrain"), body)

    def candidates(self, model: str) -> Document:
        """Return the open retraining request and the candidates of earlier ones."""
        return self._call("GET", _make_path(model, "candidates"))

    def approve(self, model: str, version: str, reason: str) -> Document:
        """Approve a candidate for rollout."""
        return self._call("POST", _make_path(model, "candidates", version, "approve"), {"reason": reason})

    def refuse(self, model: str, version: str, reason: str) -> Document:
        """Refuse a candidate; return the open request and the candidates."""
        return self._call("POST", _make_path(model, "candidates", version, "refuse"), {"reason": reason})

    def deliveries(self, model: str) -> Document:
        """Return the deliveries of a model's events to sinks."""
        return self._call("GET", _make_path(model, "outbox"))

    def replay(self, model: str, reason: str) -> Document:
        """Retry deliveries that were given up."""
        return self._call("POST", _make_path(model, "outbox", "replay"), {"reason": reason})

    def events(self, model: str | None, after: int | None, limit: int) -> list[Document]:
        """What happened: the first after a sequence number, or the newest."""
        asked: dict[str, str | int] = {"limit": limit}
        asked |= {"model": model} if model else {}
        asked |= {} if after is None else {"after": after}
        events: list[Document] = self._call("GET", f"/events?{urlencode(asked)}").get("events", [])
        return events

    def forget(self, model: str | None, column: str, value: str, reason: str) -> Document:
        """See ``RegistryClient``."""
        body = {"column": column, "value": value, "reason": reason} | ({"model": model} if model else {})
        return self._call("POST", "/erasures", body, None, LONG_CALL_S)

    def fleet(self) -> Document:
        """All gateways, and which of them leads."""
        return self._call("GET", "/fleet")

    def audit(self, model: str | None, limit: int, archive: str | None = None) -> list[Document]:
        """See ``RegistryClient``."""
        query = urlencode({"limit": limit} | ({"model": model} if model else {}))
        path = "/audit" if archive is None else f"/audit/archives/{quote(archive, safe='')}"
        entries: list[Document] = self._call("GET", f"{path}?{query}").get("entries", [])
        return entries

    def audit_archives(self) -> list[Document]:
        """See ``RegistryClient``."""
        archives: list[Document] = self._call("GET", "/audit/archives").get("archives", [])
        return archives

    def whoami(self) -> Document:
        """Return who the caller is, and what it may do."""
        return self._call("GET", "/whoami")

    def list_keys(self) -> list[Document]:
        """See ``KeyClient``."""
        keys: list[Document] = self._call("GET", "/keys").get("keys", [])
        return keys

    def create_key(self, wanted: Document) -> Document:
        """See ``KeyClient``."""
        return self._call("POST", "/keys", wanted)

    def rotate_key(self, name: str, wanted: Document) -> Document:
        """See ``KeyClient``."""
        return self._call("POST", f"/keys/{quote(name, safe='')}/rotate", wanted)

    def revoke_key(self, name: str, reason: str) -> list[Document]:
        """See ``KeyClient``."""
        revoked: list[Document] = self._call("DELETE", f"/keys/{quote(name, safe='')}", {"reason": reason})["revoked"]
        return revoked

    def verify_audit(self, checkpoints: str, keys: Sequence[str]) -> Document:
        """See ``RegistryClient``."""
        body: Document = {"checkpoints": checkpoints, "keys": list(keys)}
        return self._call("POST", "/audit/verify", body, {}, LONG_CALL_S)

    def prove_entry(self, seq: int) -> str:
        """See ``RegistryClient``."""
        with self._answer("GET", f"/audit/proofs/{seq}", None, {}, LONG_CALL_S) as answer:
            return answer.read().decode()

    def export_audit(self, write: Write) -> None:
        """See ``RegistryClient``."""
        with self._answer("GET", "/audit/export", None, {}, LONG_CALL_S) as answer:
            while chunk := answer.read(CHUNK):
                write(chunk)

    def explain_serving(self, model: str, at: str) -> Document:
        """See ``RegistryClient``."""
        return self._call("GET", f"{_make_path(model, 'explanation')}?{urlencode({'at': at})}")

    def audit_keys(self) -> list[str]:
        """See ``RegistryClient``."""
        keys: list[str] = self._call("GET", "/audit/keys").get("keys", [])
        return keys

    def _call(
        self,
        method: str,
        path: str,
        body: Document | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = CALL_S,
    ) -> Document:
        content: bytes | Iterable[bytes] | None = body if not isinstance(body, dict) else json.dumps(body).encode()
        default_headers = {"content-type": "application/json"} if isinstance(body, dict) else {}
        with self._answer(method, path, content, {**default_headers, **(headers or {})}, seconds) as answer:
            document = json.loads(answer.read())
        if not isinstance(document, dict):
            raise CallFailed(f"the server at {describe(self._address)} is not a Penstock gateway", ExitCode.UNAVAILABLE)
        return document

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], seconds: float
    ) -> Iterator[HTTPResponse]:
        connection = open_connection(self._address, seconds)
        content = body if body is None or isinstance(body, bytes) else _until_answered(connection, body)
        all_headers = {"penstock-actor": quote(user_name()), **headers}
        try:
            with _as_call_failed(self._address):
                with suppress(BrokenPipeError, ConnectionResetError):  # refused already: the answer says why
                    connection.request(method, f"/admin/v1{path}", content, all_headers)
                answer = connection.getresponse()
                if answer.status not in (200, 201):
                    raise _read_refusal(answer)
                yield answer
        finally:
            connection.close()


def _until_answered(connection: HTTPConnection, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield chunks until the gateway answers: an early answer is a refusal, and the rest need not be sent."""
    for chunk in chunks:
        yield chunk
        if connection.sock is None or select.select([connection.sock], [], [], 0)[0]:
            return


@contextmanager
def _as_call_failed(address: Address) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        raise CallFailed(f"no answer from {describe(address)}: {explain(error)}", ExitCode.UNAVAILABLE) from None


def _read_refusal(answer: HTTPResponse) -> CallFailed:
    try:
        text = str(json.loads(answer.read())["error"])
    except (ValueError, KeyError, TypeError):
        text = f"the gateway answered with status {answer.status}"
    by_status = EXITS.get(answer.status, ExitCode.FAILURE)  # where a request is refused before it is routed
    return CallFailed(text, EXIT_OF.get(answer.headers["penstock-fault"] or "", by_status))


def _make_path(model: str, *parts: str) -> str:
    return "/".join(["/models", *(quote(part, safe="") for part in (model, *parts))])
