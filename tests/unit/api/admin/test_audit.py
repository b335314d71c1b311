"""The admin API of the audit: verification, keys, proofs, export and explanation."""

import pytest

from penstock.core.errors import NotReady
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import MemoryRegistrar


def test_an_audit_is_verified_with_given_checkpoints_and_keys(client: Client, registry_admin: MemoryRegistrar) -> None:
    assert client.admin("POST", "/audit/verify", {"checkpoints": "text", "keys": ["a", "b"]}).json()["ok"] is True
    assert client.admin("POST", "/audit/verify").status_code == 200
    assert registry_admin.auditing.calls == [("verify", "text", "a", "b"), ("verify", "")]


@pytest.mark.parametrize("body", [{"checkpoints": 1}, {"keys": "a"}, {"keys": [1]}, {"keys": ["a"] * 101}, {"x": 1}])
def test_a_wrong_request_to_verify_is_refused(client: Client, body: dict[str, object]) -> None:
    assert client.admin("POST", "/audit/verify", body).status_code == 400


def test_keys_checkpoints_and_proofs_are_read(client: Client) -> None:
    assert client.admin("GET", "/audit/keys").json() == {"keys": ["penstock/x+00000000+AQ=="]}
    assert client.admin("GET", "/audit/checkpoint").status_code == 404
    proof = client.admin("GET", "/audit/proofs/5")
    assert (proof.text, proof.headers["content-type"]) == ("index 4\n", "text/plain; charset=utf-8")
    for name in ("x", "-1", "9" * 19, "1.0"):
        assert client.admin("GET", f"/audit/proofs/{name}").status_code == 400


def test_an_export_says_who_makes_it_before_it_begins(client: Client, registry_admin: MemoryRegistrar) -> None:
    exported = client.admin("GET", "/audit/export", headers={"penstock-actor": "ann"})
    assert (exported.text, exported.headers["content-type"]) == ("{}\n{}\n", "application/x-ndjson")
    assert registry_admin.auditing.calls == [("export", "ann")]
    registry_admin.auditing.fault = NotReady("the database is away")
    assert client.admin("GET", "/audit/export").status_code == 503


def test_an_explanation_needs_a_time(client: Client) -> None:
    explained = client.admin("GET", "/models/m/explanation?at=2026-11-20T10:00:00Z")
    assert explained.json() == {"model": "m", "at": "2026-11-20T10:00:00Z"}
    assert client.admin("GET", "/models/m/explanation").status_code == 400
