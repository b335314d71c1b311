"""promtool runs every alert on series in which it fires, and on series in which it stays quiet."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from penstock.config.documents import written_with_blocks
from penstock.telemetry.rules.rule import Group, Links, rules_document
from penstock.telemetry.rules.rules import fleet_groups, model_groups
from tests.integration.operations.alert_cases import CASES, Case, Series
from tests.integration.operations.burn_cases import BURNS

DEPLOY = Path(__file__).parents[3] / "deploy" / "prometheus"
OBJECTIVES = {"iris": {"error_ratio": 0.001, "latency_p99_ms": 25.6}}

Document = dict[str, Any]


def alerts_in(document: Document) -> list[Document]:
    return [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]


def shown(template: str, case: Case) -> str:
    """What Prometheus makes of a template: labels and the value."""
    text = re.sub(r"\{\{ \$value[^}]*\}\}", case.value, template)
    text = re.sub(r"\{\{ \$labels\.(\w+) \| urlquery \}\}", lambda found: quote_plus(case.labels[found[1]]), text)
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], text)


def expected(case: Case, rules: Document) -> Document:
    rule = next(
        rule for rule in alerts_in(rules) if (rule["alert"], rule["labels"]["severity"]) == (case.alert, case.severity)
    )
    annotations = {name: shown(text, case) for name, text in rule["annotations"].items()}
    return {"exp_labels": {**case.labels, "severity": case.severity}, "exp_annotations": annotations}


def trials_of(case: Case, rules: Document) -> Iterator[Document]:
    yield tried(f"{case.alert} fires", case.alert, case.fires, case.at, [expected(case, rules)])
    for reason, (series, at) in case.quiet.items():
        yield tried(f"{case.alert}: {reason}", case.alert, series, at, [])


def tried(name: str, alert: str, series: Series, at: int, alerts: Sequence[Document]) -> Document:
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{at}m", "alertname": alert, "exp_alerts": list(alerts)}],
    }


def promtool(folder: Path, groups: Sequence[Group], cases: Sequence[Case]) -> None:
    """Run all cases in one process."""
    document = rules_document(groups, Links())
    (folder / "rules.yml").write_text(written_with_blocks(document))
    tests = [test for case in cases for test in trials_of(case, document)]
    (folder / "tests.yml").write_text(
        json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    command = ["promtool", "test", "rules", str(folder / "tests.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def only_alerts(groups: Sequence[Group]) -> list[Group]:
    """The groups of alerts: recording rules of fleets are of no use to them."""
    return [group for group in groups if group.name.endswith("-alerts")]


def test_every_alert_fires_and_stays_quiet(tmp_path: Path) -> None:
    groups = only_alerts(fleet_groups())
    assert {case.alert for case in CASES} == {rule["alert"] for rule in alerts_in(rules_document(groups, Links()))}
    assert all(case.quiet for case in CASES)
    promtool(tmp_path, groups, CASES)


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_burn_rates_fire_and_stay_quiet(tmp_path: Path, severity: str) -> None:
    groups = model_groups(OBJECTIVES)
    burns = [case for case in BURNS if case.severity == severity]
    assert {case.alert for case in burns} == {rule["alert"] for rule in alerts_in(rules_document(groups, Links()))}
    of_severity = [
        Group(
            group.name,
            [rule for rule in group.rules if getattr(rule, "severity", severity) == severity],
            "4m" if group.name.endswith("-slow") else "1m",  # as rarely as the cases allow
        )
        for group in groups
    ]
    promtool(tmp_path, of_severity, burns)


def test_the_configuration_in_deploy_is_sound() -> None:
    for tool, file in (("promtool", "prometheus.yml"), ("amtool", "alertmanager.yml")):
        verb = ["check", "config"] if tool == "promtool" else ["check-config"]
        done = subprocess.run([tool, *verb, str(DEPLOY / file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
