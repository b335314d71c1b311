"""Addresses: which the sinks of policies may reach, and what of them people may see."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.addresses import find_credentials, hide_credentials, hide_tokens, host_of, is_public, parse_hosts

NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.9.9.9",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "224.0.1.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2001:0:7f00:1::1",
    "2002:7f00:1::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "ff02::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_addresses_that_are_not_of_the_internet(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    assert not parse_hosts(["example.com"]).permits_address(text)


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_internet(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    assert parse_hosts([]).permits_address(text)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_another_form_is_never_more_than_itself(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [number, 0xFFFF << 32 | number, 0x2002 << 112 | number << 80]
    assert not any(is_public(ipaddress.IPv6Address(form)) for form in forms)
    translated = ipaddress.IPv6Address(0x64FF9B << 96 | number)
    assert is_public(translated) is is_public(address)


def test_hosts_are_listed_by_name_domain_address_and_network() -> None:
    hosts = parse_hosts(["Hooks.example", "*.corp.example", "10.1.0.0/16", "192.168.0.7", "fd00::/8"])
    for host in ("hooks.example", "HOOKS.EXAMPLE.", "a.corp.example", "b.a.corp.example", "10.1.2.3", "192.168.0.7"):
        assert hosts.permits_host(host), host
    for host in ("example", "corp.example", "acorp.example", "hooks.example.evil", "10.2.0.1", "8.8.8.8", "", "[::1"):
        assert not hosts.permits_host(host), host
    assert hosts.permits_address("10.1.255.255")
    assert hosts.permits_address("fd12::1")
    assert not hosts.permits_address("10.2.0.1")
    assert not hosts.permits_address("hooks.example")


@pytest.mark.parametrize("entry", ["", "http://x", "a b", "10.0.0.0/33", "10.0.0.1/8", "a_.-", "*", "x/y", "*.*.x"])
def test_a_malformed_host_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="expected a host"):
        parse_hosts([entry])


def test_the_host_of_a_url() -> None:
    assert host_of("https://A.example:8443/x") == "a.example"
    assert host_of("http://[::1]:80/") == "::1"
    assert host_of("http://[::1/") == ""
    assert host_of("nothing") == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:p@ss/w0rd@db.example:5432/models", "postgresql://***@db.example:5432/models"),
        ("postgresql://db.example/models?password=planted", "postgresql://db.example/models?***"),
        ("postgresql://user:plan?ted@db.example/models", "postgresql://***"),
        ("postgresql://user:plan#ted@db.example/models", "postgresql://***"),
        ("http://planted@prometheus.example/", "http://***@prometheus.example/"),
        ("https://hooks.example/x?token=planted#y", "https://hooks.example/x?***"),
        ("https://hooks.example/x?to=a@b&token=planted", "https://***"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("sqlite:////data/registry.db", "sqlite:////data/registry.db"),
        ("/data/models", "/data/models"),
        ("planted text://x", "***"),
    ],
)
def test_addresses_are_shown_without_their_secrets(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown


SECRET = st.text("abcXYZ019@/:?#&=%+ ~", min_size=1).map(lambda text: f"PLANTED{text}PLANTED")


@given(SECRET, SECRET, st.sampled_from(["postgresql://{0}:{1}@h/db", "http://{0}@h:1/p?k={1}", "s3://h/p?{0}#{1}"]))
def test_no_part_of_a_secret_is_shown_whatever_is_in_it(one: str, other: str, form: str) -> None:
    assert "PLANTED" not in hide_credentials(form.format(one, other))


def test_credentials_are_found_whole_and_in_parts() -> None:
    assert find_credentials("http://someone:p@ss/long%2Fword@h:1/?token=PLANTED&plain") == {
        "someone",
        "long%2Fword",
        "long/word",
        "PLANTED",
    }
    assert find_credentials("postgresql://user01:?planted@h/db") == {"planted"}
    assert find_credentials("/data/models") == frozenset()
    assert find_credentials("s3://bucket/prefix") == frozenset()


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("postgresql://penstock@h/penstock", set()),
        ("postgresql+psycopg://penstock:@h/penstock", set()),
        ("postgresql://penstock:short@h/penstock", set()),
        ("postgresql://penstock:planted@h/penstock?sslmode=require&sslpassword=PLANTED", {"planted", "PLANTED"}),
        ("postgresql:///penstock?user=penstock&password=planted", {"planted"}),
        ("https://penstock:planted@h/", {"penstock", "planted"}),
        ("https://planted@h/", {"planted"}),
        ("https://planted:@h/", {"planted"}),
        ("https://planted0123456789:x@h/", {"planted0123456789"}),
    ],
)
def test_user_names_and_options_of_databases_are_shown(text: str, secrets: set[str]) -> None:
    assert find_credentials(text) == secrets


def test_tokens_in_paths_are_hidden() -> None:
    assert hide_tokens("https://h/T000/B0123456789abcdef/x") == "https://h/T000/***/x"
    assert hide_tokens("https://h/B0123456789abcdef?***") == "https://h/***?***"
    assert (
        hide_tokens("https://hooks.example.com/a-long-name-of-words")
        == "https://hooks.example.com/a-long-name-of-words"
    )
