"""Entries of the audit as fields of the Elastic Common Schema."""

from typing import Any

import pytest

from penstock.core.audit.ecs_fields import audit_fields, audit_message
from tests.ecs import check_field

ENTRY: dict[str, Any] = {
    "seq": 7,
    "at": "2026-11-30T10:00:00.123+00:00",
    "actor": "ann",
    "action": "route.set",
    "model": "m",
    "subject": "models/m/route",
    "reason": "a canary",
    "before": None,
    "after": {"split": {}},
    "method": "key",
    "key_id": "k1",
    "address": "127.0.0.1",
    "request_id": "r1",
    "on_behalf_of": "",
    "hash": "ab",
}


def test_an_entry_says_who_did_what_and_from_where() -> None:
    fields = audit_fields(ENTRY)
    for name, value in fields.items():
        if value != "":
            check_field(name, value)
    assert audit_message(ENTRY) == "ann route.set models/m/route"
    assert (fields["event.sequence"], fields["event.hash"], fields["user.name"]) == (7, "ab", "ann")
    assert fields["event.start"] == "2026-11-30T10:00:00.123Z"
    assert fields["source.ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("action", "category", "kind", "outcome"),
    [
        ("route.set", "configuration", "change", "success"),
        ("version.add", "configuration", "creation", "success"),
        ("version.retire", "configuration", "deletion", "success"),
        ("version.export", "configuration", "access", "success"),
        ("key.create", "iam", "creation", "success"),
        ("key.rotate", "iam", "change", "success"),
        ("access.refuse", "api", "denied", "failure"),
        ("gates.refuse", "api", "denied", "failure"),
    ],
)
def test_the_action_decides_category_type_and_outcome(action: str, category: str, kind: str, outcome: str) -> None:
    fields = audit_fields({**ENTRY, "action": action})
    assert (fields["event.category"], fields["event.type"], fields["event.outcome"]) == ([category], [kind], outcome)


@pytest.mark.parametrize(("address", "shown"), [("::1", "::1"), ("fe80::1%eth0", "fe80::1"), ("socket", ""), ("", "")])
def test_only_addresses_are_shown_as_such(address: str, shown: str) -> None:
    assert audit_fields({**ENTRY, "address": address})["source.ip"] == shown
