"""The registry compared with what the audit last stated."""

from typing import Any

import pytest

from penstock.core.audit.statements import VERSION_FIELDS, Statements, compare_state, digest_of_version, is_stated

ADD = {"digest": "sha256:a", "metadata": {}, "record": "sha256:r"}


def stated(*entries: tuple[str, str, Any]) -> Statements:
    statements = Statements()
    for seq, (action, subject, after) in enumerate(entries, 1):
        statements.add({"seq": seq, "action": action, "subject": f"models/m/{subject}", "after": after})
    return statements


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
    ("rollout.start", "rollouts/7", {"state": "running"}),
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
    assert compare_state(HISTORY.by_subject, PRESENT, complete=True) == []


@pytest.mark.parametrize("subject", PRESENT)
def test_every_changed_part_is_found(subject: str) -> None:
    for name in PRESENT[subject]:
        present = {**PRESENT, subject: {**PRESENT[subject], name: "other"}}
        [finding] = compare_state(HISTORY.by_subject, present, complete=True)
        assert (finding.subject, finding.model) == (subject, "m")
        assert finding.problem == f"it is not what the audit states: {name}"
    gone = {name: value for name, value in PRESENT.items() if name != subject}
    [finding] = compare_state(HISTORY.by_subject, gone, complete=True)
    assert "does not have it" in finding.problem


@pytest.mark.parametrize("subject", ["models/m/versions/9", "models/m/aliases/old", "models/m/versions/3"])
def test_what_nobody_stated_is_found(subject: str) -> None:
    present = {**PRESENT, subject: {"version": "1"}}
    [finding] = compare_state(HISTORY.by_subject, present, complete=True)
    assert "does not state it" in finding.problem
    forgotten = subject not in HISTORY.by_subject
    assert len(compare_state(HISTORY.by_subject, present, complete=False)) == (not forgotten)


def test_an_older_entry_states_the_digest_alone() -> None:
    older = stated(("version.add", "versions/1", {"digest": "sha256:a", "metadata": {}}))
    present = {"models/m/versions/1": PRESENT["models/m/versions/1"]}
    assert compare_state(older.by_subject, present, complete=True) == []
    forgotten = stated(("version.retire", "versions/1", {"standing": "retired"}))  # the first is in a dropped archive
    [finding] = compare_state(forgotten.by_subject, present, complete=False)
    assert finding.problem.endswith("standing")


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("models/m/settings", True),
        ("models/m/rollouts/1", False),
        ("models/m/versions/1/signature", False),
        ("keys/1", False),
        ("models/m/repository", False),
    ],
)
def test_some_subjects_have_a_state(subject: str, expected: bool) -> None:
    assert is_stated(subject) is expected


def test_a_version_keeps_its_digest_when_it_is_retired_or_gets_another_column() -> None:
    row: dict[str, Any] = dict.fromkeys(VERSION_FIELDS, "x")
    assert digest_of_version(row) == digest_of_version({**row, "standing": "retired", "retired_at": 1.0, "new": 1})
    for name in VERSION_FIELDS:
        assert digest_of_version({**row, name: "other"}) != digest_of_version(row)
