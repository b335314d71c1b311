"""Sinks of policies: what they may reach, by who declares them, for all kinds of sinks."""

from typing import Any

import pytest

from penstock.core.addresses import parse_hosts
from penstock.core.errors import InvalidInput, Unauthorised
from penstock.core.policies import decode_stored_policy, encode_stored_policy, parse_policy
from penstock.core.sink_rules import SinkRules, find_refusal, is_inside
from penstock.core.sinks import FIELDS, SecretName, SinkOrigin, SinkSpec, parse_sinks

HOSTS = parse_hosts(["hooks.example", "api.github.com"])
VALUES: dict[str, Any] = {
    "url": "https://hooks.example/x",
    "path": "sinks/events",
    "argv": ["true"],
    "repository": "o/r",
    "mode": "binary",
    "api": "v2",
    "timeout_seconds": 5,
    "secrets": {"A": "name"},
}


def values_of(kind: str, **changes: Any) -> dict[str, Any]:
    """Settings of a sink, all but those that name files."""
    stated = {name: VALUES.get(name, "name") for name in FIELDS[kind] if not name.endswith("_file")}
    if kind == "nats":
        stated["url"] = "nats://hooks.example"
    return stated | {name: value for name, value in changes.items() if name in FIELDS[kind]}


def spec_of(kind: str, values: dict[str, Any], origin: SinkOrigin = SinkOrigin.POLICY) -> SinkSpec:
    faults: list[str] = []
    found = parse_sinks({"s": {kind: values}}, faults, origin)
    assert faults == []
    return found["s"]


@pytest.mark.parametrize("kind", FIELDS)
def test_a_sink_of_a_policy_within_the_bounds_may_be(kind: str) -> None:
    assert find_refusal(spec_of(kind, values_of(kind)), HOSTS) == ""


@pytest.mark.parametrize("kind", FIELDS)
def test_no_kind_reads_files_or_reaches_other_hosts_by_a_policy(kind: str) -> None:
    outside = {"url": "nats://other.example" if kind == "nats" else "http://other.example", "path": "registry.db"}
    files = {name: "/etc/shadow" for name in FIELDS[kind] if name.endswith("_file")}
    plain = {name: value for name, value in values_of(kind).items() if f"{name}_file" not in files}
    cases = [{**plain, **files}] if files else []
    cases += [values_of(kind, **{name: value}) for name, value in outside.items() if name in FIELDS[kind]]
    assert cases or kind == "command"
    for values in cases:
        assert find_refusal(spec_of(kind, values), HOSTS)
        for origin in (SinkOrigin.OWNER, SinkOrigin.CONFIGURATION):
            assert find_refusal(spec_of(kind, values, origin), HOSTS) == ""


def test_a_kind_with_a_default_address_is_bounded_too() -> None:
    values = {"repository": "o/r", "token": "name"}
    assert find_refusal(spec_of("github", values), HOSTS) == ""
    assert "sink_hosts" in find_refusal(spec_of("github", values), parse_hosts([]))


def test_what_another_package_does_is_not_known() -> None:
    assert "other packages" in find_refusal(SinkSpec("mail", {}), HOSTS)
    assert find_refusal(SinkSpec("mail", {}, SinkOrigin.OWNER), HOSTS) == ""


@pytest.mark.parametrize("path", ["", "sinks", "sinks/..", "sinks/../x", "/sinks/x", "x", "./x", "sinks/a/../../x"])
def test_files_outside_the_folder_are_refused(path: str) -> None:
    assert not is_inside(path)
    assert is_inside("sinks/a.log")
    assert is_inside("./sinks/m/a.log")


