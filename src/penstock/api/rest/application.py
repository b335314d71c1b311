"""The application of the REST port: infer requests go to the infer handler, every other path to the ASGI
application. Before either, the credential of a request is resolved: without a valid one, only probes are answered.
"""

from typing import Final
from typing import Protocol as Interface

from penstock.api.http1.answers import STATUS_LINES
from penstock.api.http1.asgi import App, AsgiExchange, AsgiRunner
from penstock.api.http1.exchange import ConnectionIo, Exchange, HttpApplication
from penstock.api.http1.request_head import Http1RequestHead
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.infer_handler import InferExchange, InferHandler
from penstock.api.rest.infer_path import infer_target
from penstock.core.errors import Fault
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.access.caller_quota import QuotaLease
from penstock.serving.access.caller_resolver import find_authorization
from penstock.serving.routing_table import Target

_VARYING: Final = frozenset({b"x-request-id", b"traceparent"})
"""Fields that differ from request to request: heads with them are rarely repeated."""

PROBES: Final = frozenset({b"/v2/health/live", b"/v2/health/ready", b"/v2/health/live/", b"/v2/health/ready/"})
"""Paths that are answered without a credential; their endpoints are public too (see ``core.access.endpoints``)."""

_SERVER_OPTIONS: Final = b"allow: GET, HEAD, POST, OPTIONS\r\n"


class _EmptyAnswer(Exchange):
    """A request that is answered with header fields alone."""

    def __init__(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, lines: bytes) -> None:
        super().__init__(connection, head, began_ns)
        self._lines = lines

    def begin(self) -> None:
        """Send the answer."""
        lines = self._lines + self.connection.last_fields(self)
        self.connection.answer(self, b"%b%b\r\n" % (STATUS_LINES[204], lines))


class RefusedExchange(Exchange):
    """A request that is refused by its head alone; its body is dropped, and a long one ends the connection."""

    def __init__(
        self,
        connection: ConnectionIo,
        head: Http1RequestHead,
        began_ns: int,
        handler: InferHandler,
        fault: Fault,
        endpoint: str = "",
    ) -> None:
        super().__init__(connection, head, began_ns)
        self._handler = handler
        self._fault = fault
        self._endpoint = endpoint

    def receive(self, part: memoryview) -> None:
        """Drop a part of the body."""

    def body_fault(self, size: int) -> Fault | None:
        """Return the reason of the refusal: the body is too long to be read only to be dropped."""
        return self._fault

    def begin(self) -> None:
        """Send the answer."""
        self.connection.answer(self, self.refusal(self._fault))

    def refusal(self, fault: Fault) -> bytes:
        """Return the answer for an error; a refused infer request is counted."""
        return self._handler.head_refusal(self, fault, self.head.route is not None, self._endpoint)


class OtherDialects(Interface):
    """The infer requests of other protocols than V2; ``probes`` are paths that are answered without a credential."""

    probes: frozenset[bytes]

    def find_target(self, head: Http1RequestHead) -> Target | None:
        """Return the model and version in an infer request, and set ``head.endpoint``; None for any other request."""

    def open(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, access: CallerAccess) -> Exchange:
        """Return the exchange of such a request, or of its refusal."""


class RestApplication(HttpApplication):
    """The REST port of one data plane."""

    def __init__(self, infer: InferHandler, app: App, cors: CorsPolicy, dialects: OtherDialects | None = None) -> None:
        super().__init__(infer.plane.callers)
        self._infer = infer
        self._asgi = AsgiRunner(app, streams=False)
        self._cors = cors
        self._dialects = dialects
        self._probes: frozenset[bytes] = PROBES if dialects is None else PROBES | dialects.probes

    def route(self, head: Http1RequestHead) -> bool:
        """Set the target of an infer request in ``head.route``; return whether the head may be cached."""
        head.route = infer_target(head.path) if head.method == b"POST" else None
        if head.route is None and self._dialects is not None:
            head.route = self._dialects.find_target(head)
        return head.route is not None and _VARYING.isdisjoint(head.fields)

    def find_access(self, connection: ConnectionIo, head: Http1RequestHead) -> CallerAccess | None:
        """Return what the credential of a request may do; None while it is verified."""
        callers = self.callers
        if head.path in self._probes or self._preflight_lines(head) is not None:
            return callers.public
        names = connection.certificate_names
        access = callers.find(find_authorization(head.pairs), names, connection.info, connection.resume_head)
        head.access = None if names else access
        return access

    def open(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, access: CallerAccess) -> Exchange:
        """Return the exchange of a request."""
        lines = None if head.route is not None else self._preflight_lines(head)
        if lines is not None:
            return _EmptyAnswer(connection, head, began_ns, lines)
        if head.endpoint is not None and self._dialects is not None:
            return self._dialects.open(connection, head, began_ns, access)
        try:
            lease = self._admit(connection, head, began_ns, access)
        except Fault as fault:
            return RefusedExchange(connection, head, began_ns, self._infer, fault)
        exchange = self._exchange(connection, head, began_ns, access)
        exchange.lease = lease
        return exchange

    def _exchange(
        self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, access: CallerAccess
    ) -> Exchange:
        if head.route is not None:
            return InferExchange(connection, head, began_ns, self._infer, head.route, access.owner)
        return AsgiExchange(connection, head, began_ns, self._asgi, access, self._cors.answer_lines(head.fields))

    def _admit(
        self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, access: CallerAccess
    ) -> QuotaLease | None:
        """Check what can be checked by the head alone, and return what the request holds of its caller's quota.

        Raises:
            Fault: the credential is not accepted, the caller may not ask this model for predictions, or the quota is
                used up.
        """
        if head.route is not None:
            access.check_predict(head.route[0], connection.info)
        elif access.refusal is not None and head.path not in self._probes:
            raise access.refusal
        quota = access.quota
        return None if quota is None else quota.admit(began_ns, max(0, head.length))

    def _preflight_lines(self, head: Http1RequestHead) -> bytes | None:
        """Return the fields that answer a question of a browser about another request, or about the whole server; None
        for any other request. Browsers send these without credentials."""
        if head.method != b"OPTIONS":
            return None
        lines = self._cors.preflight_lines(head.fields)
        return _SERVER_OPTIONS if lines is None and head.path == b"*" else lines

    def stop(self) -> None:
        """Cancel all open work."""
        self._asgi.cancel()
