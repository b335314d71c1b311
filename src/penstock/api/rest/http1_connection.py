"""The HTTP/1.1 protocol class of the data plane: answers ``infer`` itself, lets the rest fall through to ASGI.

One connection answers strictly in order: infer requests and ASGI requests stand in ``_line`` until it is their turn.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import uniform
from time import monotonic_ns
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from penstock.api.rest.compression import deflated, inflate, preferred
from penstock.api.rest.decode import infer_body
from penstock.api.rest.encode import AnswerTemplate
from penstock.api.rest.errors import error_body, extra_headers
from penstock.core.deadlines import deadline_ns
from penstock.core.errors import Fault, Internal, InvalidInput, TooLarge
from penstock.core.labels import HTTP_STATUS, ROUTE_NAMES, Priority
from penstock.core.labels import Protocol as Transport
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import CLASS, InferCall, new_id, priority_of
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.routing_table import RouteDecision, Target

MAX_PIPELINED: Final = 64
"""Turns one connection may have waiting before its socket is no longer read."""

PIECE: Final = 4096
"""Bytes that are parsed at a time where they may hold many requests."""

MAX_TARGETS: Final = 4096
"""Infer paths whose model and version are remembered."""

MOST_HEADS, LONGEST_HEAD = 1024, 2048
"""Heads of infer requests that are remembered, and bytes of the longest; clients choose them."""

_NOTHING: Final = memoryview(b"")
_PECULIAR: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"x-request-id", b"traceparent"})
"""Fields of heads that have to be parsed, or that differ from request to request."""

_INFER: Final = re.compile(rb"/v2/models/([^/?#]+)(?:/versions/([^/?#]+))?/infer/?(?:\?[^#]*)?")
MAX_ID_HEADER: Final = 1024
"""Characters of a request id that come back in a header."""

JITTER: Final = 0.1
"""Ages of connections differ by so much, that not all clients come back at once."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_JSON: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_BINARY: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
_LINGER_S: Final = 2.0
"""How long a refused body may still arrive before the connection is closed, so that the answer can be read."""

Headers = list[tuple[bytes, bytes]]
Fields = dict[bytes, bytes]
Written = bytes | list[bytes | memoryview]
"""An answer, in pieces where some are too large to be copied."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a connection: bytes of one body (plain and inflated), and seconds of silence."""

    max_body_bytes: int = 64 << 20
    max_header_bytes: int = 64 << 10
    keep_alive_s: float = 75.0
    request_s: float = 60.0
    connection_s: float = 300.0  # then a client is sent away with its answer, to spread over all processes


class PendingRequest:
    """One infer request of a connection and, when it is there, its answer."""

    __slots__ = ("answer", "began_ns", "binary", "body", "cancel", "fields", "keep_alive", "size", "target")

    def __init__(self, target: Target, fields: Fields, keep_alive: bool, began_ns: int) -> None:
        self.target = target
        self.fields = fields
        self.keep_alive = keep_alive
        self.began_ns = began_ns
        self.body: list[bytes] = []
        self.size = 0
        self.binary: list[bool] | bool = False
        self.cancel: Callable[[], None] | None = None
        self.answer: Written | None = None


class Ready:
    """Bytes that are the same in every answer of one version, made once."""

    __slots__ = ("heads", "template")

    def __init__(self, loaded: LoadedVersion) -> None:
        identity = loaded.identity
        self.template = AnswerTemplate(identity.model, identity.version, loaded.signature.outputs)
        self.heads = tuple(
            b"penstock-model-version: %b\r\npenstock-route: %b\r\nx-request-id: "
            % (identity.version.encode(), name.encode())
            for name in ROUTE_NAMES
        )


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request that the parser has found good: what it asks for, its fields, and its body's length."""

    target: Target
    fields: Fields
    length: int


