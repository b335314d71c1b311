"""Parses the head of an HTTP/1.1 request: httptools reads its grammar, and RFC 9110 and 9112 decide what it means.

A head is read whole, in one piece and by a parser of its own, so that no state of one request reaches the next. The
framing of its body is decided here, from the fields alone; where httptools and these rules disagree, it is refused.
"""

import re
from typing import Final

import httptools

from penstock.serving.access.caller_access import CallerAccess

CHUNKED: Final = -1
"""The length of a chunked body."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_START_LINE: Final = re.compile(rb"(" + _TOKEN + rb"+) ([!-~]+) HTTP/([0-9]\.[0-9])\r\n")
_START: Final = re.compile(_TOKEN + rb"|\r\Z")
_BLANK_LINES: Final = re.compile(rb"(?:\r\n)+")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]+)([^#]*)")
_LENGTH_DIGITS: Final = 18

_NOT_A_REQUEST: Final = "the request is not valid HTTP"


class HeadError(Exception):
    """A refused head: ``status`` and one sentence; the connection ends with the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Http1RequestHead:
    """A valid request head; ``route`` is the model and version that the application finds in it, else None, and
    ``endpoint`` what answers it where that is not the only one that answers such requests. ``access`` is what its
    credential may do, to be used as long as that ``is_current``.

    ``authority`` is the host and port that the request is for: those of an absolute target, else of the Host field, ""
    without both. ``path`` is still percent-encoded. ``pairs`` are the fields as they came, names in lower case;
    ``fields`` joins the values of a name that came more than once with a comma, as RFC 9110 section 5.3 says.
    ``length`` counts the bytes of the body, or is ``CHUNKED``; ``size`` counts those of the head.
    """

    __slots__ = (
        "access",
        "authority",
        "endpoint",
        "expects_continue",
        "fields",
        "http10",
        "keep_alive",
        "length",
        "method",
        "pairs",
        "path",
        "query",
        "route",
        "size",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, http10: bool, pairs: list[tuple[bytes, bytes]], size: int) -> None:
        self.method = method
        self.target = target
        self.http10 = http10
        self.pairs = pairs
        self.size = size
        self.fields: dict[bytes, bytes] = _join_repeated(pairs)
        authority, self.path, self.query = _split_target(method, target)
        self.authority: bytes = authority or self.fields.get(b"host", b"")
        self.length = _parse_length(self.fields, http10)
        self.keep_alive = _is_kept_alive(self.fields, http10)
        self.expects_continue = not http10 and self.length != 0 and _expects_continue(self.fields)
        self.route: tuple[str, str] | None = None
        self.endpoint: object | None = None
        self.access: CallerAccess | None = None
        _check_host(self.fields, http10)


class _HeadCallbacks:
    """Collects what httptools finds in a head."""

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a field; httptools keeps white space after its value."""
        self.pairs.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Note the end of the fields."""
        self.whole = True


def read_head(data: bytes) -> Http1RequestHead:
    """Parse the head in ``data``, which ends with its empty line.

    Raises:
        HeadError: it is none, or breaks a rule.
    """
    line = check_start(data, 0)
    if line is None:
        raise HeadError(400, _NOT_A_REQUEST)
    grammar = _HeadCallbacks()
    try:
        httptools.HttpRequestParser(grammar).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an offer to speak another protocol, which is declined by answering in this one
    except httptools.HttpParserInvalidMethodError:
        raise HeadError(501, "the method is unknown") from None
    except httptools.HttpParserError:
        raise HeadError(400, _NOT_A_REQUEST) from None
    if not grammar.whole:
        raise HeadError(400, _NOT_A_REQUEST)
    return Http1RequestHead(line[1], line[2], line[3] == b"1.0", grammar.pairs, len(data))


def blank_lines(data: bytes, at: int) -> int:
    """Return the end of the empty lines at ``at``; they are allowed before a request."""
    match = _BLANK_LINES.match(data, at)
    return at if match is None else match.end()


def check_start(data: bytes, at: int) -> re.Match[bytes] | None:
    """The request line at ``at``: method, target and version; None while it is not there to its end.

    Raises:
        HeadError: what has come of it cannot become a request line of HTTP/1.1.
    """
    line = _START_LINE.match(data, at)
    if line is None:
        if data.find(b"\n", at) >= 0 or not _START.match(data, at):
            raise HeadError(400, _NOT_A_REQUEST)
        return None
    if line[3] not in (b"1.1", b"1.0"):
        raise HeadError(400, "the HTTP version is not supported; send HTTP/1.1")
    return line


def _join_repeated(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        fields = {}
        for name, value in pairs:
            fields[name] = value if name not in fields else b"%b, %b" % (fields[name], value)
    return fields


def _split_target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes]:
    """Return authority ("" for none), path and query of a target in any of the forms of RFC 9112 section 3.2."""
    if method == b"CONNECT":
        raise HeadError(400, "CONNECT is not supported: this server is not a proxy")
    if target == b"*" and method == b"OPTIONS":
        return b"", target, b""
    authority = b""
    if not target.startswith(b"/"):
        authority, target = _split_authority(target)
    if b"#" in target:
        raise HeadError(400, "the request target must not have a fragment")
    path, _, query = target.partition(b"?")
    return authority, path or b"/", query


def _split_authority(target: bytes) -> tuple[bytes, bytes]:
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not _HOST.fullmatch(match[1]):
        raise HeadError(400, "the request target must be a path, or an http or https URL without user and fragment")
    return match[1], match[2]


def _check_host(fields: dict[bytes, bytes], http10: bool) -> None:
    host = fields.get(b"host")
    if host is None:
        if not http10:
            raise HeadError(400, "the request has no Host field")
    elif not _HOST.fullmatch(host):
        raise HeadError(400, "the request needs exactly one Host field, with a host and optionally a port")


def _parse_length(fields: dict[bytes, bytes], http10: bool) -> int:
    coding = fields.get(b"transfer-encoding")
    stated = fields.get(b"content-length")
    if coding is not None:
        if stated is not None or http10:
            raise HeadError(
                400, "transfer-encoding is not allowed in HTTP/1.0 or beside content-length; send one of them"
            )
        _check_chunked(coding.lower())
        return CHUNKED
    if stated is None:
        return 0
    if not stated.isdigit() or len(stated) > _LENGTH_DIGITS:
        raise HeadError(400, "content-length must be one number of bytes")
    return int(stated)


def _check_chunked(coding: bytes) -> None:
    if coding == b"chunked":
        return
    codings = [item.strip() for item in coding.split(b",")]
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        raise HeadError(400, "the transfer coding of a request must be chunked")
    raise HeadError(501, "the only supported transfer coding is chunked; use content-encoding to compress")


def _is_kept_alive(fields: dict[bytes, bytes], http10: bool) -> bool:
    stated = fields.get(b"connection")
    if stated is None:
        return not http10
    options = [item.strip() for item in stated.lower().split(b",")]
    return b"close" not in options and (not http10 or b"keep-alive" in options)


def _expects_continue(fields: dict[bytes, bytes]) -> bool:
    expected = fields.get(b"expect")
    if expected is None:
        return False
    if expected.lower() != b"100-continue":
        raise HeadError(417, "the only supported expectation is 100-continue")
    return True
