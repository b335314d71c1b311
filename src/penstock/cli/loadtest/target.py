"""A gateway under load: what its model takes, one request to see that it answers, and the windows sent to it."""

import json
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from penstock.cli.addresses import address_of, local_address
from penstock.cli.client import CallFailed, Client, Document, RestClient, model_path
from penstock.cli.console import ExitCode
from penstock.cli.credentials import read_authorization
from penstock.cli.requests import BadData
from penstock.cli.tls import HTTPS, TlsAddress, client_context, explain
from penstock.loadtest.generator import Generator, NoConnection, OnProgress
from penstock.loadtest.http1_wire import Http1Wire, http1_request
from penstock.loadtest.http2_wire import GRPC_PATH, Http2Wire, grpc_body, grpc_head
from penstock.loadtest.measurement import Measurement, measure
from penstock.loadtest.schedule import Arrivals, Ramp, due_moments
from penstock.loadtest.stages import StageTimes, stage_times
from penstock.loadtest.wire import Endpoint, Wire, resolve

CALL_S = 30.0
_PORT = re.compile(r"https://.*|.*:\d+/?")


@dataclass(frozen=True, slots=True)
class TargetAddress:
    """Where a target is, and what answers there: a model, and a version of it ("": the route decides)."""

    address: str | TlsAddress
    by_grpc: bool
    model: str
    version: str

    @property
    def label(self) -> str:
        """What it is called in reports."""
        return f"{self.model}:{self.version}" if self.version else self.model

    def open_client(self) -> Client:
        """Return a client for single calls."""
        if not self.by_grpc:
            return RestClient(self.address, CALL_S)
        from penstock.cli.grpc_client import GrpcClient

        return GrpcClient(self.address, CALL_S)


def place_of(url: str | None, by_grpc: bool, model: str, version: str) -> TargetAddress:
    """Return the place that --url names, or the one of the settings."""
    if url is None:
        return TargetAddress(local_address("grpc" if by_grpc else "http"), by_grpc, model, version)
    return TargetAddress(address_of(url) if not by_grpc or url.startswith(HTTPS) else url, by_grpc, model, version)


def other_place(against: str, place: TargetAddress) -> TargetAddress:
    """Return what --against names: another gateway if it is an address, else another version (V, or NAME:V)."""
    against = against.removeprefix(f"{place.model}:")
    if _PORT.fullmatch(against):
        return place_of(against, place.by_grpc, place.model, place.version)
    return TargetAddress(place.address, place.by_grpc, place.model, against)


class LiveTarget:
    """Sends windows of load to a place, with requests that were encoded before. Not safe for threads.

    Raises:
        BadData: by the constructor, if JSON cannot hold a request.
        CallFailed: by the constructor, if the gateway refuses the first request or cannot be reached.
    """

    def __init__(
        self,
        place: TargetAddress,
        requests: Sequence[Document],
        connections: int,
        timeout_s: float,
        arrivals: Arrivals,
        should_stop: Callable[[], bool],
        on_progress: OnProgress,
    ) -> None:
        self.place = place
        bodies = [_encode(place, request) for request in requests]
        self._client = place.open_client()
        self._client.infer(place.model, place.version, requests[0])
        self._arrivals = arrivals
        self.request_bytes = sum(map(len, bodies)) // len(bodies)
        try:
            open_wire = _choose_wires(place, endpoint_of(place), bodies)
            self._generator = Generator(open_wire, connections, len(bodies), timeout_s, should_stop, on_progress)
        except (NoConnection, OSError) as problem:
            self._client.close()
            text = explain(problem) if isinstance(problem, OSError) else str(problem)
            raise CallFailed(f"no connection to {place.address}: {text}", ExitCode.UNAVAILABLE) from None
        self._before = self._statistics()

    def close(self) -> None:
        """Close every connection."""
        self._generator.close()
        self._client.close()

    def send(self, ramp: Ramp, seconds: float, seed: int) -> Measurement:
        """Send a window of load, and return what it showed."""
        due = due_moments(ramp, seconds, self._arrivals, seed)
        return measure(self._generator.run(due), seconds, self.place.by_grpc)

    def stages(self) -> StageTimes | None:
        """Return the times of the stages in the gateway since this object exists; None where it has no statistics."""
        return stage_times(self._before, self._statistics())

    def _statistics(self) -> list[Document]:
        try:
            return self._client.statistics(self.place.model, self.place.version)
        except (CallFailed, KeyError, TypeError):
            return []


def _encode(place: TargetAddress, request: Document) -> bytes:
    if not place.by_grpc:
        return _to_json(request)
    from penstock.cli.grpc_client import to_message

    return grpc_body(to_message(place.model, place.version, request).SerializeToString())


def _to_json(request: Document) -> bytes:
    try:
        return json.dumps(request, allow_nan=False).encode()
    except ValueError:
        raise BadData("JSON cannot hold NaN and infinity, which --rows has; use --grpc") from None


def endpoint_of(place: TargetAddress) -> Endpoint:
    """Return where the connections of a place lead; raises ``OSError`` where its host has no address."""
    if not isinstance(place.address, TlsAddress):
        return resolve(place.address)
    context: ssl.SSLContext = client_context(place.address)
    context.set_alpn_protocols(["h2" if place.by_grpc else "http/1.1"])
    return resolve(place.address.address, context)


def _choose_wires(place: TargetAddress, endpoint: Endpoint, bodies: Sequence[bytes]) -> Callable[[], Wire]:
    token = read_authorization()
    headers = {} if token is None else {"authorization": token}
    if place.by_grpc:
        head = grpc_head(endpoint, GRPC_PATH, headers)
        return partial(Http2Wire, endpoint, head, bodies, {})
    path = model_path(place.model, place.version) + "/infer"
    headers["content-type"] = "application/json"
    return partial(Http1Wire, endpoint, [http1_request(endpoint, path, headers, body) for body in bodies])
