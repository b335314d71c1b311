"""The registry compared with what the audit last stated."""

from typing import Any

import pytest

from penstock.core.audit.state_comparison import (
    TRIAL_FIELDS,
    VERSION_FIELDS,
    StateFinding,
    compare_state,
    digest_of_trial,
    digest_of_version,
)
from penstock.core.audit.statements import Statements, kind_of

NOW = 1000.0

ADD = {"digest": "sha256:a", "metadata": {}, "record": "sha256:r"}


def stated(*entries: tuple[str, str, Any]) -> Statements:
    statements = Statements()
    for seq, (action, subject, after) in enumerate(entries, 1):
        whole = subject if subject.startswith("keys/") else f"models/m/{subject}"
        before = after.pop("before", None) if isinstance(after, dict) else None
        entry = {"seq": seq, "actor": "ann", "action": action, "subject": whole, "before": before, "after": after}
        statements.add({**entry, "reason": "why"})
    return statements


def found_in(statements: Statements, present: dict[str, dict[str, Any]], now: float = NOW) -> list[StateFinding]:
    return compare_state(statements.by_subject, present, complete=True, now=now)


HISTORY = stated(
    ("version.add", "versions/1", ADD),
    ("version.refuse", "versions/1", {"digest": "sha256:bad", "reason": "no"}),
    ("version.add", "versions/2", ADD),
    ("version.retire", "versions/2", {"standing": "retired"}),
    ("version.add", "versions/3", ADD),
    ("version.forget", "versions/3", None),
    ("alias.move", "aliases/champion", {"version": "1"}),
    ("alias.drop", "aliases/old", None),
    ("route.set", "route", {"split": {"1": 10_000}}),
    ("model.load", "repository", {}),
    ("policy.set", "policy", {"slo": {}}),
    ("reference.set", "versions/1/reference", {"digest": "d", "source": "training"}),
)
PRESENT: dict[str, dict[str, Any]] = {
    "models/m/versions/1": {"digest": "sha256:a", "record": "sha256:r", "standing": "admitted"},
    "models/m/versions/2": {"digest": "sha256:a", "record": "sha256:r", "standing": "retired"},
    "models/m/aliases/champion": {"version": "1"},
    "models/m/route": {"split": {"1": 10_000}},
    "models/m/policy": {"slo": {}},
    "models/m/versions/1/reference": {"digest": "d", "source": "training"},
}


def test_a_registry_that_is_as_stated_has_no_findings() -> None:
    assert found_in(HISTORY, PRESENT) == []


@pytest.mark.parametrize("subject", PRESENT)
def test_every_changed_part_is_found(subject: str) -> None:
    for name in PRESENT[subject]:
        present = {**PRESENT, subject: {**PRESENT[subject], name: "other"}}
        [finding] = found_in(HISTORY, present)
        assert (finding.subject, finding.model) == (subject, "m")
        assert finding.problem == f"it is not what the audit states: {name}"
    gone = {name: value for name, value in PRESENT.items() if name != subject}
    [finding] = found_in(HISTORY, gone)
    assert "does not have it" in finding.problem


@pytest.mark.parametrize("subject", ["models/m/versions/9", "models/m/aliases/old", "models/m/versions/3"])
def test_what_nobody_stated_is_found(subject: str) -> None:
    present = {**PRESENT, subject: {"version": "1"}}
    [finding] = found_in(HISTORY, present)
    assert "does not state it" in finding.problem
    forgotten = subject not in HISTORY.by_subject
    assert len(compare_state(HISTORY.by_subject, present, complete=False, now=NOW)) == (not forgotten)


def test_an_older_entry_states_the_digest_alone() -> None:
    older = stated(("version.add", "versions/1", {"digest": "sha256:a", "metadata": {}}))
    present = {"models/m/versions/1": PRESENT["models/m/versions/1"]}
    assert found_in(older, present) == []
    forgotten = stated(("version.retire", "versions/1", {"standing": "retired"}))  # the first is in a dropped archive
    [finding] = compare_state(forgotten.by_subject, present, complete=False, now=NOW)
    assert finding.problem.endswith("standing")


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("models/m/settings", "settings"),
        ("models/m/rollouts/1", "rollouts"),
        ("models/m/versions/1/signatures", "signatures"),
        ("models/m/versions/1/signature", ""),
        ("keys/1", "keys"),
        ("models/m/repository", ""),
        ("access", ""),
    ],
)
def test_some_subjects_have_a_state(subject: str, kind: str) -> None:
    assert kind_of(subject) == kind


def test_only_changes_of_a_version_state_what_it_is() -> None:
    entries = [("version.add", "versions/1", ADD), ("version.retire", "versions/1", {"standing": "retired"})]
    exported = stated(*entries, ("version.export", "versions/1", {"digest": "sha256:a"}))
    present = {"models/m/versions/1": {"digest": "sha256:a", "record": "sha256:r", "standing": "admitted"}}
    [finding] = found_in(exported, present)
    assert finding.problem.endswith("standing")


SIGNATURE, APPROVAL = "models/m/versions/1/signatures/sha256:s", "models/m/versions/1/approvals/ann"
SIGNED = ("signature.add", "versions/1/signatures", {"digest": "sha256:s", "signers": ["ci"], "record": "r"})
APPROVED = ("version.approve", "versions/1", {"digest": "sha256:a", "approvals": 1, "record": "r"})
PARTS: dict[str, dict[str, Any]] = {
    SIGNATURE: {"digest": "sha256:s", "signers": ["ci"], "record": "r"},
    APPROVAL: {"digest": "sha256:a", "reason": "why", "record": "r"},
}


