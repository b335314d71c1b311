"""What a signed token must state: issuer, audience, times, and a name."""

from typing import Any

import pytest

from penstock.core.access.claims import LEEWAY_S, MOST_GROUPS, VerifiedToken, check_claims, is_meant_for, read_key_id
from penstock.core.access.refusals import RefusalReason
from penstock.core.access.table import Issuer
from penstock.core.errors import Unauthenticated

NOW = 1_700_000_000.0
ISSUER = Issuer("https://issuer", "penstock", "{}", username_prefix="oidc:", groups_prefix="team:")
CLAIMS = {"iss": "https://issuer", "aud": "penstock", "exp": NOW + 60, "sub": "ann", "groups": ["a", "b"]}


def reason_of(claims: dict[str, Any], issuer: Issuer = ISSUER) -> str:
    """Why these claims are refused."""
    with pytest.raises(Unauthenticated) as refused:
        check_claims(issuer, claims, NOW)
    return refused.value.detail


def test_a_token_proves_name_groups_and_the_end_of_its_time() -> None:
    token = check_claims(ISSUER, CLAIMS, NOW)
    assert token == VerifiedToken("oidc:ann", frozenset({"team:a", "team:b"}), NOW + 60 + LEEWAY_S)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iss": "https://other"}, RefusalReason.INVALID_TOKEN),
        ({"iss": None}, RefusalReason.INVALID_TOKEN),
        ({"aud": "other"}, RefusalReason.INVALID_TOKEN),
        ({"aud": ["other", 5]}, RefusalReason.INVALID_TOKEN),
        ({"aud": {"penstock": 1}}, RefusalReason.INVALID_TOKEN),
        ({"exp": NOW - LEEWAY_S}, RefusalReason.EXPIRED),
        ({"exp": None}, RefusalReason.INVALID_TOKEN),
        ({"exp": True}, RefusalReason.INVALID_TOKEN),
        ({"exp": str(NOW + 60)}, RefusalReason.INVALID_TOKEN),
        ({"exp": -1}, RefusalReason.INVALID_TOKEN),
        ({"exp": 1e12}, RefusalReason.INVALID_TOKEN),
        ({"nbf": NOW + LEEWAY_S + 1}, RefusalReason.INVALID_TOKEN),
        ({"iat": NOW + LEEWAY_S + 1}, RefusalReason.INVALID_TOKEN),
        ({"nbf": "soon"}, RefusalReason.INVALID_TOKEN),
        ({"sub": ""}, RefusalReason.INVALID_NAME),
        ({"sub": 5}, RefusalReason.INVALID_NAME),
    ],
)
def test_what_does_not_hold_is_refused_with_its_reason(change: dict[str, Any], reason: RefusalReason) -> None:
    assert reason_of({**CLAIMS, **change}) == reason


@pytest.mark.parametrize(
    "change",
    [
        {"aud": ["other", "penstock"]},
        {"exp": NOW - LEEWAY_S + 0.5},
        {"exp": 1e12 - 1},
        {"nbf": NOW + LEEWAY_S},
        {"iat": NOW + LEEWAY_S},
        {"nbf": 0, "iat": 0},
    ],
)
def test_what_just_holds_is_accepted(change: dict[str, Any]) -> None:
    assert check_claims(ISSUER, {**CLAIMS, **change}, NOW).name == "oidc:ann"


@pytest.mark.parametrize(
    ("groups", "found"),
    [("a", {"a"}), (None, set()), ({"a": 1}, set()), (["a", 5, "b"], {"a", "b"}), ([], set())],
)
def test_groups_are_one_text_or_a_list(groups: Any, found: set[str]) -> None:
    token = check_claims(Issuer("https://issuer", "penstock", "{}"), {**CLAIMS, "groups": groups}, NOW)
    assert token.groups == found
    assert token.name == "ann"


def test_groups_are_bounded() -> None:
    groups = [f"g{number:04}" for number in range(MOST_GROUPS + 1)]
    assert check_claims(ISSUER, {**CLAIMS, "groups": groups}, NOW).groups == {f"team:{name}" for name in groups[:-1]}


def test_an_address_counts_as_a_name_unless_it_is_said_to_be_unverified() -> None:
    issuer = Issuer("https://issuer", "penstock", "{}", username_claim="email")
    claims = {**CLAIMS, "email": "ann@x"}
    assert check_claims(issuer, claims, NOW).name == "ann@x"
    assert check_claims(issuer, {**claims, "email_verified": True}, NOW).name == "ann@x"
    for value in (False, "true", 1, None):
        assert reason_of({**claims, "email_verified": value}, issuer) == RefusalReason.INVALID_NAME
    assert check_claims(ISSUER, {**CLAIMS, "email_verified": False}, NOW).name == "oidc:ann"


def test_issuer_and_audience_say_where_a_token_belongs() -> None:
    assert is_meant_for(ISSUER, CLAIMS)
    assert not is_meant_for(ISSUER, {"aud": "penstock"})
    assert not is_meant_for(ISSUER, {"iss": "https://issuer"})


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "k"},
        {"kid": "k", "typ": "JWT", "alg": "ES256", "cty": "", "x5t": "", "x5t#S256": ""},
        {"kid": "k", "typ": "at+jwt"},
        {"kid": "k", "typ": "application/at+jwt"},
    ],
)
def test_a_header_names_its_key(header: dict[str, Any]) -> None:
    assert read_key_id(header) == "k"


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"kid": ""},
        {"kid": 5},
        {"kid": "k", "jwk": {}},
        {"kid": "k", "jku": "https://x"},
        {"kid": "k", "crit": []},
        {"kid": "k", "typ": "JOSE"},
        {"kid": "k", "typ": None},
    ],
)
def test_a_header_with_a_key_an_extension_or_another_type_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        read_key_id(header)
    assert refused.value.detail == RefusalReason.INVALID_TOKEN
