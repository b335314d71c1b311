"""`penstock policy check`: a policy is taken or refused whole, every fault with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Result

FAULTY = """\
monitor:
  sample: 2
triggers:
  - name: a
    when: {drift: {scope: nowhere}}
    send: [nobody]
  - name: b
    when:
      performance:
        metric: accuracy
sinks:
  hook: {webhook: {url: "ftp://x"}}
moon: 1
"""


def test_every_fault_has_its_line(penstock: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(FAULTY)
    result = penstock("policy", "check", str(file))
    assert result.code == 2
    for line, word in (
        (2, "monitor.sample"),
        (5, "triggers[0].when.drift.scope"),
        (6, "'nobody'"),
        (9, "needs below, above or fallen_by"),
        (12, "sinks.hook.webhook.url"),
        (13, "'moon'"),
    ):
        assert any(
            item.strip().removeprefix("penstock: ").startswith(f"line {line}: ") and word in item
            for item in result.err.split("; ")
        ), (line, word)


def test_a_rule_that_can_never_fire_has_its_line(penstock: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('triggers:\n  - name: a\n    when: {schedule: "@daily"}\n    for_seconds: 60\n')
    result = penstock("policy", "check", str(file))
    assert result.code == 2
    assert "line 4: 'triggers[0].for_seconds' is never reached" in result.err


@pytest.mark.parametrize("text", ["triggers: [", "- a\n- b\n", "\t:"])
def test_what_is_no_document_is_refused(penstock: Callable[..., Result], tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    assert penstock("policy", "check", str(file)).code == 2


def test_the_policy_of_the_manual_is_one(penstock: Callable[..., Result], tmp_path: Path) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "reference" / "policy.md").read_text()
    file = tmp_path / "policy.yaml"
    file.write_text(manual.split("```yaml\n")[1].split("```")[0])
    result = penstock("policy", "check", str(file))
    assert result.code == 0, result.err
