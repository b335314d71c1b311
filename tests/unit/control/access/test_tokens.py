"""Signed tokens: only those that a key of the issuer has signed, for this audience and this time, prove a caller."""

import hmac
import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from penstock.control.access.tokens import InvalidKeySet, JwtVerifier, read_key_set
from penstock.core.access.claims import LEEWAY_S
from penstock.core.access.refusals import RefusalReason
from penstock.core.access.table import Issuer
from penstock.core.errors import Unauthenticated

NOW = 1_800_000_000.0
CLAIMS = {"iss": "https://issuer", "aud": "penstock", "sub": "ann", "exp": NOW + 60, "groups": ["ops", "dev"]}
HEADER = {"alg": "ES256", "kid": "k1"}
SIGNERS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"]


@cache
def ec_key(curve: str = "P-256", kid: str = "k1") -> ECKey:
    return ECKey.generate_key(curve, {"kid": kid})


@cache
def rsa_key(kid: str = "rsa") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid})


@cache
def key_set() -> str:
    ed25519 = OKPKey.generate_key("Ed25519", {"kid": "ed"})
    keys: list[ECKey | RSAKey | OKPKey] = [
        ec_key(),
        rsa_key(),
        ed25519,
        ec_key("P-384", "k384"),
        ec_key("P-521", "k521"),
    ]
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]})


@cache
def verifier() -> JwtVerifier:
    issuer = Issuer("https://issuer", "penstock", key_set(), username_prefix="https://issuer#")
    return JwtVerifier([Issuer("https://other", "penstock", key_set()), issuer])


def signed(header: dict[str, Any], claims: dict[str, Any], key: Any = None) -> str:
    registry = jws.JWSRegistry(algorithms=SIGNERS, strict_check_header=False)
    payload = json.dumps(claims).encode()
    return jws.serialize_compact(header, payload, ec_key() if key is None else key, registry=registry)


def part(values: Any) -> str:
    return urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


def refused(token: str) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        verifier().verify(token, NOW)
    return refusal.value.detail


def test_a_good_token_proves_its_name_and_groups() -> None:
    verified = verifier().verify(signed(HEADER, CLAIMS), NOW)
    assert verified.name == "https://issuer#ann"
    assert verified.groups == {"ops", "dev"}
    assert verified.expires_at == NOW + 60 + LEEWAY_S


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_every_signature_of_an_rsa_key_is_accepted(algorithm: str) -> None:
    verifier().verify(signed({"alg": algorithm, "kid": "rsa"}, CLAIMS, rsa_key()), NOW)


@pytest.mark.parametrize(("algorithm", "curve", "kid"), [("ES384", "P-384", "k384"), ("ES512", "P-521", "k521")])
def test_every_curve_has_its_signature(algorithm: str, curve: str, kid: str) -> None:
    verifier().verify(signed({"alg": algorithm, "kid": kid}, CLAIMS, ec_key(curve, kid)), NOW)


def test_a_public_key_is_not_accepted_as_a_secret() -> None:
    """The attack by which a public key, which everybody has, is used as the secret of an HMAC."""
    for public in (rsa_key().as_pem(private=False), json.dumps(rsa_key().as_dict(private=False)).encode()):
        text = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part(CLAIMS)}"
        code = urlsafe_b64encode(hmac.digest(public, text.encode(), "sha256")).rstrip(b"=").decode()
        assert refused(f"{text}.{code}") == RefusalReason.INVALID_TOKEN


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "ES256"},
        {"alg": "ES256", "kid": ""},
        {"alg": "ES256", "kid": 1},
        {"alg": "ES256", "kid": "rsa"},
        {"alg": "RS256", "kid": "k1"},
        {"alg": "ES384", "kid": "k1"},
        {**HEADER, "jku": "https://evil.example/keys"},
        {**HEADER, "x5u": "https://evil.example/certificate"},
        {**HEADER, "crit": ["exp"], "exp": 1},
        {**HEADER, "b64": False, "crit": ["b64"]},
        {**HEADER, "typ": "dpop+jwt"},
        {**HEADER, "typ": 7},
        {**HEADER, "unknown": 1},
    ],
)
def test_a_header_that_names_no_key_of_the_issuer_is_refused(header: dict[str, Any]) -> None:
    body = part(CLAIMS)
    own_signature = signed(HEADER, CLAIMS).rpartition(".")[2]
    assert refused(f"{part(header)}.{body}.{own_signature}") == RefusalReason.INVALID_TOKEN


def test_a_key_in_the_token_is_not_used() -> None:
    evil = ECKey.generate_key("P-256", {"kid": "k1"})
    header = {**HEADER, "jwk": evil.as_dict(private=False)}
    assert refused(signed(header, CLAIMS, evil)) == RefusalReason.INVALID_TOKEN
    assert refused(signed(HEADER, CLAIMS, evil)) == RefusalReason.INVALID_TOKEN


def test_a_token_without_a_signature_is_refused() -> None:
    for algorithm in ("none", "None", "NONE"):
        header = part({"alg": algorithm, "kid": "k1"})
        assert refused(f"{header}.{part(CLAIMS)}.") == RefusalReason.INVALID_TOKEN
    assert refused(f"{part(HEADER)}.{part(CLAIMS)}.") == RefusalReason.INVALID_TOKEN