def test_new_sinks_are_checked() -> None:
    hook = SinkSpec("webhook", {"url": "http://x"}, SinkOrigin.CONFIGURATION)
    rules = SinkRules({"hook": hook}, HOSTS, lambda spec: "its secret is empty" if "secret" in spec.values else "")
    rules.check({"mine": SinkSpec("webhook", {"url": "https://hooks.example"})})
    with pytest.raises(Unauthorised, match=r"'sinks.mine': its host is not one of the setting sink_hosts"):
        rules.check({"mine": SinkSpec("webhook", {"url": "http://127.0.0.1"})})
    with pytest.raises(InvalidInput, match=r"'sinks.hook' is a sink of the configuration"):
        rules.check({"hook": SinkSpec("webhook", {"url": "http://127.0.0.1"}, SinkOrigin.OWNER)})
    with pytest.raises(InvalidInput, match=r"'sinks.mine': its secret is empty"):
        rules.check({"mine": SinkSpec("webhook", {"url": "http://x", "secret": "a"}, SinkOrigin.OWNER)})


def parse_schedule(text: str) -> Any:
    raise InvalidInput(text)


TRIGGER = {"name": "t", "when": {"drift": {}}, "send": ["hook"]}


def test_policies_name_the_sinks_of_the_configuration() -> None:
    declared = {"hook": SinkSpec("webhook", {"url": "http://x"}, SinkOrigin.CONFIGURATION)}
    policy = parse_policy({"triggers": [TRIGGER]}, parse_schedule, declared)
    assert policy.sinks == declared
    assert policy.own_sinks == {}
    with pytest.raises(InvalidInput, match="names no sink of this policy or of the configuration: 'hook'"):
        parse_policy({"triggers": [TRIGGER]}, parse_schedule)
    stored = decode_stored_policy(
        encode_stored_policy(policy), parse_schedule, {}
    )  # the configuration has it no longer
    assert (stored.sinks, stored.triggers) == ({}, policy.triggers)


def test_the_declarer_of_a_sink_is_stored() -> None:
    sinks = {"a": {"file": {"path": "x"}}, "b": {"file": {"path": "y"}}}
    policy = parse_policy({"sinks": sinks}, parse_schedule, origins={"a": SinkOrigin.OWNER})
    stored = encode_stored_policy(policy)
    assert stored["owner_sinks"] == ["a"]
    assert decode_stored_policy(stored, parse_schedule, {}).sinks == policy.sinks
    assert not decode_stored_policy({"sinks": sinks}, parse_schedule, {}).sinks["a"].is_trusted
    with pytest.raises(InvalidInput, match="'owner_sinks' is not a field of a policy"):
        parse_policy(stored, parse_schedule)


@pytest.mark.parametrize(
    ("kind", "values", "fault"),
    [
        ("webhook", {"url": "http://x", "secret": "a", "secret_file": "b"}, "both 'secret' and 'secret_file'"),
        ("webhook", {"url": "http://x", "secret": ["a", "b", "c"]}, "or of two"),
        ("webhook", {"url": "http://x", "secret": ["a", "a"]}, "or of two"),
        ("webhook", {"url": "http://x", "secret": []}, "or of two"),
        ("webhook", {"url": "http://x", "secret": "../x"}, "the name of a secret"),
        ("argo", {"url": "http://x", "token": 7}, "the name of a secret"),
        ("argo", {"url": "http://x\\@y"}, "an http or https address"),
        ("argo", {"url": "http://x:port/"}, "an http or https address"),
        ("argo", {"url": "http://a b/"}, "an http or https address"),
        ("github", {"repository": "o/r"}, "'sinks.s.github.token' is missing"),
        ("command", {"argv": ["x"], "secrets": {"A B": "x"}}, "names of variables"),
        ("command", {"argv": ["x"], "secrets": {"A": 7}}, "names of variables"),
    ],
)
def test_settings_that_cannot_be(kind: str, values: dict[str, Any], fault: str) -> None:
    faults: list[str] = []
    assert parse_sinks({"s": {kind: values}}, faults) == {}
    assert fault in faults[0]


@pytest.mark.parametrize("kind", FIELDS)
def test_the_secrets_that_a_sink_uses_are_known(kind: str) -> None:
    names = [
        name for name, (wanted, _) in FIELDS[kind].items() if wanted is SecretName or name in ("secret", "secrets")
    ]
    assert spec_of(kind, values_of(kind)).secret_names == ("name",) * len(names)
