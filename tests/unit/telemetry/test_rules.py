"""Rules name metrics that exist, escape what policies contain, and refuse what a histogram cannot count."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.config.documents import written_with_blocks
from penstock.core.buckets import LATENCY_EDGES_NS
from penstock.core.errors import Refused
from penstock.core.labels import GRPC_STATUS, HTTP_STATUS
from penstock.core.objectives import SERVER_FAILURES
from penstock.monitor import performance
from penstock.telemetry.promql import quote, select_name
from penstock.telemetry.rules.counted import ANSWER_CODES, FAILURE_CODES
from penstock.telemetry.rules.objectives import BURNS, latency_edge_ns, objective_groups
from penstock.telemetry.rules.rule import Alert, Links, Recording, Severity, rules_document
from penstock.telemetry.rules.rules import fleet_groups, model_groups
from penstock.telemetry.rules.trigger_alerts import RATIOS, trigger_alerts
from tests.unit.telemetry.expressions import POLICY, faults_of, groups, recorded_names, selectors_in

RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks" / "alerts.md"
ALERTS = [rule for group in groups() for rule in group.rules if isinstance(rule, Alert)]
RECORDINGS = [rule for group in groups() for rule in group.rules if isinstance(rule, Recording)]


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDINGS], ids=lambda rule: rule.name)
def test_metrics_and_labels_exist(rule: Alert | Recording) -> None:
    assert faults_of(rule.expression, recorded_names()) == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name} {alert.severity}")
def test_every_alert_says_what_it_is_and_where_to_look(alert: Alert) -> None:
    assert re.fullmatch(r"Penstock[A-Z][A-Za-z]+", alert.name)
    assert alert.summary and not alert.summary.endswith(".")
    assert alert.description.endswith(".")
    used = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description + alert.page))
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", alert.expression))))
    assert used <= grouped | {"job", "instance"} | ({"model"} if "slo_errors" in alert.expression else set())


def test_every_alert_has_a_section_in_the_runbook_and_no_other_has() -> None:
    sections = re.findall(r"^### (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted({alert.name for alert in ALERTS})
    assert Links(runbooks="https://a.example/x.html").runbook("PenstockDown") == "https://a.example/x.html#penstockdown"


def test_alerts_have_names_of_their_own() -> None:
    names = [(alert.name, alert.severity) for alert in ALERTS]
    assert len(names) == len(set(names))


def test_few_alerts_page_somebody() -> None:
    pages = {alert.name for alert in ALERTS if alert.severity is Severity.PAGE}
    assert pages == {"PenstockDown", "PenstockErrorBudgetBurn", "PenstockLatencyBudgetBurn", "PenstockJointRunMismatch"}


def test_every_window_of_an_alert_is_recorded() -> None:
    for alert in ALERTS:
        for name, _, _ in selectors_in(alert.expression):
            assert ":" not in name or name in recorded_names()


def test_factors_use_up_their_share_of_thirty_days() -> None:
    hours = {"1h": 1, "6h": 6, "1d": 24, "3d": 72}
    for burns in BURNS.values():
        for burn in burns:
            assert burn.factor == pytest.approx(float(burn.share.split()[0]) / 100 * 30 * 24 / hours[burn.long])


def test_codes_count_as_the_gateways_own_objectives_do() -> None:
    for outcome in HTTP_STATUS:
        codes = {str(HTTP_STATUS[outcome]), GRPC_STATUS[outcome]}
        if outcome in SERVER_FAILURES:
            assert codes <= FAILURE_CODES
        elif outcome == "ok":
            assert codes == ANSWER_CODES
        else:  # a message over the limit has the code of an overload in gRPC
            assert codes & (FAILURE_CODES | ANSWER_CODES) <= {"RESOURCE_EXHAUSTED"}


@pytest.mark.parametrize("edge", LATENCY_EDGES_NS)
def test_a_limit_at_an_edge_is_taken(edge: int) -> None:
    assert latency_edge_ns(edge / 1e6) == edge
    assert latency_edge_ns(float(f"{edge / 1e6:.4g}")) == edge


def test_a_limit_between_edges_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match=r"is 20, .* the nearest are 18\.1 and 25\.6 ms"):
        latency_edge_ns(20)
    assert latency_edge_ns(20, round_down=True) == 18_101_934
    with pytest.raises(Refused, match=r"the nearest is 3\.7\d+e\+04 ms"):
        latency_edge_ns(100_000)
    assert latency_edge_ns(100_000, round_down=True) == LATENCY_EDGES_NS[-1]
    with pytest.raises(Refused, match=r"the nearest is 0\.025 ms: set it in"):
        latency_edge_ns(0.001, round_down=True)  # no edge is smaller


def test_every_model_that_cannot_have_rules_is_named() -> None:
    with pytest.raises(Refused, match=r"a: .*is 20.*; b: .*is 30"):
        model_groups(
            {
                "a": {"slo": {"latency_p99_ms": 20}},
                "b": {"slo": {"latency_p99_ms": 30}},
                "c": {"slo": {"error_ratio": 0.1}},
            }
        )


def test_no_objective_has_no_rules() -> None:
    assert objective_groups("m", {}) == []


def test_what_cannot_burn_so_fast_has_no_alert() -> None:
    """14.4 times a budget of 10 % is more than all requests."""
    alerts = {
        rule.severity: rule
        for group in objective_groups("m", {"error_ratio": 0.1})
        for rule in group.rules
        if isinstance(rule, Alert)
    }
    assert "ratio_rate5m" not in alerts[Severity.PAGE].expression
    assert "ratio_rate30m" in alerts[Severity.PAGE].expression
    assert "5 % in 6h of" in alerts[Severity.PAGE].description
    loose = [rule for group in objective_groups("m", {"error_ratio": 0.5}) for rule in group.rules]
    assert [rule.severity for rule in loose if isinstance(rule, Alert)] == [Severity.TICKET]


HOSTILE = st.text(max_size=40) | st.sampled_from(
    [
        'a"} or vector(1) #',
        "a\\",
        "{{ $labels.x }}",
        "a\nb: c",
        "'",
        "$window",
        "\x7f\x00\x85\u2028",
        "%",
        "*x",
        "- a: b",
    ]
)


@settings(max_examples=10)
@given(HOSTILE)
@example('{{ $labels.x }}\n"} or vector(1) #')
def test_hostile_names_stay_values(name: str) -> None:
    """In YAML, in PromQL and in JSON; names of models cannot be such, yet nothing depends on that."""
    found = model_groups({name: POLICY})
    document = rules_document(found, Links())
    read: dict[str, Any] = yaml.load(written_with_blocks(document), yaml.CSafeLoader)
    assert read == document
    assert json.loads(json.dumps(document)) == document
    for group in read["groups"]:
        for rule in group["rules"]:
            for series, matchers, _ in selectors_in(rule["expr"]):
                assert series.startswith("penstock"), "the name has ended its quotes"
                assert unquoted(matchers["model"][1]) == name
            assert name == rule["labels"].get("model", name)
            assert "annotations" not in rule or len(name) < 3 or name not in rule["annotations"]["summary"]


def unquoted(text: str) -> str:
    value: str = json.loads(f'"{text}"')
    return value


@settings(max_examples=60)
@given(HOSTILE)
def test_a_quoted_text_is_one_string(text: str) -> None:
    quoted = quote(text)
    assert json.loads(quoted) == text.encode("utf-8", "replace").decode()
    assert "\n" not in quoted and "\x7f" not in quoted
    assert [name for name, _, _ in selectors_in(select_name("penstock_x", f"model={quoted}"))] == ["penstock_x"]


def test_rules_without_a_policy_need_none() -> None:
    names = {name for group in fleet_groups() for rule in group.rules for name, _, _ in selectors_in(rule.expression)}
    assert not [name for name in names if ":slo_" in name]


def test_rules_of_a_policy_have_alerts_where_one_condition_is_enough() -> None:
    below = {"performance": {"metric": "accuracy", "below": 0.9, "min_labels": 200}}
    missing = {"quality": {"missing_ratio_above": 0.02}}
    triggers = [
        {"name": "a", "when": {"any": [below, {"concept": {}}, missing]}},
        {"name": "the same", "when": below},
        {"name": "b", "when": {"performance": {"metric": "rmse", "above": 3}}},
        {"name": "not alone", "when": {"all": [{"performance": {"metric": "f1", "below": 0.5}}, {"drift": {}}]}},
        {"name": "negated", "when": {"not": {"quality": {"unseen_ratio_above": 0.5}}}},
        {"name": "estimated", "when": {"performance": {"metric": "accuracy", "below": 0.8, "source": "estimated"}}},
        {"name": "fallen", "when": {"performance": {"metric": "accuracy", "fallen_by": 0.1}}},
        {"name": "weekly", "when": {"schedule": "@weekly"}},
    ]
    found = trigger_alerts("m", triggers)
    assert [alert.name for alert in found] == ["PenstockPerformance"] * 2 + ["PenstockDataQualityLimit"]
    accuracy, rmse, quality = found
    assert 'penstock_performance_ratio{model="m",metric="accuracy"}) < 0.9' in accuracy.expression
    assert ">= 200" in accuracy.expression
    assert 'penstock_performance_value{model="m",metric="rmse"}) > 3' in rmse.expression
    assert "> 0.02" in quality.expression and 'kind="missing"' in quality.expression


def test_no_two_rules_of_policies_have_the_same_name_and_labels() -> None:
    """Prometheus' own check demands it, and Alertmanager takes alerts with the same labels for one."""
    limits = [{"performance": {"metric": "rmse", word: 2.0 + word.count("e")}} for word in ("above", "below")]
    limits += [{"quality": {"missing_ratio_above": share}} for share in (0.02, 0.05)]
    limits += [{"performance": {"metric": "rmse", "above": 2.0, "min_labels": least}} for least in (500, 100, 200)]
    limits += [{"quality": {"missing_ratio_above": 0.02, "min_rows": 5000}}]
    policy = {**POLICY, "triggers": [{"name": str(limit), "when": limit} for limit in limits]}
    found = rules_document(model_groups(dict.fromkeys(("a.b", "a_b", "a-b"), policy)), Links())
    rules = [rule for group in found["groups"] for rule in group["rules"]]
    keys = [(rule.get("alert", rule.get("record")), *sorted(rule["labels"].items())) for rule in rules]
    assert len(set(keys)) == len(keys) > 3 * len(limits)


def test_an_alert_of_several_rules_waits_for_the_least() -> None:
    leaves = [{"performance": {"metric": "rmse", "above": 2.0, "min_labels": least}} for least in (500, 100, 200)]
    (alert,) = trigger_alerts("m", [{"when": leaf} for leaf in leaves])
    assert ">= 100\n" in alert.expression


def test_ratios_are_those_of_the_monitor() -> None:
    assert performance.RATIOS == RATIOS