class Shared:
    """What all connections of a server have in common."""

    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self.plane = plane
        self.limits = limits
        self.draining = False
        self.targets: dict[bytes, Target] = {}
        self.heads: dict[bytes, Head] = {}
        self.ready: dict[LoadedVersion, Ready] = {}
        self._common: tuple[Headers, bytes] = ([], b"")
        self._cold: deque[Callable[[], None]] = deque()

    def begin(self, loop: asyncio.AbstractEventLoop, cold: Callable[[], None]) -> None:
        """Begin a request that is none of the infer road: one in each turn of the loop, that predictions need not wait
        for whoever asks much else. Each connection has one under way at most."""
        if not self._cold:
            loop.call_soon(self._begin_next, loop)
        self._cold.append(cold)

    def _begin_next(self, loop: asyncio.AbstractEventLoop) -> None:
        begin = self._cold.popleft()
        if self._cold:
            loop.call_soon(self._begin_next, loop)
        begin()

    def ready_for(self, loaded: LoadedVersion) -> Ready:
        """The ready-made bytes of a version; those of versions no longer served are forgotten on the way."""
        found = self.ready.get(loaded)
        if found is None:
            current = {
                answer[0] for entry in self.plane.routing_table.models.values() for answer in entry.routes.values()
            }
            self.ready = {one: kept for one, kept in self.ready.items() if one in current}
            found = self.ready[loaded] = Ready(loaded)
        return found

    def common(self, headers: Headers) -> bytes:
        """The header lines every answer has; uvicorn makes a new list of them once a second."""
        if self._common[0] is not headers:
            self._common = (headers, b"".join(b"%b: %b\r\n" % header for header in headers))
        return self._common[1]

    def learn(self, data: bytes, turn: PendingRequest) -> None:
        """Remember the head of an infer request that came whole and alone: the next one like it, to the byte, means the
        same. Heads that hardly come twice are not."""
        fields = turn.fields
        if not turn.keep_alive or not _PECULIAR.isdisjoint(fields) or b"content-length" not in fields:
            return
        end = data.find(b"\r\n\r\n") + 4
        if end > LONGEST_HEAD or len(data) != end + turn.size:
            return
        if len(self.heads) >= MOST_HEADS:
            self.heads.clear()
        self.heads[data[:end]] = Head(turn.target, fields, turn.size)

    def target(self, url: bytes) -> Target | None:
        """The model and version an infer URL names, None for any other URL."""
        found = self.targets.get(url)
        if found is None:
            found = _target(url)
            if found in self.plane.routing_table.routes and b"?" not in url and len(self.targets) < MAX_TARGETS:
                self.targets[url] = found
        return found


def _target(url: bytes) -> Target | None:
    if not url.startswith(b"/"):
        try:
            url = httptools.parse_url(url).path or b""
        except httptools.HttpParserInvalidURLError:
            return None
    match = _INFER.fullmatch(url)
    if match is None:
        return None
    model, version = match.group(1), match.group(2) or b""
    return unquote_to_bytes(model).decode("utf-8", "replace"), unquote_to_bytes(version).decode("utf-8", "replace")


