"""The section ``auth``: each credential has what it needs, and what nobody could use is refused."""

from typing import Any

import pytest

from penstock.config.documents import ConfigFault
from penstock.config.settings import load_settings

OIDC = {"issuer": "https://a", "audience": "penstock", "jwks_url": "https://a/keys"}


def load(**auth: Any) -> Any:
    return load_settings(None, {"auth": auth}).auth


def test_without_the_section_nobody_needs_a_credential() -> None:
    assert load_settings().auth is None


def test_each_credential_switches_authentication_on() -> None:
    assert load(keys=True).keys
    tls = {"certificate_file": "server.pem", "key_file": "server.key"}
    with_certificates = load_settings(None, {"auth": {"mtls": {"client_ca": "ca.pem"}}, "tls": tls}).auth
    assert with_certificates is not None
    assert with_certificates.mtls is not None
    issuer = load(oidc=[OIDC]).oidc[0]
    assert (issuer.username_claim, issuer.username_prefix, issuer.groups_claim) == ("sub", None, "groups")


@pytest.mark.parametrize(
    "url", ["https://a/keys", "http://localhost:8080/keys", "http://127.0.0.1", "http://[::1]:1/k"]
)
def test_keys_come_by_a_way_that_nobody_can_change(url: str) -> None:
    assert load(oidc=[{**OIDC, "jwks_url": url}]).oidc[0].jwks_url == url


@pytest.mark.parametrize(
    ("auth", "text"),
    [
        ({"keys": False}, "expected keys: true"),
        ({"dry_run": True}, "expected keys: true"),
        ({"oidc": [{**OIDC, "jwks_url": None}]}, "jwks_file or jwks_url"),
        ({"oidc": [{**OIDC, "jwks_file": "f"}]}, "jwks_file or jwks_url"),
        ({"oidc": [{**OIDC, "issuer": ""}]}, "issuer"),
        ({"oidc": [OIDC, OIDC]}, "given twice"),
        ({"oidc": [{**OIDC, "jwks_url": "http://example.com/keys"}]}, "jwks_url"),
        ({"oidc": [{**OIDC, "jwks_url": "https://user:pass@a/keys"}]}, "jwks_url"),
        ({"oidc": [{**OIDC, "jwks_url": "http://localhost.evil.example/keys"}]}, "jwks_url"),
        ({"keys": True, "bindings": [{"role": "viewer"}]}, "caller or group"),
        ({"keys": True, "bindings": [{"role": "viewer", "caller": "a", "group": "b"}]}, "caller or group"),
        ({"keys": True, "bindings": [{"role": "root", "caller": "a"}]}, "role"),
        ({"keys": True, "bindings": [{"role": "viewer", "caller": "a", "models": ["a*b"]}]}, "models"),
        ({"keys": True, "bindings": [{"role": "viewer", "caller": "a", "models": []}]}, "models"),
        ({"keys": True, "secret": "x"}, "secret is not a setting"),
    ],
)
def test_what_cannot_work_is_refused(auth: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigFault, match=text):
        load(**auth)
