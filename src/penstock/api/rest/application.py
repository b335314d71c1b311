"""The application of the REST port: infer requests go to the infer handler, every other path to the ASGI
application.
"""

from typing import Final

from penstock.api.http1.answers import STATUS_LINES
from penstock.api.http1.asgi import App, AsgiExchange, AsgiRunner
from penstock.api.http1.exchange import ConnectionIo, Exchange, HttpApplication
from penstock.api.http1.request_head import Http1RequestHead
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.infer_handler import InferExchange, InferHandler, infer_target

_VARYING: Final = frozenset({b"x-request-id", b"traceparent"})
"""Fields that differ from request to request: heads with them are rarely repeated."""


class _EmptyAnswer(Exchange):
    """A request that is answered with header fields alone."""

    def __init__(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, lines: bytes) -> None:
        super().__init__(connection, head, began_ns)
        self._lines = lines

    def begin(self) -> None:
        """Send the answer."""
        lines = self._lines + self.connection.last_fields(self)
        self.connection.answer(self, b"%b%b\r\n" % (STATUS_LINES[204], lines))


class RestApplication(HttpApplication):
    """The REST port of one data plane."""

    def __init__(self, infer: InferHandler, app: App, cors: CorsPolicy) -> None:
        self._infer = infer
        self._asgi = AsgiRunner(app, streams=False)
        self._cors = cors

    def route(self, head: Http1RequestHead) -> bool:
        """Set the target of an infer request in ``head.route``; return whether the head may be cached."""
        head.route = infer_target(head.path) if head.method == b"POST" else None
        return head.route is not None and _VARYING.isdisjoint(head.fields)

    def open(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int) -> Exchange:
        """Return the exchange of a request."""
        target = head.route
        if target is not None:
            return InferExchange(connection, head, began_ns, self._infer, target)
        if head.method == b"OPTIONS":
            lines = self._cors.preflight_lines(head.fields)
            if lines is None and head.path == b"*":
                lines = b"allow: GET, HEAD, POST, OPTIONS\r\n"
            if lines is not None:
                return _EmptyAnswer(connection, head, began_ns, lines)
        return AsgiExchange(connection, head, began_ns, self._asgi, self._cors.answer_lines(head.fields))

    def stop(self) -> None:
        """Cancel all open work."""
        self._asgi.cancel()
