"""API keys as JSON: what a request may state, and what is shown."""

import pytest

from penstock.core.access.table import KeyRecord, Quota
from penstock.core.errors import InvalidInput
from penstock.registry.key_documents import (
    DAY_S,
    OVERLAP_S,
    key_document,
    parse_lifetime,
    parse_new_key,
    parse_overlap,
    parse_quota,
)
from penstock.registry.records import Document
from penstock.registry.stores.keys import StoredKey

NOW = 1_800_000_000.0


def test_a_request_becomes_a_record_without_id_and_digest() -> None:
    wanted = {"name": "bot", "roles": ["caller"], "models": ["a", "a"], "expires_days": 2, "quota": {"rows": 5}}
    assert parse_new_key(wanted, NOW) == KeyRecord("", "bot", "", ("caller",), ("a",), NOW + 2 * DAY_S, Quota(rows=5.0))
    assert parse_new_key({"name": "bot", "roles": ["caller"]}, NOW) == KeyRecord("", "bot", "", ("caller",))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": None}, "'name'"),
        ({"name": "a b"}, "name"),
        ({"roles": "caller"}, "'roles'"),
        ({"roles": [1]}, "'roles'"),
        ({"roles": ["root"]}, "role"),
        ({"models": ["a b"]}, "models"),
        ({"expires_days": 0}, "expires_days"),
        ({"expires_days": "1"}, "expires_days"),
        ({"expires_days": True}, "expires_days"),
        ({"expires_days": 36_501}, "expires_days"),
        ({"quota": []}, "quota"),
        ({"quota": {"speed": 1}}, "'speed'"),
        ({"quota": {"rows": float("nan")}}, "quota.rows"),
        ({"quota": {"concurrent": 1.5}}, "quota.concurrent"),
        ({"quota": {"rows": -1}}, "quota"),
    ],
)
def test_what_cannot_be_is_refused(change: Document, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        parse_new_key({"name": "bot", "roles": ["caller"], **change}, NOW)


def test_an_overlap_is_a_day_unless_stated() -> None:
    assert parse_overlap({}) == OVERLAP_S
    assert parse_overlap({"overlap_seconds": 0}) == 0
    for bad in (-1, 366 * DAY_S, "1"):
        with pytest.raises(InvalidInput, match="overlap_seconds"):
            parse_overlap({"overlap_seconds": bad})
    assert parse_lifetime({}) is None


def test_a_key_is_shown_without_its_digest() -> None:
    record = KeyRecord("id", "bot", "digest", ("caller",), ("a*",), NOW + 5, Quota(requests=10.0, concurrent=2))
    key = StoredKey(record, NOW, "ann")
    shown = key_document(key, NOW)
    assert "digest" not in shown and "digest" not in str(shown.values())
    assert (shown["state"], shown["quota"]) == ("valid", {"requests": 10.0, "concurrent": 2})
    assert shown["expires_at"] == "2027-01-15T08:00:05.000+00:00" and shown["revoked_at"] is None
    assert key_document(key, NOW + 5)["state"] == "expired"
    assert key_document(StoredKey(record, NOW, "ann", NOW), NOW)["state"] == "revoked"
    assert parse_quota(shown["quota"]) == record.quota
