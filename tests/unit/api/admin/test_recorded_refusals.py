"""Refused requests to the ops port are recorded in the audit with the caller, the key, the address and the reason."""

from dataclasses import replace
from pathlib import Path

from penstock.core.access.refusals import Refusal
from tests.unit.api.admin.test_permissions import KEYS, TABLE, Guarded


class Recorder:
    """A recorder that keeps what it is given."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []

    def count_refusal(self, refusal: Refusal, count: int = 1) -> None:
        self.refusals += [refusal] * count


def test_refused_credentials_and_missing_permissions_are_recorded(tmp_path: Path) -> None:
    client, recorder = Guarded(tmp_path), Recorder()
    client.refusals.record_with(recorder)
    key, record = KEYS["viewer", "*"]
    assert client.get("/admin/v1/models").status_code == 401
    assert client.get("/admin/v1/models", {"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/admin/v1/models", {"authorization": f"Bearer {key}"}).status_code == 200
    assert client.get("/admin/v1/keys", {"authorization": f"Bearer {key}"}).status_code == 403
    assert client.get("/livez").status_code == 200
    found = [(item.action, item.actor, item.method, item.key_id, item.detail) for item in recorder.refusals]
    assert found == [
        ("auth.refuse", "anonymous", "anonymous", "", "no_credential"),
        ("auth.refuse", "anonymous", "anonymous", "", "malformed"),
        ("access.refuse", "viewer", "key", record.id, "'administer'"),
    ]
    assert {item.address for item in recorder.refusals} == {"127.0.0.1"}
    assert "wrong" not in str(recorder.refusals)


def test_a_dry_run_records_nothing(tmp_path: Path) -> None:
    client, recorder = Guarded(tmp_path, replace(TABLE, dry_run=True)), Recorder()
    client.refusals.record_with(recorder)
    assert client.get("/admin/v1/models").status_code == 200
    assert recorder.refusals == []
