"""The reports: the JSON document keeps its schema, the XML the rules of JUnit, and the page needs nothing else."""

import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from penstock.loadtest.capacity import CapacityTrial, conclude
from penstock.loadtest.comparison import compare_pairs
from penstock.loadtest.html import to_html
from penstock.loadtest.junit import to_junit
from penstock.loadtest.measurement import Measurement, measure
from penstock.loadtest.objectives import parse_objective
from penstock.loadtest.report import LoadTestResults, LoadTestSetup, TargetResult, describe_capacity, to_document
from penstock.loadtest.runs import CapacitySearch, judge_all
from penstock.loadtest.samples import Samples
from penstock.loadtest.stages import StageTimes
from tests.unit.loadtest.junit_schema import faults_of

SCHEMA = Path(__file__).parents[3] / "docs" / "reference" / "loadtest.schema.json"
SETUP = LoadTestSetup(
    "1.2.3", "2026-11-30T10:00:00+00:00", "a<b>&c", "rest", "poisson", 1, 32, 10.0, 2.0, "signature", 333,
    {"start": 100.0, "end": 100.0, "ramp_seconds": 0.0},
)  # fmt: skip


def measured(failed: int = 0, count: int = 300) -> Measurement:
    due = np.arange(count) / 100
    outcome = np.full(count, 200, np.int16)
    outcome[:failed] = 503
    took = np.random.default_rng(1).lognormal(-6, 0.5, count)
    return measure(Samples(due, due, due + took, np.zeros(count), outcome, stopped=False), count / 100, False)


def results_of(
    *slo: str, failed: int = 0, problem: str = "", interrupted: bool = False, trials: Sequence[CapacityTrial] = ()
) -> LoadTestResults:
    measurement = measured(failed)
    stages = StageTimes({"run": 0.2, "queue": 0.1}, {"1": 300})
    target = TargetResult("m:2", "127.0.0.1:1", measurement, stages, problem)
    ratios = {"p99_ratio": compare_pairs([1.2] * 10, [1.0] * 10), "mean_ratio": compare_pairs([], [])}
    objectives = [parse_objective(text) for text in slo]
    compared = any(objective.is_ratio for objective in objectives)
    return LoadTestResults(
        SETUP,
        [target, TargetResult("m:1", "127.0.0.1:1", measured(), None)] if compared else [target],
        judge_all(objectives, measurement, ratios if compared else {}),
        ratios if compared else {},
        CapacitySearch(tuple(trials), conclude(trials, 100), measurement) if trials else None,
        interrupted,
    )


CASES = {
    "plain": (results_of(), "pass"),
    "kept": (results_of("p99<2s", "errors<1%"), "pass"),
    "breached": (results_of("p50<0.001ms", "errors<1%", failed=30), "breach"),
    "among failures": (results_of("p99<2s", failed=30), "breach"),
    "invalid": (results_of("p99<2s", problem="the generator was busy"), "invalid"),
    "invalid breach": (results_of("p50<0.001ms", problem="the generator was busy"), "invalid"),
    "interrupted": (results_of("p99<2s", interrupted=True), "interrupted"),
    "compared": (results_of("p99_ratio<1.5", "p99<2s"), "pass"),
    "slower": (results_of("p99_ratio<1.1"), "breach"),
    "undecided": (results_of("mean_ratio<1.1"), "undecided"),
    "capacity": (results_of("p99<2s", trials=[CapacityTrial(100, True), CapacityTrial(105, False)]), "pass"),
    "limited": (
        results_of("p99<2s", trials=[CapacityTrial(100, True), CapacityTrial(105, False, limited=True)]),
        "pass",
    ),
    "no capacity": (results_of(trials=[CapacityTrial(100, False)]), "breach"),
}
every_case = pytest.mark.parametrize(("results", "outcome"), CASES.values(), ids=CASES)