def test_every_flipped_bit_of_the_signature_and_of_the_claims_is_found() -> None:
    header, claims, signature = signed(HEADER, CLAIMS).split(".")
    for place in range(0, len(signature), 5):
        changed = "A" if signature[place] != "A" else "B"
        assert refused(f"{header}.{claims}.{signature[:place]}{changed}{signature[place + 1 :]}")
    other = part({**CLAIMS, "sub": "root"})
    assert refused(f"{header}.{other}.{signature}") == RefusalReason.INVALID_TOKEN


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iss": "https://evil.example"}, RefusalReason.INVALID_TOKEN),
        ({"iss": None}, RefusalReason.INVALID_TOKEN),
        ({"aud": "other"}, RefusalReason.INVALID_TOKEN),
        ({"aud": []}, RefusalReason.INVALID_TOKEN),
        ({"aud": None}, RefusalReason.INVALID_TOKEN),
        ({"exp": None}, RefusalReason.INVALID_TOKEN),
        ({"exp": "2100-01-01"}, RefusalReason.INVALID_TOKEN),
        ({"exp": True}, RefusalReason.INVALID_TOKEN),
        ({"exp": float("inf")}, RefusalReason.INVALID_TOKEN),
        ({"exp": NOW - LEEWAY_S}, RefusalReason.EXPIRED),
        ({"nbf": NOW + LEEWAY_S + 1}, RefusalReason.INVALID_TOKEN),
        ({"nbf": "soon"}, RefusalReason.INVALID_TOKEN),
        ({"iat": NOW + LEEWAY_S + 1}, RefusalReason.INVALID_TOKEN),
        ({"sub": None}, RefusalReason.INVALID_NAME),
        ({"sub": ""}, RefusalReason.INVALID_NAME),
        ({"sub": 7}, RefusalReason.INVALID_NAME),
    ],
)
def test_a_claim_that_does_not_hold_is_refused(change: dict[str, Any], reason: RefusalReason) -> None:
    assert refused(signed(HEADER, {**CLAIMS, **change})) == reason
    missing = {name: value for name, value in CLAIMS.items() if change.get(name, 0) is not None}
    if missing != CLAIMS:
        assert refused(signed(HEADER, missing)) == reason


def test_clocks_may_differ_a_little() -> None:
    early = {**CLAIMS, "exp": NOW - LEEWAY_S + 1, "nbf": NOW + LEEWAY_S, "iat": NOW + LEEWAY_S}
    verifier().verify(signed(HEADER, early), NOW)


@pytest.mark.parametrize(
    "token", ["a.b.c", "..", "e30.e30.e30", f"{part([1])}.{part([1])}.a", "\u00e9.b.c", "e30=.a.b"]
)
def test_a_malformed_token_is_refused(token: str) -> None:
    assert refused(token) == RefusalReason.INVALID_TOKEN


def test_a_key_that_the_issuer_does_not_have_is_another_reason_only_for_tokens_of_this_issuer() -> None:
    for key in (ec_key("P-256", "new"), ec_key()):  # the signature is not looked at without a key
        assert refused(signed({**HEADER, "kid": "new"}, CLAIMS, key)) == RefusalReason.UNKNOWN_SIGNING_KEY
    for claim in ({"iss": "https://evil.example"}, {"aud": "another"}):
        assert refused(signed({**HEADER, "kid": "new"}, {**CLAIMS, **claim})) == RefusalReason.INVALID_TOKEN


def test_a_name_that_occurs_twice_is_refused() -> None:
    doubled = urlsafe_b64encode(b'{"alg":"ES256","kid":"k1","kid":"k1"}').rstrip(b"=").decode()
    assert refused(f"{doubled}.{part(CLAIMS)}.AAAA") == RefusalReason.INVALID_TOKEN


def test_two_audiences_of_one_issuer_are_two_issuers() -> None:
    issuers = [Issuer("https://issuer", name, key_set()) for name in ("console", "penstock")]
    assert JwtVerifier(issuers).verify(signed(HEADER, {**CLAIMS, "aud": ["x", "penstock"]}), NOW).name == "ann"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": 1}',
        '{"keys": []}',
        '{"keys": [{"kty": "EC"}]}',
        "\ud800",
        json.dumps({"keys": [1] * 101}),
    ],
)
def test_a_malformed_key_set_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeySet, match="expected"):
        read_key_set(text)


def test_secrets_and_other_keys_in_a_set_are_left_out() -> None:
    good = ec_key().as_dict(private=False)
    unusable = [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "secret"},
        {**good, "kid": "encrypts", "use": "enc"},
        {**good, "kid": "other", "alg": "RS256"},
        {name: value for name, value in good.items() if name != "kid"},
        {**good, "kid": "broken", "x": "AA"},
    ]
    assert list(read_key_set(json.dumps({"keys": [*unusable, good]}))) == ["k1"]
    with pytest.raises(InvalidKeySet):
        read_key_set(json.dumps({"keys": unusable}))


def test_an_issuer_without_keys_refuses_all_its_tokens() -> None:
    without = JwtVerifier([Issuer("https://issuer", "penstock", "")])
    with pytest.raises(Unauthenticated):
        without.verify(signed(HEADER, CLAIMS), NOW)
