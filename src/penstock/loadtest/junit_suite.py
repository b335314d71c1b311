"""Writes one suite of tests as JUnit XML, as CI systems show it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.etree import ElementTree as Xml


def write_suite(
    name: str,
    started_at: str,
    seconds: float,
    properties: Mapping[str, object],
    cases: Sequence[Xml.Element],
    summary: str,
    package: str,
) -> str:
    """Return a suite in the schema of Apache Ant's JUnit task, which GitLab, Jenkins and GitHub's actions read.

    ``started_at`` is ISO 8601, ``cases`` are elements ``testcase``.
    """
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "error", "skipped")}
    suites = Xml.Element("testsuites")
    suite = Xml.SubElement(
        suites,
        "testsuite",
        name=name,
        package=package,
        id="0",
        timestamp=datetime.fromisoformat(started_at).strftime("%Y-%m-%dT%H:%M:%S"),
        hostname="localhost",
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
        time=f"{seconds:.3f}",
    )
    described = [Xml.Element("property", name=key, value=str(value)) for key, value in properties.items()]
    Xml.SubElement(suite, "properties").extend(described)
    suite.extend(cases)
    Xml.SubElement(suite, "system-out").text = summary
    Xml.SubElement(suite, "system-err")
    Xml.indent(suites)
    return Xml.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
