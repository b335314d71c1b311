"""The dialects that are on: which of them a request is for, whether its caller may send it, and its exchange."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from penstock.api.http1.exchange import ConnectionIo, Exchange
from penstock.api.http1.request_head import Http1RequestHead
from penstock.api.rest.application import RefusedExchange
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.dialects.base import Dialect, DialectSetup, Endpoint, InferPath
from penstock.api.rest.dialects.handler import DialectExchange, DialectHandler
from penstock.api.rest.infer_path import decode_segment
from penstock.core.access.endpoints import DIALECTS, PREDICT, Requirement
from penstock.core.errors import Fault, NotFound, NotReady
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.access.caller_quota import QuotaLease
from penstock.serving.infer_call import fault_of
from penstock.serving.routing_table import Target

_CLASSES: Final = {
    "azure": "azure:Azure",
    "kserve_v1": "kserve_v1:KServeV1",
    "mlflow": "mlflow:Mlflow",
    "sagemaker": "sagemaker:Sagemaker",
    "tfs": "tensorflow_serving:TensorFlowServing",
    "vertex": "vertex:Vertex",
}
"""Module and class of each dialect; a module is loaded when its dialect is on."""

_SEGMENT: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class _InferEndpoint:
    """An infer path of one dialect: its template and pattern, what it requires, and the handler of its requests."""

    pattern: re.Pattern[bytes]
    method: bytes
    verb: str
    path: str
    requirement: Requirement
    dialect: Dialect
    handler: DialectHandler


@dataclass(frozen=True, slots=True)
class _Found:
    """The endpoint of a request, and why it is refused by its head alone."""

    endpoint: _InferEndpoint
    fault: Fault | None = None


class DialectTable:
    """The dialects of one data plane; belongs to the event loop. Where two have the same path, the first answers."""

    def __init__(self, setup: DialectSetup, cors: CorsPolicy) -> None:
        self._setup = setup
        self._dialects = [build_dialect(name, setup) for name in setup.names]
        self._infer = [endpoint for dialect in self._dialects for endpoint in _make_endpoints(dialect, setup, cors)]
        public = [path.encode() for (_, path), (need, _) in self.endpoints().items() if need.public]
        self.probes = frozenset([*public, *(path + b"/" for path in public)])

    def endpoints(self) -> dict[tuple[str, str], tuple[Requirement, Endpoint]]:
        """Return what answers requests other than predictions, by method and path."""
        found: dict[tuple[str, str], tuple[Requirement, Endpoint]] = {}
        for dialect in self._dialects:
            for key, endpoint in dialect.endpoints().items():
                place = key.partition(" ")[0], dialect.path_of(key)
                found.setdefault(place, (DIALECTS[dialect.name][key], endpoint))
        return found

    def find_target(self, head: Http1RequestHead) -> Target | None:
        """Return the model and version in an infer request, and set ``head.endpoint``; None for any other request."""
        for endpoint in self._infer:
            match = endpoint.pattern.fullmatch(head.path) if head.method == endpoint.method else None
            if match is not None:
                return _find_target(head, endpoint, match)
        return None

    def open(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, access: CallerAccess) -> Exchange:
        """Return the exchange of such a request, or of its refusal."""
        found, route = head.endpoint, head.route
        if not isinstance(found, _Found) or route is None:
            raise TypeError("the head is not one that find_target has found")
        endpoint = found.endpoint
        try:
            target = self._resolve(found, route, access)
            lease = _admit(connection, head, began_ns, access, endpoint.requirement, target[0])
        except Fault as fault:
            return RefusedExchange(connection, head, began_ns, endpoint.handler, fault, endpoint.path)
        asked = endpoint.verb, endpoint.path
        exchange = DialectExchange(connection, head, began_ns, endpoint.handler, target, access.owner, *asked)
        exchange.lease = lease
        return exchange

    def _resolve(self, found: _Found, target: Target, access: CallerAccess) -> Target:
        """Return the target with the default model, if the request names none; a caller without a valid credential
        learns nothing of it."""
        if access.refusal is not None:
            raise access.refusal
        if found.fault is not None:
            raise fault_of(found.fault)
        return target if target[0] else (default_model(self._setup), target[1])


def build_dialect(name: str, setup: DialectSetup) -> Dialect:
    """Return the dialect with this name."""
    module, _, kind = _CLASSES[name].partition(":")
    dialect: Dialect = getattr(import_module(f"penstock.api.rest.dialects.{module}"), kind)(setup)
    return dialect


def default_model(setup: DialectSetup) -> str:
    """Return the model of paths that name none.

    Raises:
        NotFound: none is set, and several are served.
        NotReady: none is set, and none is served.
    """
    if setup.default_model:
        return setup.default_model
    models = setup.plane.routing_table.models
    if len(models) == 1:
        return next(iter(models))
    if models:
        raise NotFound("this path names no model, and several are served; set default_model, or use V2")
    raise NotReady("no model is served yet; try again later")


def _find_target(head: Http1RequestHead, endpoint: _InferEndpoint, match: re.Match[bytes]) -> Target:
    values = {name: decode_segment(value) for name, value in match.groupdict().items()}
    try:
        target = endpoint.dialect.find_target(endpoint.verb, values, head.fields)
    except Fault as fault:
        head.endpoint = _Found(endpoint, fault_of(fault))
        return "", ""
    head.endpoint = _Found(endpoint)
    return target


def _admit(
    connection: ConnectionIo,
    head: Http1RequestHead,
    began_ns: int,
    access: CallerAccess,
    requirement: Requirement,
    model: str,
) -> QuotaLease | None:
    """Check what can be checked by the head alone, and return what the request holds of its caller's quota.

    Raises:
        Fault: the caller may not do this with the model, or its quota is used up.
    """
    if requirement is PREDICT:
        access.check_predict(model, connection.info)
    else:
        access.check(requirement, model, connection.info)
    quota = access.quota
    return None if quota is None else quota.admit(began_ns, max(0, head.length))


def _make_endpoints(dialect: Dialect, setup: DialectSetup, cors: CorsPolicy) -> list[_InferEndpoint]:
    handler = DialectHandler(setup.plane, cors, dialect)
    needs = DIALECTS[dialect.name]
    return [_make_endpoint(path, needs, dialect, handler) for path in dialect.infer_paths]


def _make_endpoint(
    path: InferPath, needs: Mapping[str, Requirement], dialect: Dialect, handler: DialectHandler
) -> _InferEndpoint:
    method, template = path.endpoint.partition(" ")[0].encode(), dialect.path_of(path.endpoint)
    return _InferEndpoint(path_pattern(template), method, path.verb, template, needs[path.endpoint], dialect, handler)


def path_pattern(template: str) -> re.Pattern[bytes]:
    """Return the pattern of a path; a verb after a colon is matched in any case, and a slash at the end is allowed."""
    stem, colon, verb = template.rpartition(":")
    if not colon:
        stem, verb = template, ""
    parts = _SEGMENT.split(stem)
    stem = "".join(f"(?P<{part}>[^/:]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(f"{stem}{colon}(?i:{verb})/?".encode())