def test_each_signature_and_approval_has_a_statement() -> None:
    other = ("signature.add", "versions/1/signatures", {"digest": "sha256:t", "signers": [], "record": "r"})
    statements = stated(SIGNED, other, ("signature.refuse", "versions/1/signatures", {"reason": "no"}), APPROVED)
    second = {"models/m/versions/1/signatures/sha256:t": {"digest": "sha256:t", "signers": [], "record": "r"}}
    assert found_in(statements, {**PARTS, **second}) == []
    assert [item.subject for item in found_in(statements, second)] == [APPROVAL, SIGNATURE]
    for subject, value in PARTS.items():
        for name in value:
            assert [
                item.subject for item in found_in(statements, {**PARTS, **second, subject: {**value, name: "x"}})
            ] == [subject]
    forgotten = ("signature.forget", "versions/1/signatures", {"before": {"digest": "sha256:t"}})
    [finding] = found_in(stated(SIGNED, other, APPROVED, forgotten), {**PARTS, **second})
    assert "does not state it" in finding.problem


def test_signatures_and_approvals_may_go_after_their_version() -> None:
    gone = stated(("version.add", "versions/1", ADD), SIGNED, APPROVED, ("version.forget", "versions/1", None))
    assert found_in(gone, PARTS) == found_in(gone, {}) == []
    older = stated(("signature.add", "versions/1/signatures", {"digest": "sha256:s", "signers": ["ci"]}))
    assert found_in(older, {}) == []
    assert found_in(older, {SIGNATURE: {**PARTS[SIGNATURE], "signers": []}}) != []


KEY: dict[str, Any] = {"name": "bot", "roles": ["caller"], "models": ["*"], "expires_at": None, "record": "r"}
ROW: dict[str, Any] = {**KEY, "revoked": False}


def test_a_key_is_as_stated_until_it_ends() -> None:
    created = stated(("key.create", "keys/1", KEY))
    assert found_in(created, {"keys/1": ROW}) == []
    for name in ("expires_at", "record", "revoked"):
        [finding] = found_in(created, {"keys/1": {**ROW, name: "other"}})
        assert (finding.model, finding.subject, finding.problem.rpartition(" ")[2]) == ("", "keys/1", name)
    assert len(found_in(created, {})) == 1
    revoked = stated(("key.create", "keys/1", KEY), ("key.revoke", "keys/1", None))
    assert found_in(revoked, {"keys/1": {**ROW, "revoked": True}}) == found_in(revoked, {}) == []
    assert len(found_in(revoked, {"keys/1": ROW})) == 1
    ended = stated(("key.create", "keys/1", KEY), ("key.expire", "keys/1", {"expires_at": NOW}))
    assert found_in(ended, {"keys/1": {**ROW, "expires_at": NOW}}) == found_in(ended, {}) == []
    assert len(found_in(ended, {}, now=NOW - 1)) == len(found_in(ended, {"keys/1": ROW})) == 1


def test_an_older_rotation_leaves_open_when_the_key_before_ends() -> None:
    older = {name: value for name, value in KEY.items() if name != "record"}
    rotated = ("key.rotate", "keys/2", {**older, "before": {"keys": ["1"], "overlap_seconds": 60.0}})
    statements = stated(("key.create", "keys/1", older), rotated)
    assert found_in(statements, {"keys/1": {**ROW, "expires_at": 3.0}, "keys/2": ROW}) == []
    assert found_in(statements, {"keys/2": ROW}) == []
    assert len(found_in(statements, {"keys/1": {**ROW, "roles": ["admin"]}, "keys/2": ROW})) == 1
    newer = stated(("key.create", "keys/1", KEY), ("key.rotate", "keys/2", {**KEY, "before": {"keys": ["1"]}}))
    assert len(found_in(newer, {"keys/1": {**ROW, "expires_at": 3.0}, "keys/2": ROW})) == 1


def test_a_trial_is_as_stated_until_it_is_closed() -> None:
    begun = ("rollout.start", "rollouts/7", {"state": "running", "open": True, "record": "r"})
    subject, row = "models/m/rollouts/7", {"open": True, "record": "r"}
    assert found_in(stated(begun), {subject: row}) == []
    assert len(found_in(stated(begun), {subject: {**row, "record": "s"}})) == len(found_in(stated(begun), {})) == 1
    ended = stated(begun, ("rollout.abort", "rollouts/7", {"open": False, "record": "s"}))
    assert found_in(ended, {}) == found_in(ended, {subject: {"open": False, "record": "s"}}) == []
    assert len(found_in(ended, {subject: row})) == 1


def test_the_digest_of_a_trial_covers_its_specification_alone() -> None:
    row: dict[str, Any] = {**dict.fromkeys(TRIAL_FIELDS, "x"), "kind": "rollout"}
    digest = digest_of_trial({**row, "document": {"rollout": {"spec": 1, "step": 1}}})
    assert digest == digest_of_trial({**row, "document": {"rollout": {"spec": 1, "step": 2}}, "revision": 3})
    assert digest != digest_of_trial({**row, "document": {"rollout": {"spec": 2, "step": 1}}})
    assert digest != digest_of_trial({**row, "document": {}})


def test_a_version_keeps_its_digest_when_it_is_retired_or_gets_another_column() -> None:
    row: dict[str, Any] = dict.fromkeys(VERSION_FIELDS, "x")
    assert digest_of_version(row) == digest_of_version({**row, "standing": "retired", "retired_at": 1.0, "new": 1})
    for name in VERSION_FIELDS:
        assert digest_of_version({**row, name: "other"}) != digest_of_version(row)
