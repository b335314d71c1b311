"""No byte of a request is ever taken for another one: what is answered here is what two other readers see."""

from typing import Any

import h11
import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.api.http1.limits import HttpLimits
from tests.budgets import examples
from tests.unit.api.http1.support import serving

MARKER = b"GET /marker HTTP/1.1\r\nhost: a\r\n\r\n"

Request = tuple[bytes, bytes, bytes]
"""Method, path and body."""


class Reader:
    """The requests that httptools reads."""

    def __init__(self, data: bytes) -> None:
        self.found: list[Request] = []
        self._url = self._body = b""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.has_stopped = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.found.pop()  # an offer to speak another protocol: this reader does not know what follows
            self.has_stopped = True
        except httptools.HttpParserError:
            self.has_stopped = True

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.found.append((self._parser.get_method(), self._url, self._body))


def h11_reads(data: bytes) -> tuple[list[Request], bool]:
    """The requests that h11 reads, and whether it stopped for an error."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    found: list[Request] = []
    method = target = content = b""
    while True:
        try:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target, content = event.method, event.target, b""
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((method, target, content))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return found, False
                connection.start_next_cycle()
            else:
                return found, False
        except h11.RemoteProtocolError:
            return found, True


def answered(data: bytes, cuts: list[int]) -> tuple[list[Request], list[int]]:
    """The requests that are answered here, and the statuses of all answers."""
    taken: list[Request] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        taken.append((scope["method"].encode(), scope["raw_path"] + query, content))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with serving(app, limits=HttpLimits(max_body_bytes=4096, max_head_bytes=2048)) as server:
        client = server.connect()
        ends = sorted(cut for cut in cuts if cut < len(data))
        pieces = [data[at:end] for at, end in zip([0, *ends], [*ends, len(data)], strict=True)]
        statuses = [reply.status for reply in client.say(*pieces)]
    return taken, statuses


LINES = st.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"Content-Length: 37",
        b"content-length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length : 5",
        b"Content-Length:\x0b5",
        b"Content-Length: 5 ",
        b"Content_Length: 5",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: Chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding\x00: chunked",
        b"Transfer-Encoding: chunked\r",
        b"X: y\nTransfer-Encoding: chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"X: y",
        b"Connection: close",
        b"Connection: upgrade",
        b"Connection: keep-alive",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Host: b",
    ]
)
FIRST = st.sampled_from(
    [
        b"POST /a HTTP/1.1",
        b"GET /a HTTP/1.1",
        b"POST /a HTTP/1.0",
        b"POST http://b/a HTTP/1.1",
        b"POST /a HTTP/1.1 ",
        b"POST /a",
        b"\r\nPOST /a HTTP/1.1",
    ]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n"])
CONTENT = st.sampled_from(
    [
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"25\r\n" + MARKER + b"\r\n0\r\n\r\n",
        b"5;x\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5;x\nhello\r\n0\r\n\r\n",
        b"6\r\nhello\r\n0\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\nhello",
        b"0\r\n\r\n" + MARKER,
        MARKER,
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, more or less."""
    lines = [draw(FIRST), b"host: a", *draw(st.lists(LINES, max_size=3))]
    head = b"".join([line + draw(ENDS) for line in lines])
    return head + draw(ENDS) + draw(CONTENT)


@settings(max_examples=examples(400), deadline=None)
@given(requests(), st.lists(st.integers(0, 300), max_size=3))
@example(b"POST /a HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", [])
@example(b"POST /a HTTP/1.0\r\nhost: a\r\nConnection: keep-alive\r\n\r\n", [])
def test_what_is_answered_is_what_others_read(first: bytes, cuts: list[int]) -> None:
    data = first + MARKER
    taken, statuses = answered(data, cuts)
    assert statuses.count(200) == len(taken)
    refusals = [status for status in statuses if status not in (100, 200)]
    assert len(refusals) <= 1
    assert not refusals or statuses[-1] == refusals[0]  # nothing is answered behind it
    own_reader, (of_h11, h11_has_stopped) = Reader(data), h11_reads(data)
    h11_has_stopped |= b"HTTP/1.0" in first  # it closes behind each, also where keep-alive is asked for
    for found, has_stopped in ((own_reader.found, own_reader.has_stopped), (of_h11, h11_has_stopped)):
        for here, there in zip(taken, found, strict=False):
            assert (here[0], here[2]) == (there[0], there[2])
        assert has_stopped or len(taken) <= len(found)
