"""Heads of requests: which are taken, for what, and which are refused with which status."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.http1.request_head import CHUNKED, HeadError, Http1RequestHead, check_start, read_head

GOOD = {
    "origin form": b"GET /a/b?c=d HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute form": b"GET http://other:80/a/b?c=d HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute form, TLS": b"GET HTTPS://[::1]:8443/a/b?c=d HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0": b"GET /a/b?c=d HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with Host": b"GET /a/b?c=d HTTP/1.0\r\nHost: a\r\n\r\n",
    "empty Host": b"GET /a/b?c=d HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with port": b"GET /a/b?c=d HTTP/1.1\r\nHost: a.example:8000\r\n\r\n",
    "Host IPv6": b"GET /a/b?c=d HTTP/1.1\r\nHost: [fe80::1]:8000\r\n\r\n",
    "white space around values": b"GET /a/b?c=d HTTP/1.1\r\nHost: \t a \t\r\n\r\n",
    "no value": b"GET /a/b?c=d HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
    "bytes above 127 in a value": b"GET /a/b?c=d HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\n\r\n",
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_a_target_is_read_in_every_form(data: bytes) -> None:
    head = read_head(data)
    assert (head.method, head.path, head.query) == (b"GET", b"/a/b", b"c=d")
    assert head.length == 0
    assert head.size == len(data)


def head_with(*fields: bytes, method: bytes = b"POST", version: bytes = b"1.1") -> Http1RequestHead:
    return read_head(b"\r\n".join([b"%b /a HTTP/%b" % (method, version), b"Host: a", *fields, b"", b""]))


def test_fields_that_come_twice_are_joined() -> None:
    head = head_with(b"Accept-Encoding: gzip", b"X: 1", b"accept-encoding:  deflate ")
    assert head.fields[b"accept-encoding"] == b"gzip, deflate"
    assert [name for name, _ in head.pairs] == [b"host", b"accept-encoding", b"x", b"accept-encoding"]


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ((), 0),
        ((b"Content-Length: 0",), 0),
        ((b"Content-Length: 12",), 12),
        ((b"Content-Length: 00012",), 12),
        ((b"Content-Length:\t12\t",), 12),
        ((b"Content-Length: 999999999999999999",), 10**18 - 1),
        ((b"Transfer-Encoding: chunked",), CHUNKED),
        ((b"Transfer-Encoding: CHUNKED",), CHUNKED),
        ((b"Transfer_Encoding: chunked", b"Content-Length: 3"), 3),
        ((b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5"), 5),
    ],
)
def test_the_length_of_a_body(fields: tuple[bytes, ...], length: int) -> None:
    assert head_with(*fields).length == length


@pytest.mark.parametrize(
    ("version", "field", "kept"),
    [
        (b"1.1", b"X: a", True),
        (b"1.1", b"Connection: close", False),
        (b"1.1", b"Connection: CLOSE", False),
        (b"1.1", b"Connection: x, close", False),
        (b"1.1", b"Connection: keep-alive", True),
        (b"1.1", b"Connection: Upgrade, HTTP2-Settings", True),
        (b"1.0", b"X: a", False),
        (b"1.0", b"Connection: keep-alive", True),
        (b"1.0", b"Connection: Keep-Alive, x", True),
        (b"1.0", b"Connection: keep-alive, close", False),
    ],
)
def test_whether_a_connection_goes_on(version: bytes, field: bytes, kept: bool) -> None:
    assert head_with(field, version=version).keep_alive is kept


def test_a_connection_field_may_come_twice() -> None:
    assert not head_with(b"Connection: x", b"Connection: close").keep_alive


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        (b"1.1", (b"Expect: 100-continue", b"Content-Length: 5"), True),
        (b"1.1", (b"Expect: 100-Continue", b"Transfer-Encoding: chunked"), True),
        (b"1.1", (b"Expect: 100-continue",), False),
        (b"1.0", (b"Expect: 100-continue", b"Content-Length: 5"), False),
        (b"1.0", (b"Expect: the impossible", b"Content-Length: 5"), False),
    ],
)
def test_the_expect_field_of_a_request_is_read(version: bytes, fields: tuple[bytes, ...], expected: bool) -> None:
    assert head_with(*fields, version=version).expects_continue is expected


UPGRADE = b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"

REFUSED = {
    "no Host": (400, b"GET /a HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "two Hosts in HTTP/1.0": (400, b"GET /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    "Host with a space": (400, b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "Host with a path": (400, b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "Host with a user": (400, b"GET /a HTTP/1.1\r\nHost: b@a\r\n\r\n"),
    "Host list": (400, b"GET /a HTTP/1.1\r\nHost: a,b\r\n\r\n"),
    "Host with a named port": (400, b"GET /a HTTP/1.1\r\nHost: a:http\r\n\r\n"),
    "HTTP/0.9": (400, b"GET /a\r\n\r\n"),
    "HTTP/0.9 with version": (400, b"GET /a HTTP/0.9\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": (400, b"GET /a HTTP/1.2\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (400, b"POST /a HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/9.9": (400, b"GET /a HTTP/9.9\r\nHost: a\r\n\r\n"),
    "HTTP/11.1": (400, b"GET /a HTTP/11.1\r\nHost: a\r\n\r\n"),
    "http/1.1": (400, b"GET /a http/1.1\r\nHost: a\r\n\r\n"),
    "the preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\n"),
    "another protocol": (400, b"GET /a RTSP/1.0\r\n\r\n"),
    "two spaces": (400, b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab": (400, b"GET\t/a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space behind": (400, b"GET /a HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "space before": (400, b" GET /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target with a space": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target with a byte above 127": (400, b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target with a NUL": (400, b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target with a fragment": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target without a slash": (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "asterisk": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "user in the target": (400, b"GET http://me@a/b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no host in the target": (400, b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "file URL": (400, b"GET file:///b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (400, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT with a path": (400, b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "lower case method": (501, b"post /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "unknown method": (501, b"FROB /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method with a comma": (400, b"GE,T /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "length and chunks": (
        400,
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "chunks and length": (
        400,
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    ),
    "two lengths": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"),
    "two other lengths": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n"),
    "list of lengths": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n"),
    "length with a sign": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n"),
    "length below zero": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n"),
    "length in hexadecimal": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n"),
    "length with a fraction": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3.0\r\n\r\n"),
    "length empty": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    "length of words": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: three\r\n\r\n"),
    "length beyond 64 bits": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\n"),
    "space before the colon": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\n"),
    "length on the next line": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 3\r\n\r\n"),
    "coding on the next line": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
    "any field on the next line": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "gzip, chunked": (501, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    "identity, chunked": (501, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n"),
    "x and chunked": (
        501,
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "chunked, gzip": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"),
    "chunked twice": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"),
    "identity": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    "xchunked": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    "coding empty": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    "coding with a vertical tab": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n"),
    "coding quoted": (400, b'POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "chunked"\r\n\r\n'),
    "coding with a parameter": (400, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n"),
    "chunks in HTTP/1.0": (400, b"POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "expectation": (417, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 200-ok\r\n\r\n"),
    "two expectations": (
        417,
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n",
    ),
    "LF alone": (400, b"GET /a HTTP/1.1\nHost: a\n\r\n\r\n"),
    "LF in a field": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX: b\nTransfer-Encoding: chunked\r\n\r\n"),
    "CR in a field": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX: b\rTransfer-Encoding: chunked\r\n\r\n"),
    "NUL in a value": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n"),
    "NUL in a name": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n"),
    "control character in a value": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n"),
    "DEL in a value": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n"),
    "no colon": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    "no name": (400, b"GET /a HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    "space in a name": (400, b"GET /a HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n"),
    "byte above 127 in a name": (400, b"GET /a HTTP/1.1\r\nHost: a\r\n\xffX: b\r\n\r\n"),
    "space before the first field": (400, b"GET /a HTTP/1.1\r\n Host: a\r\n\r\n"),
    "noise": (400, b"\0\1\2\3\r\n\r\n"),
    "a TLS greeting": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "method alone": (400, b"GET\r\n\r\n"),
    "upgrade with two lengths": (
        400,
        UPGRADE + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\n",
    ),
    "upgrade with both framings": (
        400,
        UPGRADE + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(status: int, data: bytes) -> None:
    with pytest.raises(HeadError) as refused:
        read_head(data)
    assert refused.value.status == status
    assert refused.value.message


def test_a_line_is_refused_as_soon_as_it_cannot_become_one() -> None:
    good = b"POST /v2/models/a/infer HTTP/1.1\r\n"
    assert all(check_start(good[:end], 0) is None for end in range(1, len(good)))
    for data in (b"\x16\x03\x01", b"\0", b" GET", b"GET /a\r\n", b"GET /a HTTP/2.0\r\n", b"GET /a HTTP/1.1\n", b"{\n"):
        with pytest.raises(HeadError):
            check_start(data, 0)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_head_or_refused(noise: bytes) -> None:
    for data in (noise, b"GET /a HTTP/1.1\r\nHost: a\r\n" + noise):
        with suppress(HeadError):
            assert read_head(data + b"\r\n\r\n").path.startswith(b"/")
