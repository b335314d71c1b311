"""promtool runs every alert on series in which it fires, and on series in which it stays quiet."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from penstock.config.documents import written_with_blocks
from penstock.telemetry.rules.rule import Alert, Group, Links, Rule, rules_document
from penstock.telemetry.rules.rules import fleet_groups, model_groups
from tests.integration.operations.alert_cases import CASES, POLICY_CASES, Case, Series
from tests.integration.operations.burn_cases import BURNS

DEPLOY = Path(__file__).parents[3] / "deploy" / "prometheus"
OBJECTIVES = {"iris": {"slo": {"error_ratio": 0.001, "latency_p99_ms": 25.6}}}
TRIGGERS = {
    "iris": {
        "triggers": [
            {"name": "worse", "when": {"performance": {"metric": "accuracy", "below": 0.9, "min_labels": 200}}},
            {"name": "broken", "when": {"quality": {"missing_ratio_above": 0.02}}},
        ]
    }
}

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
    """Run all cases in one process, each with the rules that its alert needs."""
    document = rules_document(groups, Links())
    files = []
    for number, case in enumerate(cases):
        rules, tests = folder / f"rules-{number}.yml", folder / f"tests-{number}.yml"
        rules.write_text(written_with_blocks(rules_document(needed(groups, case), Links())))
        trials = list(trials_of(case, document))
        tests.write_text(json.dumps({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": trials}))
        files.append(str(tests))
    done = subprocess.run(["promtool", "test", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def needed(groups: Sequence[Group], case: Case) -> Iterator[Group]:
    """The alert of a case and what it rests on; windows of hours are recorded as rarely as the cases allow."""
    for group in groups:
        rules = [rule for rule in group.rules if is_needed(rule, groups, case)]
        yield Group(group.name, rules, "4m" if group.name.endswith("-slow") else "1m")


def is_needed(rule: Rule, groups: Sequence[Group], case: Case) -> bool:
    if isinstance(rule, Alert):
        return (rule.name, rule.severity) == (case.alert, case.severity)
    expressions = [item.expression for group in groups for item in group.rules if is_alert_of(item, case)]
    return any(f"{rule.name}{{" in text and rule.labels.get("slo", "") in text for text in expressions)


def is_alert_of(rule: Rule, case: Case) -> bool:
    return isinstance(rule, Alert) and is_needed(rule, (), case)


def test_every_alert_fires_and_does_not_fire_without_cause(tmp_path: Path) -> None:
    groups = fleet_groups()
    assert {case.alert for case in CASES} == names_of(groups)
    assert all(case.quiet for case in CASES)
    promtool(tmp_path, groups, CASES)


def names_of(groups: Sequence[Group]) -> set[str]:
    return {rule["alert"] for rule in alerts_in(rules_document(groups, Links()))}


def test_burn_rate_alerts_fire_and_do_not_fire_without_cause(tmp_path: Path) -> None:
    groups = model_groups(OBJECTIVES)
    of_each = {(case.alert, case.severity) for case in BURNS}
    assert of_each == {(name, severity) for name in names_of(groups) for severity in ("page", "ticket")}
    promtool(tmp_path, groups, BURNS)


def test_alerts_of_a_policy_fire_and_do_not_fire_without_cause(tmp_path: Path) -> None:
    groups = model_groups(TRIGGERS)
    assert {case.alert for case in POLICY_CASES} == names_of(groups)
    promtool(tmp_path, groups, POLICY_CASES)


def test_the_configuration_in_deploy_is_sound() -> None:
    for tool, file in (("promtool", "prometheus.yml"), ("amtool", "alertmanager.yml")):
        verb = ["check", "config"] if tool == "promtool" else ["check-config"]
        done = subprocess.run([tool, *verb, str(DEPLOY / file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
