"""What a call's header block says to gRPC."""

import pytest

from penstock.api.grpc.call_head import CallHead, is_grpc, parse_timeout_ns, read_call_head
from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.core.access.origins import OriginPolicy
from penstock.core.errors import Unauthorised


def head(*fields: tuple[bytes, bytes], method: bytes = b"POST") -> CallHead:
    made = read_call_head(Http2RequestHead(method, "/s/m", ((b"content-type", b"application/grpc"), *fields)))
    assert isinstance(made, CallHead)
    return made


@pytest.mark.parametrize(
    ("content_type", "grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc+json", False),
        (b"Application/gRPC+Proto", True),
        (b"application/grpc; charset=utf-8", True),
        (b"application/grpc ;a=b", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpc-web-text", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_which_content_types_are_grpc(content_type: bytes, grpc: bool) -> None:
    assert is_grpc(content_type) == grpc


@pytest.mark.parametrize(
    ("text", "ns"), [(b"1n", 1), (b"20u", 20_000), (b"3m", 3_000_000), (b"99999999H", 99999999 * 3_600_000_000_000)]
)
def test_timeouts_are_read_in_every_unit(text: bytes, ns: int) -> None:
    assert parse_timeout_ns(text) == ns


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"1.5S", b"-1S", b"123456789S", b"1x", b" 1S", b"\xd9\xa1S"])
def test_malformed_timeouts_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_timeout_ns(text)
    assert head((b"grpc-timeout", text)).fault is not None


def test_a_call_says_how_it_is_compressed_and_what_it_takes() -> None:
    call = head((b"grpc-encoding", b"gzip"), (b"grpc-accept-encoding", b"gzip, deflate"), (b"grpc-timeout", b"2S"))
    assert (call.encoding, sorted(call.accepts), call.timeout_ns) == ("gzip", ["deflate", "gzip"], 2_000_000_000)
    assert (call.fault, call.http_status) == (None, 0)
    assert head((b"grpc-encoding", b"br")).fault is not None


def test_malformed_calls_are_refused() -> None:
    assert head(method=b"GET").http_status == 405
    assert read_call_head(Http2RequestHead(b"POST", "/", ())).http_status == 415


CALL = ((b"content-type", b"application/grpc"),)


@pytest.mark.parametrize(
    ("authority", "fields", "is_taken"),
    [
        (b"localhost:8001", (), True),
        (b"[::1]:8001", (), True),
        (b"", (), True),
        (b"evil.example", (), False),
        (b"localhost:8001", ((b"origin", b"http://evil.example"),), False),
        (b"localhost:8001", ((b"sec-fetch-site", b"cross-site"),), False),
        (b"localhost:8001", ((b"origin", b"http://localhost:8001"),), True),
    ],
)
def test_foreign_hosts_and_origins_are_refused(
    authority: bytes, fields: tuple[tuple[bytes, bytes], ...], is_taken: bool
) -> None:
    policy = OriginPolicy()
    call = read_call_head(Http2RequestHead(b"POST", "/s/m", (*CALL, *fields), authority=authority), policy)
    assert (call.http_status, isinstance(call.fault, Unauthorised)) == (0, not is_taken)
    other = read_call_head(Http2RequestHead(b"POST", "/", fields, authority=authority), policy)
    assert other.http_status == (415 if is_taken else 421 if b"evil" in authority else 403)


def test_fields_of_a_trace_that_come_several_times_are_joined() -> None:
    made = head((b"tracestate", b"a=1"), (b"x", b"1"), (b"tracestate", b"b=2"), (b"x", b"2"), (b"traceparent", b"p"))
    assert (made.fields[b"tracestate"], made.fields[b"traceparent"]) == (b"a=1, b=2", b"p")
    assert made.fields[b"x"] == b"2"
    assert head((b"traceparent", b"p"), (b"traceparent", b"q")).fields[b"traceparent"] == b"p, q"
