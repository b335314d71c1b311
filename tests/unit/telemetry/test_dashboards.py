"""The rules of Grafana's dashboard-linter on every dashboard, and what ours add: metrics and labels exist."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.telemetry.dashboards.dashboards import DASHBOARDS, dashboard_files
from penstock.telemetry.dashboards.document import dashboard_document
from penstock.telemetry.metric import Metric, MetricType
from penstock.telemetry.metrics import METRICS
from penstock.telemetry.rules.rule import Recording
from tests.unit.telemetry.expressions import faults_of, groups, recorded_names, selectors_in

CONSOLE = "https://console.example"
DOCUMENTS = [dashboard_document(dashboard, CONSOLE) for dashboard in DASHBOARDS]
UNITS = {"short", "reqps", "ops", "s", "bytes", "Bps", "percentunit", "rowsps"}
"""Units of Grafana that the dashboards use."""

NOT_SHOWN = {
    "model_info": "the digest of each version is an identity, not a quantity; the console shows it",
    "lease_term": "a number that only comparisons with the log need; 'leader' is shown",
}
"""Metrics that no panel is about, with the reason."""

every_dashboard = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["uid"])

Document = dict[str, Any]


def panels(document: Document) -> list[Document]:
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def variables(document: Document) -> dict[str, Document]:
    return {variable["name"]: variable for variable in document["templating"]["list"]}


def expressions(document: Document) -> Iterator[str]:
    for panel in panels(document):
        yield from (target["expr"] for target in panel["targets"])


def test_there_are_four() -> None:
    assert [document["uid"] for document in DOCUMENTS] == [
        "penstock-fleet",
        "penstock-model",
        "penstock-rollout",
        "penstock-drift",
    ]
    for text in dashboard_files(CONSOLE).values():
        assert json.loads(text) in DOCUMENTS


def test_the_fleet_shows_few_lines_however_many_models_and_callers_there_are() -> None:
    targets = [target for panel in panels(DOCUMENTS[0]) for target in panel["targets"]]
    many = [target for target in targets if re.search(r"\{\{(model|caller|task)\}\}", target["legendFormat"])]
    assert len(many) > 8
    assert [target["expr"] for target in many if not target["expr"].startswith("topk(10, ")] == []


@every_dashboard
def test_the_data_source_is_a_variable(document: Document) -> None:
    sources = [variable for variable in document["templating"]["list"] if variable["type"] == "datasource"]
    assert [(item["name"], item["label"], item["query"]) for item in sources] == [
        ("datasource", "Data source", "prometheus")
    ]


@every_dashboard
@pytest.mark.parametrize("name", ["job", "instance"])
def test_jobs_and_instances_are_variables(document: Document, name: str) -> None:
    variable = variables(document)[name]
    assert variable["label"] == name
    assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert (variable["type"], variable["multi"], variable["allValue"]) == ("query", True, ".+")


@every_dashboard
def test_labels_are_reloaded_and_are_promql(document: Document) -> None:
    for variable in variables(document).values():
        if variable["type"] == "query":
            assert variable["refresh"] == 2  # on a change of the time
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert found and found[2] == variable["name"]
            assert faults_of(found[1], labels={found[2]}) == []


@every_dashboard
def test_panels_are_complete(document: Document) -> None:
    for panel in panels(document):
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        assert [target["datasource"]["uid"] for target in panel["targets"]] == ["${datasource}"] * len(panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@every_dashboard
def test_panels_have_numbers_and_places_of_their_own(document: Document) -> None:
    numbers = [panel["id"] for panel in document["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    places = [panel["gridPos"] for panel in document["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    covered = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(covered) == len(set(covered))


@every_dashboard
def test_queries_are_of_the_chosen_gateways(document: Document) -> None:
    for expression in expressions(document):
        for name, matchers, _ in selectors_in(expression):
            assert matchers["job"] == ("=~", "$job"), expression
            assert ":" in name or matchers["instance"] == ("=~", "$instance"), expression
            for label, (how, value) in matchers.items():
                if value.startswith("$"):
                    assert label in variables(document) and value == f"${label}", expression
                    assert how == ("=~" if variables(document)[label]["multi"] else "="), expression


@every_dashboard
def test_rates_use_the_interval_of_the_panel(document: Document) -> None:
    windows = [window for expression in expressions(document) for _, _, window in selectors_in(expression) if window]
    assert set(windows) <= {"$__rate_interval"}


@every_dashboard
def test_counters_are_only_inside_rates(document: Document) -> None:
    counters = {f"penstock_{metric.name}" for metric in METRICS if metric.kind is MetricType.COUNTER}
    for expression in expressions(document):
        outside = re.sub(r"(?:rate|increase)\(\w+\{[^}]*\}\[[^\]]*\]\)", "", expression)
        assert not [name for name, _, _ in selectors_in(outside) if name in counters or name.endswith("_bucket")]


@every_dashboard
def test_dashboards_are_not_edited_by_hand(document: Document) -> None:
    assert document["editable"] is False


@every_dashboard
def test_metrics_and_labels_exist(document: Document) -> None:
    for expression in expressions(document):
        assert faults_of(expression, recorded_names()) == [], expression


def test_each_metric_is_on_a_dashboard_or_has_a_reason_not_to_be() -> None:
    shown = {name for document in DOCUMENTS for text in expressions(document) for name, _, _ in selectors_in(text)}
    recorded = {rule.name: rule for group in groups() for rule in group.rules if isinstance(rule, Recording)}
    reached: set[str] = set()
    while shown - reached:
        name = (shown - reached).pop()
        reached.add(name)
        if name in recorded:
            shown |= {below for below, _, _ in selectors_in(recorded[name].expression)}
    missing = {metric.name for metric in METRICS if not any(name in reached for name in names_of(metric))}
    assert missing == NOT_SHOWN.keys()


def names_of(metric: Metric) -> list[str]:
    """The names of a metric's series."""
    suffixes = ("_bucket", "_count", "_sum") if metric.kind is MetricType.HISTOGRAM else ("",)
    return [f"penstock_{metric.name}{suffix}" for suffix in suffixes]


@every_dashboard
def test_dashboards_lead_to_each_other_and_to_the_console(document: Document) -> None:
    dashboards, console = document["links"]
    assert dashboards["type"] == "dashboards"
    assert dashboards["tags"] == document["tags"]
    assert console["url"].startswith(f"{CONSOLE}/console/")
    for name in re.findall(r"\$\{([^}]+)\}", console["url"]):
        assert name.removesuffix(":percentencode") in variables(document)
        assert name.endswith(":percentencode"), "names of models are parts of a path"
