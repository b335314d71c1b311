"""Which hosts and origins a request may state: tables of both, and what no form of a foreign one gets past."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.access.origins import (
    FORBIDDEN,
    MAX_KNOWN,
    MISDIRECTED,
    OriginPolicy,
    address_bytes,
    host_of,
    is_loopback_address,
)

OWN = [
    b"localhost",
    b"LOCALHOST:8002",
    b"localhost.",
    b"127.0.0.1",
    b"127.0.0.1:1",
    b"127.8.9.10",
    b"[::1]:80",
    b"[::1]",
]
MAPPED = [b"[::ffff:127.0.0.1]:8000", b"[0:0:0:0:0:0:0:1]"]
ADDRESSES = [b"10.0.0.7:8000", b"0.0.0.0", b"[fe80::1]:8000", b"[::]", b"[::ffff:10.0.0.7]"]
FOREIGN_HOSTS = [
    b"",
    b"evil.example",
    b"evil.example:8002",
    b"localhost.evil.example",
    b"evil-localhost",
    b"127.0.0.1.evil.example",
    b"127.0.0.1.nip.io",
    b"127.1",
    b"2130706433",
    b"0x7f.0.0.1",
    b"0177.0.0.1",
    b"127.0.0.256",
    b"[::1",
    b"::1",
    b"[::1]evil",
    b"localhost@evil.example",
    b"evil.example#localhost",
    b"evil.example/localhost",
    b"localhost evil.example",
    b"localhost, evil.example",
    b"localhost:8002:1",
    b"localhost\x00",
    b"\xff\xfe",
]
METHODS = [b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE", b"PATCH"]
UNSAFE = METHODS[3:]


def status(policy: OriginPolicy, method: bytes, host: bytes, **fields: str) -> int:
    """The status that a request is refused with, 0 for none."""
    given_fields = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    refusal = policy.refusal(method, host, {b"host": host, **given_fields})
    return 0 if refusal is None else refusal.status


@pytest.mark.parametrize("method", METHODS)
def test_only_loopback_hosts_are_trusted_by_default(method: bytes) -> None:
    policy = OriginPolicy()
    for host in (*OWN, *MAPPED, *OWN):  # the second time they are known
        assert status(policy, method, host) == 0, host
    for host in (*FOREIGN_HOSTS, *ADDRESSES):
        assert status(policy, method, host) == MISDIRECTED, host


def test_a_port_that_others_reach_trusts_addresses_and_no_names() -> None:
    policy = OriginPolicy(any_address=True)
    assert {status(policy, b"GET", host) for host in (*OWN, *MAPPED, *ADDRESSES)} == {0}
    assert {status(policy, b"GET", host) for host in FOREIGN_HOSTS} == {MISDIRECTED}


@pytest.mark.parametrize(
    ("trusted", "host", "is_trusted"),
    [
        ("ops.example.com", b"OPS.example.com:443", True),
        ("Ops.Example.Com", b"ops.example.com.", True),
        ("ops.example.com.", b"ops.example.com", True),
        (".ops.example.com", b"ops.example.com", False),
        ("ops.example.com", b"x.ops.example.com", False),
        ("ops.example.com", b"ops.example.com.evil.example", False),
        ("*.example.com", b"a.b.example.com:1", True),
        ("*.example.com", b"example.com", False),
        ("*.example.com", b"evil-example.com", False),
        ("10.0.0.7", b"10.0.0.7:8000", True),
        ("10.0.0.7", b"10.0.0.8", False),
        ("[fe80::1]", b"[fe80::1]:8000", True),
        ("fe80::1", b"[fe80::1]", True),
        ("*", b"evil.example", True),
        ("*", b"\xff", True),
    ],
)
def test_trusted_hosts_are_added(trusted: str, host: bytes, is_trusted: bool) -> None:
    assert (status(OriginPolicy([trusted]), b"GET", host) == 0) is is_trusted


def test_the_target_and_the_host_field_must_both_be_trusted() -> None:
    policy = OriginPolicy()
    assert policy.refusal(b"GET", b"localhost", {b"host": b"127.0.0.1"}) is None
    for authority, host in ((b"evil.example", b"localhost"), (b"localhost", b"evil.example"), (b"localhost", b"")):
        refusal = policy.refusal(b"GET", authority, {b"host": host})
        assert refusal is not None
        assert refusal.status == MISDIRECTED


def test_a_request_of_http_1_0_without_a_host_is_not_from_a_browser() -> None:
    assert OriginPolicy().refusal(b"GET", b"", {}) is None


SAME = [{}, {"sec_fetch_site": "none"}, {"sec_fetch_site": "same-origin"}, {"origin": "http://localhost:8002"}]
SAME += [{"origin": "https://LOCALHOST:8002"}]  # a proxy in front may add TLS
FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://localhost:3000"},
    {"origin": "http://127.0.0.1:8002"},
    {"origin": "http://localhost:8002.evil.example"},
    {"origin": "http://evil.example/localhost:8002"},
    {"origin": "http://localhost:8002, http://evil.example"},
    {"origin": "localhost:8002"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "CROSS-SITE"},
    {"sec_fetch_site": "nonsense"},
    {"sec_fetch_site": "cross-site", "origin": "http://localhost:8002"},
    {"sec_fetch_site": "same-origin", "origin": "http://evil.example"},
]


@pytest.mark.parametrize("fields", FOREIGN)
def test_pages_of_other_origins_change_nothing(fields: dict[str, str]) -> None:
    policy = OriginPolicy()
    assert {status(policy, method, b"localhost:8002", **fields) for method in UNSAFE} == {FORBIDDEN}
    assert {status(policy, method, b"localhost:8002", **fields) for method in METHODS if method not in UNSAFE} == {0}


@pytest.mark.parametrize("fields", SAME)
def test_own_pages_and_programs_may(fields: dict[str, str]) -> None:
    assert {status(OriginPolicy(), method, b"localhost:8002", **fields) for method in METHODS} == {0}


def test_pages_of_named_origins_may() -> None:
    page = {"origin": "https://app.example", "sec_fetch_site": "cross-site"}
    for origins in (["https://app.example"], ["https://b.example", "https://app.example"], ["*"]):
        assert status(OriginPolicy([], origins), b"POST", b"localhost", **page) == 0
        assert status(OriginPolicy([], origins), b"POST", b"evil.example", **page) == MISDIRECTED
    for origins in ([], ["https://b.example"], ["http://app.example"]):
        assert status(OriginPolicy([], origins), b"POST", b"localhost", **page) == FORBIDDEN


def test_the_hosts_that_are_remembered_are_bounded() -> None:
    policy = OriginPolicy(any_address=True)
    for number in range(2 * MAX_KNOWN):
        assert status(policy, b"GET", b"10.0.%d.%d" % divmod(number, 256)) == 0
    assert len(policy._known) <= MAX_KNOWN


@given(st.binary(max_size=30))
def test_only_localhost_and_loopback_addresses_are_trusted(host: bytes) -> None:
    if host and status(OriginPolicy(), b"GET", host) == 0:
        name = host_of(host)
        address = address_bytes(name)
        assert name == "localhost" or (address is not None and is_loopback_address(address))