class InferProtocol(HttpToolsProtocol):
    """One connection of the server that owns what is ``shared``."""

    def __init__(
        self,
        shared: Shared,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.shared = shared
        self._line: deque[PendingRequest | tuple[RequestResponseCycle, Any] | bytes] = (
            deque()
        )  # bytes are the last words
        self._turn: PendingRequest | None = None
        self._asgi: RequestResponseCycle | None = None
        self._received_ns = self._began_ns = monotonic_ns()
        self._head_bytes = self._messages = 0
        self._in_message = False
        self._discarding = False
        self._lost = self._old = False
        self._blocked_ns = 0  # since when answers wait for their reader
        self._rest = b""  # what has come and waits for room
        self._offered = False  # the head that was just read offers to speak another protocol
        self._going_on = self._ended = False
        age_s = self.shared.limits.connection_s * uniform(1 - JITTER, 1 + JITTER)
        self._until_ns = self._began_ns + int(age_s * 1e9)

    # Reading.

    def data_received(self, data: bytes) -> None:
        self._received_ns = monotonic_ns()
        if self._discarding:
            return
        if self._rest:
            self._rest += data
            return
        between = not self._in_message
        if between:
            end = data.find(b"\r\n\r\n") + 4
            known = self.shared.heads.get(data[:end])
            if known is not None and len(data) == end + known.length:
                self._whole(known, data[end:])
                return
        self._messages = 0
        self._take(data)
        if between and self._messages == 1 and not self._in_message and self._turn is not None:
            self.shared.learn(data, self._turn)

    def _take(self, data: bytes) -> None:
        """Parse piece by piece, and no further than there is room for requests: one read may bring thousands, and
        whoever does not read answers must not have us make more."""
        if len(data) <= PIECE:
            self._parse(data)
            return
        at = 0
        while at < len(data) and not self._discarding:
            if len(self._line) >= MAX_PIPELINED or self.flow.write_paused:
                self._rest = data[at:]
                self.flow.pause_reading()
                return
            stop = at + max(PIECE, self._missing())
            self._parse(data[at:stop])
            at = stop

    def _missing(self) -> int:
        """Bytes of a body that are still to come, where that is known."""
        turn = self._turn
        if turn is None or not self._in_message or self._head_bytes or b"content-length" not in turn.fields:
            return 0
        return int(turn.fields[b"content-length"]) - turn.size

    def _read_on(self) -> None:
        """Read more, once there is room: first what has come already."""
        if len(self._line) >= MAX_PIPELINED or self.flow.write_paused:
            return
        if not self._rest:
            self.flow.resume_reading()
        elif not self._going_on:
            self._going_on = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        rest, self._rest = self._rest, b""
        if self._lost or self._discarding or self.transport.is_closing():
            return
        self._take(rest)
        if not self._rest:
            if self._ended and not self.eof_received():
                self.transport.close()
            self._read_on()

    def _whole(self, head: Head, body: bytes) -> None:
        """A request whose head is known byte for byte needs no parser."""
        turn = PendingRequest(head.target, head.fields, True, self._received_ns)
        turn.body.append(body)
        turn.size = head.length
        self._stand_in_line(turn)
        self.shared.plane.batcher.enqueue(self, turn)

    def _parse(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = self._fed(left)
        if self._head_bytes and not self._discarding:
            self._count_head(len(data))

    def _fed(self, data: memoryview) -> memoryview:
        """Parse up to an offer to speak another protocol, which is declined; what comes after it."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._offered:
                return _NOTHING  # CONNECT: what follows is no request
            self._offered = False
            self._fed(memoryview(self._head_without_offer()))
            return _NOTHING if self._discarding else data[offer.args[0] :]
        except httptools.HttpParserError:
            self._refuse_connection(400, "this is not a valid HTTP/1.1 request")
        return _NOTHING

    def _head_without_offer(self) -> bytes:
        """The head once more, as from a client that offers nothing: the parser takes no body of one that does, and
        clients such as curl and Java's begin every connection so."""
        parser, fields = self.parser, [pair for pair in self.headers if pair[0] != b"upgrade"]
        lines = b"".join([b"%b: %b\r\n" % pair for pair in fields])
        return b"%b %b HTTP/%b\r\n%b\r\n" % (parser.get_method(), self.url, parser.get_http_version().encode(), lines)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._turn = None
        self._in_message = True
        self._head_bytes = 1
        self._began_ns = self._received_ns

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.shared.limits.max_header_bytes:
            self._refuse_connection(431, "the request's header fields are too large")

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        parser, shared = self.parser, self.shared
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self._offered = True
            return
        target = (shared.targets.get(self.url) or shared.target(self.url)) if parser.get_method() == b"POST" else None
        if target is None:
            self._fall_through()
            return
        fields = dict(self.headers)
        self._turn = turn = PendingRequest(target, fields, parser.should_keep_alive(), self._began_ns)
        if int(fields.get(b"content-length", 0)) > shared.limits.max_body_bytes:  # the parser allows digits only
            self._refuse_body(turn)
        elif b"expect" in fields and fields[b"expect"].lower() == b"100-continue":
            self.transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        turn = self._turn
        if turn is None:
            super().on_body(body)
        elif not self._discarding:
            turn.body.append(body)
            turn.size += len(body)
            if turn.size > self.shared.limits.max_body_bytes:
                self._refuse_body(turn)

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._in_message = False
        self._messages += 1
        turn = self._turn
        if turn is None:
            super().on_message_complete()
        elif not self._discarding:
            self._stand_in_line(turn)
            self.shared.plane.batcher.enqueue(self, turn)

    def _fall_through(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url, self.headers = url, headers
        self.scope["headers"] = headers
        self.expect_100_continue = dict(headers).get(b"expect", b"").lower() == b"100-continue"
        self.cycle = None  # type: ignore[assignment]  # so that the new one always goes to _start_asgi_task
        super().on_headers_complete()

    # One infer request.

    def decode(self, turn: PendingRequest) -> InferCall | None:
        """The call of a complete request, ready to run; None if it was refused."""
        found: RouteDecision | None = None
        try:
            found = self.shared.plane.route(turn.target, turn.fields)
            return self._call(turn, found)
        except Fault as fault:
            self._refused(turn, found, fault)
        except Exception as error:  # a bug must not take the connection down
            self.logger.exception("infer request failed", exc_info=error)
            self._refused(turn, found, Internal("the request failed"))
        return None

    def enqueue(self, turn: PendingRequest, call: InferCall) -> None:
        """Have a call run on a thread; it is answered when it comes back."""
        turn.cancel = call.loaded.enqueue(call, partial(self.shared.plane.batcher.finish, self, turn))

    def _call(self, turn: PendingRequest, found: RouteDecision) -> InferCall:
        loaded, route, observers = found
        fields, shared = turn.fields, self.shared
        priority = priority_of(fields) if CLASS in fields else Priority.DEFAULT
        if (fault := loaded.admission_error(priority)) is not None:
            raise fault
        raw = turn.body[0] if len(turn.body) == 1 else b"".join(turn.body)
        if b"content-encoding" in fields:
            raw = inflate(raw, fields[b"content-encoding"], shared.limits.max_body_bytes)
        header_length = _header_length(fields) if b"inference-header-content-length" in fields else None
        body = infer_body(raw, header_length, loaded.signature, shared.plane.regions)
        turn.binary = body.binary
        if body.timeout_ns is None and b"penstock-timeout-ms" not in fields:
            deadline = turn.began_ns + shared.plane.default_timeout_ns
        else:
            timeouts = (body.timeout_ns, _timeout_header(fields))
            deadline = deadline_ns(turn.began_ns, timeouts, shared.plane.default_timeout_ns)
        call_id = body.id or fields.get(b"x-request-id", b"").decode("latin-1") or new_id()
        began_ns, given, requested = turn.began_ns, body.given, body.requested
        return InferCall(
            loaded, route, Transport.REST, call_id, given, requested, deadline, began_ns, observers, priority
        )

    def encode(self, turn: PendingRequest, call: InferCall) -> Written:
        """The answer to a call that has its outputs or its fault."""
        if call.fault is None:
            try:
                return self._success(turn, call)
            except Fault as fault:
                call.fault = fault
            except Exception as error:  # a bug must not take the connection down
                self.logger.exception("an answer could not be written", exc_info=error)
                call.fault = Internal("the answer could not be written")
        ready = self.shared.ready_for(call.loaded)
        extra = b"%b%b\r\n" % (ready.heads[call.route], _header_safe(call.id))
        return self._failure(turn, call.fault, extra)

    def write(self, turn: PendingRequest, _: InferCall, answer: Written) -> None:
        """Write an answer if it is its turn."""
        self._settle(turn, answer)

    def _refused(self, turn: PendingRequest, found: RouteDecision | None, fault: Fault) -> None:
        """A request that never became a call."""
        extra = b""
        if found is not None:
            asked_id = turn.fields.get(b"x-request-id", b"").decode("latin-1")
            extra = b"%b%b\r\n" % (self.shared.ready_for(found[0]).heads[found[1]], _header_safe(asked_id or new_id()))
        self.shared.plane.record_rejected(found, Transport.REST, fault.kind, turn.began_ns)
        self._settle(turn, self._failure(turn, fault, extra))

    def _success(self, turn: PendingRequest, call: InferCall) -> Written:
        shared, fields = self.shared, turn.fields
        ready = shared.ready.get(call.loaded) or shared.ready_for(call.loaded)
        content, json_length, tail = ready.template.answer(call, turn.binary)
        kind = _JSON if json_length is None else _BINARY % json_length
        if b"accept-encoding" in fields and (coding := preferred(fields[b"accept-encoding"])):
            content, tail = deflated(b"".join((content, *tail)), coding), ()
            kind += b"content-encoding: %b\r\n" % coding
        size = len(content) + (sum(map(len, tail)) if tail else 0)
        lines = b"\r\n%bcontent-length: %d\r\n\r\n" % (self._common(turn), size)
        whole = b"".join((kind, ready.heads[call.route], _header_safe(call.id), lines, content))
        return [whole, *tail] if tail else whole

    def _failure(self, turn: PendingRequest, fault: Fault, extra: bytes) -> bytes:
        extra += b"".join(b"%b: %b\r\n" % header for header in extra_headers(fault))
        return self._error(turn, HTTP_STATUS[fault.kind], str(fault), extra)

    def _error(self, turn: PendingRequest | None, status: int, message: str, extra: bytes = b"") -> bytes:
        content = error_body(message)
        return b"%bcontent-type: application/json\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status,
            extra,
            self._common(turn),
            len(content),
            content,
        )

    def _common(self, turn: PendingRequest | None) -> bytes:
        lines = self.shared.common(self.server_state.default_headers)
        if self._old and turn is not None and self._line and self._line[-1] is turn:
            turn.keep_alive = False
        if turn is None or not turn.keep_alive or self.shared.draining:
            return lines + b"connection: close\r\n"
        return lines

    # Answering in order.

    def _settle(self, turn: PendingRequest, answer: Written) -> None:
        """The answer is there, and counted: write it if it is its turn."""
        if self._lost:
            return
        if self._line[0] is turn and not self._asgi_busy():
            self._line.popleft()
            self._write(turn, answer)
            if self._line or self.flow.read_paused:
                self._advance()
        else:
            turn.answer = answer

    def _stand_in_line(self, turn: PendingRequest) -> None:
        self._line.append(turn)
        if len(self._line) >= MAX_PIPELINED:
            self.flow.pause_reading()

    def _advance(self) -> None:
        """Answer or start whoever is first in line, for as long as that is possible."""
        while self._line and not self._asgi_busy():
            first = self._line[0]
            if isinstance(first, PendingRequest):
                if first.answer is None:
                    return
                self._line.popleft()
                self._write(first, first.answer)
            elif isinstance(first, bytes):
                self._line.popleft()
                self._end(first)
            else:
                self._line.popleft()
                self._start_now(*first)
        if self._ended and not self._line and not self._rest and not self._asgi_busy():
            self.transport.close()
        self._read_on()

    def _write(self, turn: PendingRequest, answer: Written) -> None:
        transport = self.transport
        if not transport.is_closing():
            if type(answer) is list:
                transport.writelines(answer)
            else:
                transport.write(answer)  # type: ignore[arg-type]  # it is no list
            if not turn.keep_alive or (self.shared.draining and not self._line):
                transport.close()

    def _asgi_busy(self) -> bool:
        return self._asgi is not None and not self._asgi.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._line or self._asgi_busy():
            self._line.append((cycle, app))
            if len(self._line) >= MAX_PIPELINED:
                self.flow.pause_reading()
        else:
            self._start_now(cycle, app)

    def _start_now(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._asgi = cycle
        self.shared.begin(self.loop, partial(super()._start_asgi_task, cycle, app))

    def on_response_complete(self) -> None:
        super().on_response_complete()  # it goes on reading, whatever waits
        if self._rest or len(self._line) >= MAX_PIPELINED or self.flow.write_paused:
            self.flow.pause_reading()
        self._unset_keepalive_if_required()  # the server's sweep closes silent connections
        if not self.transport.is_closing():
            self._advance()

    # Refusals that end the connection.

    def _refuse_connection(self, status: int, message: str) -> None:
        self._last_words(self._error(None, status, message))

    def _refuse_body(self, turn: PendingRequest) -> None:
        turn.keep_alive = False
        turn.body.clear()
        fault = TooLarge(f"the body is over the limit of {self.shared.limits.max_body_bytes} bytes")
        self.shared.plane.record_rejected(None, Transport.REST, fault.kind, turn.began_ns)
        self._last_words(self._failure(turn, fault, b""))

    def _last_words(self, answer: bytes) -> None:
        """Answer once all that came before is answered, and end our side; nothing that still arrives is read."""
        self._discarding = True
        self._drop_half_given()
        self._in_message = False
        if self._line or self._asgi_busy():
            self._line.append(answer)
        else:
            self._end(answer)

    def _drop_half_given(self) -> None:
        """Let go of a request that the application has, but whose body will never be whole."""
        if not self._in_message or self._head_bytes or self._turn is not None:
            return
        if self.cycle is None:  # its head was never understood
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if self._asgi is self.cycle:
            self._asgi = None
        elif self._line:
            self._line.pop()

    def _end(self, answer: bytes) -> None:
        """Write the last words; what still arrives is discarded for a while, as closing at once would lose them."""
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    # The connection's life.

    def abort(self) -> None:
        """End at once."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._blocked_ns = monotonic_ns()
        self.flow.pause_reading()  # who does not read answers gets no more questions read

    def resume_writing(self) -> None:
        super().resume_writing()
        self._blocked_ns = 0
        if len(self._line) >= MAX_PIPELINED:
            self.flow.pause_reading()
        else:
            self._read_on()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio allows it, uvicorn narrows it
        """The caller has said all: what is under way is still answered, then the connection ends."""
        self._ended = True
        if self._rest:
            return True
        if self._line and isinstance(self._line[-1], PendingRequest):
            self._line[-1].keep_alive = False
        return bool(self._line or self._asgi_busy())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True
        line, self._line = self._line, deque()
        for waiting in line:
            if isinstance(waiting, PendingRequest):
                self._abandon(waiting)
        for cycle in (self._asgi, *(waiting[0] for waiting in line if isinstance(waiting, tuple))):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()

    def _abandon(self, turn: PendingRequest) -> None:
        if turn.answer is None and turn.cancel is not None:
            turn.cancel()

    def shutdown(self) -> None:
        """Close as soon as nothing is under way; whatever is still answered says ``connection: close``."""
        if not self._line and not self._asgi_busy() and not self._in_message:
            self.transport.close()
        elif self._asgi_busy():
            super().shutdown()

    def sweep(self, now_ns: int) -> None:
        """Close a connection that has been silent for too long, and let one that is old end with its next answer;
        called about once a second."""
        self._old = now_ns > self._until_ns
        if self._blocked_ns and now_ns - self._blocked_ns > self.shared.limits.request_s * 1e9:
            self.transport.abort()  # nobody reads the answers
            return
        if self._line or self._asgi_busy() or self.transport.is_closing():
            return
        limits = self.shared.limits
        allowed_s = limits.request_s if self._in_message else limits.keep_alive_s
        if now_ns - self._received_ns > allowed_s * 1e9:
            self.transport.close()


def _header_length(fields: Fields) -> int:
    value = fields[b"inference-header-content-length"]
    if not value.isdigit() or len(value) > 18:
        raise InvalidInput("inference-header-content-length must be a whole number of bytes")
    return int(value)


def _timeout_header(fields: Fields) -> int | None:
    value = fields.get(b"penstock-timeout-ms")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise InvalidInput("penstock-timeout-ms must be a whole number of milliseconds")
    return int(value) * 1_000_000


def _header_safe(text: str) -> bytes:
    """A request id as a header value: what HTTP does not allow there is percent-encoded.

    A very long one stays in the body alone, as clients bound the header lines they read.
    """
    if len(text) > MAX_ID_HEADER:
        return b""
    if text.isascii() and text.isprintable():
        return text.encode("ascii")
    return quote(text, safe=" !#$&'()*+,/:;=?@[]~").encode("ascii")
