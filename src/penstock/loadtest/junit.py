"""The report as JUnit XML: a test case for each objective, as CI systems show them."""

from typing import Final
from xml.etree import ElementTree as Xml

from penstock.loadtest.junit_suite import write_suite
from penstock.loadtest.objectives import Verdict
from penstock.loadtest.report import LoadTestResults, describe_capacity

_SUITE: Final = "penstock loadtest"


def to_junit(results: LoadTestResults) -> str:
    """Return the report in the schema of Apache Ant's JUnit task, which GitLab, Jenkins and GitHub's actions read.

    A breach is a failure, an invalid or interrupted result an error, and an undecided objective is skipped.
    """
    cases = [_describe_objective(results, verdict) for verdict in results.verdicts]
    cases.append(_describe_generator(results))
    if results.search is not None:
        cases.append(_describe_capacity(results))
    return write_suite(
        f"{_SUITE} {results.setup.model}",
        results.setup.started_at,
        _sum_seconds(results),
        _list_properties(results),
        cases,
        _summarise(results),
        "penstock.loadtest",
    )


def _make_case(results: LoadTestResults, name: str) -> Xml.Element:
    attributes = {"classname": f"{_SUITE}.{results.setup.model}", "name": name, "time": f"{_sum_seconds(results):.3f}"}
    return Xml.Element("testcase", attributes)


def _describe_objective(results: LoadTestResults, verdict: Verdict) -> Xml.Element:
    case = _make_case(results, verdict.objective.text)
    message = f"expected {verdict.objective.text}, observed {describe_figure(verdict)}"
    if verdict.outcome == "breach":
        Xml.SubElement(case, "failure", message=message, type="breach").text = message
    elif verdict.outcome == "undecided":
        Xml.SubElement(case, "skipped")
    return case


def _describe_generator(results: LoadTestResults) -> Xml.Element:
    case = _make_case(results, "the generator kept up")
    problem = "the load test was interrupted" if results.interrupted else ""
    for target in results.targets:
        problem = problem or target.problem
    if problem:
        Xml.SubElement(case, "error", message=problem, type="invalid").text = problem
    return case


def _describe_capacity(results: LoadTestResults) -> Xml.Element:
    case = _make_case(results, "a rate keeps the objectives")
    if results.search is not None and results.search.capacity.rate is None:
        message = describe_capacity(results.search)
        Xml.SubElement(case, "failure", message=message, type="breach").text = message
    return case


def _list_properties(results: LoadTestResults) -> dict[str, object]:
    setup = results.setup
    return {
        "penstock": setup.penstock,
        "transport": setup.transport,
        "arrivals": setup.arrivals,
        "seed": setup.seed,
        "connections": setup.connections,
        "targets": ", ".join(target.label for target in results.targets),
    }


def _sum_seconds(results: LoadTestResults) -> float:
    return sum(target.measurement.seconds for target in results.targets)


def _summarise(results: LoadTestResults) -> str:
    lines = [
        f"{target.label}: {target.measurement.good} of {target.measurement.requests} requests answered"
        for target in results.targets
    ]
    return "\n".join(lines + ([] if results.search is None else [describe_capacity(results.search)]))


def describe_figure(verdict: Verdict) -> str:
    """Return what was observed, in the unit of the objective."""
    observed, metric = verdict.observed, verdict.objective.metric
    if observed is None:
        return "nothing that decides it"
    if metric == "errors":
        return f"{observed:.4%}"
    if metric == "rate":
        return f"{observed:.1f}/s"
    if verdict.objective.is_ratio:
        return f"{observed:.3f}"
    return f"{observed:.3f} ms" if observed < float("inf") else "requests that failed"
