"""Policies as text: plain values with their lines, and nothing that could make a small text large."""

import pytest

from penstock.config.policy_texts import DEEPEST, MOST_CHARACTERS, MOST_VALUES, read_policy_text
from penstock.core.policy_faults import UnreadableText

TEXT = """\
# what to watch
monitor:
  sample: 1.0
  slices: [country]
slo: {error_ratio: 1e-3}
triggers:
  - name: weekly
    when: {schedule: "0 3 * * 1"}
    dry_run: true
    until:
"""


def test_values_and_their_lines() -> None:
    found = read_policy_text(TEXT)
    assert found.document == {
        "monitor": {"sample": 1.0, "slices": ["country"]},
        "slo": {"error_ratio": "1e-3"},  # YAML 1.1 needs a point in a number with an exponent
        "triggers": [{"name": "weekly", "when": {"schedule": "0 3 * * 1"}, "dry_run": True, "until": None}],
    }
    lines = {"": 2, "monitor": 2, "monitor.slices[0]": 4, "triggers[0]": 7, "triggers[0].when.schedule": 8}
    assert {path: found.lines[path] for path in lines} == lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("---\n", {}),
        ("~", {}),
        ('{"a": [1, -2, 0.5, null, true, "x"]}', {"a": [1, -2, 0.5, None, True, "x"]}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("1: 'on'", {"1": "on"}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
    ],
)
def test_plain_values_are_read(text: str, expected: object) -> None:
    assert read_policy_text(text).document == expected


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases", 1),
        ("b: *x", "anchors and aliases", 1),
        ("a:\n  b: !!python/object/apply:os.system [true]", "tags are not supported", 2),
        ('a: ! "7"', "tags are not supported", 1),
        ("a: !!binary aGk=", "tags are not supported", 1),
        ("!!set a: 1", "tags are not supported", 1),
        ("a: 1\nb: 2\na: 3", "key 'a' is repeated", 3),
        ("a:\n  ? [1, 2]\n  : 3", "a key must be a plain text", 2),
        ("- a", "not a mapping", 1),
        ("hello", "not a mapping", 1),
        ("a: 1\n---\nb: 2", "more than one document", 2),
        ("a: .inf", "must be finite", 1),
        ("a: 1\nb: [1, 2", "not valid YAML", 2),
        ("a: 'x\n", "not valid YAML", 2),
        ("a: \x00", "not valid YAML", None),
        ("a: 1\nb: 0b2", None, None),
        ("x" * (MOST_CHARACTERS + 1), "longer than", None),
        ("a: " + "[" * (DEEPEST + 2), "nested more than", 1),
        ("a: [" + "1, " * MOST_VALUES + "1]", "more than", 1),
    ],
)
def test_what_is_refused_and_where(text: str, message: str | None, line: int | None) -> None:
    if message is None:
        assert read_policy_text(text).document == {"a": 1, "b": "0b2"}
        return
    with pytest.raises(UnreadableText, match=message) as caught:
        read_policy_text(text)
    assert caught.value.fault.line == line
    assert str(caught.value) == caught.value.fault.message


def test_no_part_of_a_broken_text_is_in_its_fault() -> None:
    with pytest.raises(UnreadableText) as caught:
        read_policy_text("secret: 'PLANTED-SECRET\nb: 1")
    assert "PLANTED" not in str(caught.value)
