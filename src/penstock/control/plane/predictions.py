"""Asks the REST port of this gateway for predictions, on behalf of callers of the ops port.

The request takes the same way as any other: route, admission, quota, monitor and counts. A page of the console has
another origin than the data ports, and so cannot ask them itself.
"""

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from penstock.control.calls.blocking import BlockingPool
from penstock.control.instance.ports import LOOPBACK_OF
from penstock.core.access.callers import Caller
from penstock.core.errors import NotReady, TooLarge
from penstock.monitor.captured_request import find_captured, request_document
from penstock.telemetry.readings import Reading

THREADS: Final = 4
WAITING: Final = 8
"""Predictions that are asked for at a time, and how many more may wait."""

TIMEOUT_S: Final = 20
"""Deadline of a prediction; the worker gets it too, so that it gives up first."""

MARGIN_S: Final = 5.0
MOST_BYTES: Final = 8 << 20
"""Maximum bytes of an answer."""

INFER, EXPLAIN = "infer", "explain"
"""What a request may ask for."""

_PASSED: Final = (
    "content-type",
    "inference-header-content-length",
    "penstock-fault",
    "penstock-model-version",
    "penstock-route",
    "retry-after",
    "server-timing",
    "traceresponse",
    "x-request-id",
)
"""Fields of an answer that are passed on."""

Delegate = Callable[[Caller, str], str | None]
"""Returns the credential by which a caller may ask a model for a prediction, None if it needs none."""


@dataclass(frozen=True, slots=True)
class DataPorts:
    """The addresses of the data ports (host:port). ``certificate`` returns the chain that they present (PEM), "" for no
    TLS; ``is_authenticated`` whether callers need a credential."""

    http: str
    grpc: str
    certificate: Callable[[], str] = str
    is_authenticated: Callable[[], bool] = bool


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """A request for a prediction, or for what ``verb`` says: a V2 document as bytes, for a version or alias ("" = as
    the route decides), with the header ``fields`` that rules may look at."""

    model: str
    version: str
    body: bytes
    fields: Mapping[str, str] = field(default_factory=dict)
    verb: str = INFER

    @property
    def path(self) -> str:
        """The path of the request."""
        path = f"/v2/models/{quote(self.model, safe='')}"
        return f"{path}/versions/{quote(self.version, safe='')}/{self.verb}" if self.version else f"{path}/{self.verb}"


@dataclass(frozen=True, slots=True)
class PredictionAnswer:
    """The answer of the data plane, also if it is an error."""

    status: int
    fields: Mapping[str, str]
    body: bytes


class Predictions:
    """Asks for predictions on threads of its own. Belongs to the event loop. ``captures`` is the folder of captured
    requests."""

    def __init__(self, ports: DataPorts, delegate: Delegate, captures: Path = Path()) -> None:
        self._ports = ports
        self._captures = captures
        self._delegate = delegate
        self._pool = BlockingPool("predictions", THREADS, "the data plane", TIMEOUT_S + MARGIN_S, WAITING)

    def addresses(self) -> dict[str, Any]:
        """Return where clients reach the data ports, and what they need."""
        ports = self._ports
        return {
            "http": ports.http,
            "grpc": ports.grpc,
            "tls": bool(ports.certificate()),
            "authentication": ports.is_authenticated(),
        }

    async def predict(self, request: PredictionRequest, caller: Caller) -> PredictionAnswer:
        """Return the answer to a request of a caller, who may ask this model for predictions.

        Raises:
            NotReady: the data plane does not answer, or too many predictions are asked for.
            TooLarge: the answer is over the limit.
        """
        credential = self._delegate(caller, request.model)
        return await self._pool.call(ask, self._ports, request, credential)

    async def explain_captured(
        self, model: str, version: str, request_id: str, parameters: Mapping[str, Any], caller: Caller
    ) -> PredictionAnswer:
        """Return the explanation of a captured request by the version that answered it; ``version`` "" is any.

        Raises:
            NotFound: no such request is captured here.
            Refused: its values were masked.
            Fault: as ``predict``.
        """
        answered, body = await self._pool.call(_read_captured, self._captures, (model, version), request_id, parameters)
        return await self.predict(PredictionRequest(model, answered, body, verb=EXPLAIN), caller)

    def readings(self) -> Iterator[Reading]:
        """Return the metrics of the threads."""
        yield from self._pool.readings()

    def close(self) -> None:
        """End the threads."""
        self._pool.close()


def _read_captured(
    captures: Path, target: tuple[str, str], request_id: str, parameters: Mapping[str, Any]
) -> tuple[str, bytes]:
    """Return the version that answered a captured request, and the request as a V2 document; blocks."""
    version, record = find_captured(captures, *target, request_id)
    return version, json.dumps(request_document(record, parameters)).encode()


def ask(ports: DataPorts, request: PredictionRequest, credential: str | None) -> PredictionAnswer:
    """Send a request to the REST port and return the answer; blocks, and raises as ``Predictions.predict``."""
    connection = _connect(ports)
    try:
        connection.request("POST", request.path, request.body, _make_fields(request, credential))
        with connection.getresponse() as answer:
            body = answer.read(MOST_BYTES + 1)
    except ssl.SSLError:
        raise NotReady("the REST port asks for a client certificate, which the ops port does not have") from None
    except (OSError, http.client.HTTPException):
        raise NotReady("the data plane does not answer; try again later") from None
    finally:
        connection.close()
    if len(body) > MOST_BYTES:
        raise TooLarge(f"the answer is longer than {MOST_BYTES} bytes; ask the REST port itself")
    return PredictionAnswer(answer.status, _pass_fields(answer), body)


def _connect(ports: DataPorts) -> http.client.HTTPConnection:
    host, _, port = ports.http.rpartition(":")
    host = LOOPBACK_OF.get(host.strip("[]"), host.strip("[]"))
    chain = ports.certificate()
    if not chain:
        return http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    return http.client.HTTPSConnection(host, int(port), timeout=TIMEOUT_S, context=_trust_chain(chain))


def _trust_chain(chain: str) -> ssl.SSLContext:
    """Return a context that trusts the port's own certificate and no other, whatever names it has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is the anchor
    end = "-----END CERTIFICATE-----"
    context.load_verify_locations(cadata=chain.partition(end)[0] + end)
    return context


def _make_fields(request: PredictionRequest, credential: str | None) -> dict[str, str]:
    own = {"content-type": "application/json", "penstock-timing": "1", "penstock-timeout-ms": str(TIMEOUT_S * 1000)}
    bearer = {} if credential is None else {"authorization": f"Bearer {credential}"}
    return {**request.fields, **own, **bearer}


def _pass_fields(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name: value for name in _PASSED if (value := answer.headers[name]) is not None}