@every_case
def test_the_document_keeps_its_schema_and_is_json(results: LoadTestResults, outcome: str) -> None:
    document = json.loads(json.dumps(to_document(results), allow_nan=False))
    importlib.import_module("jsonschema").validate(document, json.loads(SCHEMA.read_text()))
    assert document["outcome"] == outcome


def test_the_schema_describes_every_field() -> None:
    def lacking(schema: Any, path: str = "") -> list[str]:
        found = []
        if isinstance(schema, dict):
            fields = schema.get("properties", {})
            found += [f"{path}.{name}" for name, value in fields.items() if "description" not in value]
            if fields and schema.get("additionalProperties") is not False:
                found.append(f"{path} may have any field")
            for name, value in schema.items():
                found += lacking(value, f"{path}.{name}")
        return found

    assert lacking(json.loads(SCHEMA.read_text())) == []


# What the schema of Apache Ant's JUnit task allows: attributes, and children in their order.
ATTRIBUTES = {
    "testsuites": set[str](),
    "testsuite": {
        "name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time",
    },
    "properties": set[str](),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": set[str](),
    "system-out": set[str](),
    "system-err": set[str](),
}  # fmt: skip
CHILDREN = {
    "testsuites": "(testsuite )*",
    "testsuite": "properties (testcase )*system-out system-err ",
    "properties": "(property )*",
    "testcase": "((skipped |error |failure ))?",
}


@every_case
def test_the_xml_keeps_the_rules_of_junit(results: LoadTestResults, outcome: str) -> None:
    assert faults_of(to_junit(results)) == []
    root = ElementTree.fromstring(to_junit(results))
    for element in root.iter():
        assert set(element.attrib) == ATTRIBUTES[element.tag]
        children = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(CHILDREN.get(element.tag, ""), children), element.tag
    (suite,) = root
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    for kind, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[kind]) == len(list(suite.iter(tag)))
    assert (int(suite.attrib["failures"]) > 0) >= (outcome == "breach")
    assert (int(suite.attrib["errors"]) > 0) == (outcome in ("invalid", "interrupted"))


def test_what_jenkins_refuses_is_found() -> None:
    report = to_junit(CASES["breached"][0])
    for right, wrong in (
        ('time="', 'time="1e'),
        ("<testcase ", '<testcase owner="a" '),
        ("<properties>", "<properties>text"),
        (' errors="0"', ""),
        ("<system-err />", "<system-err /><case />"),
    ):
        assert right in report
        assert len(faults_of(report.replace(right, wrong, 1))) in (1, 2), wrong


@every_case
def test_the_page_is_whole_and_asks_nobody(results: LoadTestResults, outcome: str) -> None:
    page = to_html(results)
    assert f'<span class="{outcome}">' in page
    assert "a&lt;b&gt;&amp;c" in page and "<b>" not in page
    assert not re.search(r"<script|https?://|src=|@import|url\(", page)
    for drawing in re.findall(r"<svg.*?</svg>", page):
        ElementTree.fromstring(drawing)
        assert "nan" not in drawing and "inf" not in drawing
    assert page.count("<svg") >= 3


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        ([CapacityTrial(100, False)], "No rate kept the objectives. The lowest rate that was tried is 100/s."),
        ([CapacityTrial(100, True)], "no higher rate was tried. The search was over before this was confirmed"),
        ([CapacityTrial(100, True), CapacityTrial(104, False), *[CapacityTrial(100, True, True)] * 3],
         "100/s kept the objectives in 4 of 4 windows; 104/s did not. With 95 % confidence at most 53% of such"),
        ([CapacityTrial(100, True), CapacityTrial(200, False, limited=True)],
         "the generator of the load could not reach 200/s"),
    ],
)  # fmt: skip
def test_a_capacity_states_its_confidence(trials: list[CapacityTrial], sentence: str) -> None:
    assert sentence in describe_capacity(CapacitySearch(tuple(trials), conclude(trials, 100), measured()))
