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
def test_a_text_that_is_not_a_document_is_refused(penstock: Callable[..., Result], tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    assert penstock("policy", "check", str(file)).code == 2


def test_the_policy_of_the_manual_is_one(penstock: Callable[..., Result], tmp_path: Path) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "reference" / "policy.md").read_text()
    file = tmp_path / "policy.yaml"
    file.write_text(manual.split("```yaml\n")[1].split("```")[0])
    result = penstock("policy", "check", str(file))
    assert result.code == 0, result.err


HOOK = "triggers: [{name: t, when: {drift: {}}, send: [hook]}]\n"


def test_sinks_and_secrets_of_the_configuration_are_known(
    penstock: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    file, config, key = tmp_path / "policy.yaml", tmp_path / "penstock.yaml", tmp_path / "key"
    file.write_text(HOOK)
    config.write_text(
        f'secrets: {{key: {{file: "{key}"}}}}\nsinks: {{hook: {{argo: {{url: "http://x", token: key}}}}}}\n'
    )
    refused = penstock("policy", "check", str(file))
    assert (refused.code, "of the configuration: 'hook'" in refused.err) == (2, True)
    assert penstock("policy", "check", str(file), "--config", str(config)).code == 0


@pytest.mark.parametrize(
    ("secret", "fault"),
    [("", "is empty"), ("8 bytes!", "too short"), ("x" * 24, ""), ("whsec_eHh4", "too short"), (None, "")],
)
@pytest.mark.parametrize("word", ["secret: key", "secret_file: key"])
def test_a_weak_secret_is_refused(
    penstock: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    secret: str | None,
    fault: str,
) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    file, config = tmp_path / "policy.yaml", tmp_path / "penstock.yaml"
    file.write_text(f'sinks:\n  hook: {{webhook: {{url: "http://x", {word}}}}}\n')
    config.write_text(f'secrets: {{key: {{file: "{tmp_path / "key"}"}}}}\n')
    if secret is not None:
        (tmp_path / "key").touch(0o600)
        (tmp_path / "key").write_text(secret)
    result = penstock("policy", "check", str(file), "--config", str(config))
    assert result.code == (2 if fault else 0), result.err
    assert fault in result.err
    assert not fault or "line 2: 'sinks.hook'" in result.err
    if secret:
        (tmp_path / "key").chmod(0o644)
        assert "chmod 600" in penstock("policy", "check", str(file), "--config", str(config)).err
