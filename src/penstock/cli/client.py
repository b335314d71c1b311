"""A plain client of the protocol, by REST and by gRPC; requests and answers are V2 JSON documents on both."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Protocol, Self
from urllib.parse import quote

from penstock.cli.connections import Address, describe, open_connection
from penstock.cli.console import ExitCode
from penstock.cli.tls import explain

Document = dict[str, Any]


class CallFailed(Exception):
    """The gateway refused a call or did not answer; ``code`` is the exit code of the command line."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class InferReply:
    """An answer, and the version and route that gave it."""

    document: Document
    version: str
    route: str


class Client(Protocol):
    """The calls of the data plane that verbs use; each raises ``CallFailed``."""

    def metadata(self, model: str, version: str) -> Document:
        """Return names, datatypes and shapes of a model's tensors."""

    def infer(self, model: str, version: str, request: Document) -> InferReply:
        """Send one V2 request and return the answer."""

    def statistics(self, model: str, version: str) -> list[Document]:
        """Return the counts and durations of a model's versions, or of one of them."""

    def close(self) -> None:
        """Close the connection."""


EXITS = {
    401: ExitCode.UNAUTHORISED,
    403: ExitCode.UNAUTHORISED,
    404: ExitCode.NOT_FOUND,
    421: ExitCode.UNAUTHORISED,
    429: ExitCode.UNAVAILABLE,
    503: ExitCode.UNAVAILABLE,
    504: ExitCode.UNAVAILABLE,
}
"""Exit codes by HTTP status."""


class RestClient:
    """Keeps one HTTP/1.1 connection to ``address``; times are seconds."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._connection = open_connection(address, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def metadata(self, model: str, version: str) -> Document:
        """See ``Client``."""
        document = self._call("GET", model_path(model, version)).document
        if not _describes_inputs(document):
            where = describe(self._address)
            raise CallFailed(f"{where} answered without the inputs of a model; is it a gateway?", ExitCode.FAILURE)
        return document

    def infer(self, model: str, version: str, request: Document) -> InferReply:
        """See ``Client``."""
        return self._call("POST", model_path(model, version) + "/infer", json.dumps(request).encode())

    def explain(self, model: str, version: str, request: Document) -> InferReply:
        """Send one V2 request and return the explanation of its answer."""
        return self._call("POST", model_path(model, version) + "/explain", json.dumps(request).encode())

    def statistics(self, model: str, version: str) -> list[Document]:
        """See ``Client``."""
        statistics: list[Document] = self._call("GET", model_path(model, version) + "/stats").document["model_stats"]
        return statistics

    def feedback(self, model: str, feedback: list[Document]) -> Document:
        """Send the true labels of earlier requests."""
        body = json.dumps({"feedback": feedback}).encode()
        return self._call("POST", model_path(model, "") + "/feedback", body).document

    def _call(self, method: str, path: str, body: bytes | None = None) -> InferReply:
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            document = json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            raise CallFailed(
                f"no answer from {describe(self._address)}: {explain(error)}", ExitCode.UNAVAILABLE
            ) from None
        if answer.status not in (200, 202):
            raise CallFailed(_error_text(document, answer.status), EXITS.get(answer.status, ExitCode.FAILURE))
        return InferReply(
            document, answer.headers["penstock-model-version"] or "", answer.headers["penstock-route"] or ""
        )


def model_path(model: str, version: str) -> str:
    """Return the REST path of a model, or of one version of it."""
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _describes_inputs(document: object) -> bool:
    """Whether an answer is the metadata of a model; any server may be at an address."""
    inputs = document.get("inputs") if isinstance(document, Mapping) else None
    return isinstance(inputs, list) and all(
        isinstance(spec, Mapping) and {"name", "datatype", "shape"} <= spec.keys() for spec in inputs
    )


def _error_text(document: object, status: int) -> str:
    if isinstance(document, Mapping) and isinstance(document.get("error"), str):
        return str(document["error"])
    return f"the gateway answered with status {status}"
