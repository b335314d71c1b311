"""The report of a replay as JUnit XML: a test case for the differences, and one for requests without an answer."""

from typing import Final
from xml.etree import ElementTree as Xml

from penstock.loadtest.junit_suite import write_suite
from penstock.replay.pace import ASAP
from penstock.replay.report import ReplayResult, describe_comparison, describe_ends

_SUITE: Final = "penstock replay"


def to_junit(result: ReplayResult) -> str:
    """Return the report as one suite: too many differences are a failure, an invalid result is an error."""
    setup, found = result.setup, result.findings
    cases = [_describe_answers(result)]
    if setup.max_differences is not None:
        cases.append(_describe_differences(result))
    properties = {
        "penstock": setup.penstock,
        "captures": ", ".join(setup.captures),
        "target": setup.target,
        "transport": setup.transport,
        "speed": "asap" if setup.speed == ASAP else setup.speed,
        "connections": setup.connections,
    }
    summary = "\n".join(filter(None, [describe_comparison(result), describe_ends(found)]))
    name = f"{_SUITE} {setup.target}"
    return write_suite(name, setup.started_at, found.seconds, properties, cases, summary, "penstock.replay")


def _make_case(result: ReplayResult, name: str) -> Xml.Element:
    attributes = {"classname": f"{_SUITE}.{result.setup.target}", "name": name}
    return Xml.Element("testcase", {**attributes, "time": f"{result.findings.seconds:.3f}"})


def _describe_answers(result: ReplayResult) -> Xml.Element:
    case = _make_case(result, "requests are answered")
    problem = "the replay was interrupted" if result.interrupted else result.problem
    if problem:
        Xml.SubElement(case, "error", message=problem, type="invalid").text = problem
    return case


def _describe_differences(result: ReplayResult) -> Xml.Element:
    case = _make_case(result, f"at most {result.setup.max_differences or 0:.4%} of the requests differ")
    if result.outcome == "breach":
        message = describe_comparison(result)
        Xml.SubElement(case, "failure", message=message, type="breach").text = message
    elif result.outcome != "pass":
        Xml.SubElement(case, "skipped")
    return case
