"""The parts of a Prometheus rules file, and their form as a document."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Document = dict[str, Any]


class Severity(StrEnum):
    """Who should look at an alert, and when."""

    PAGE = "page"
    """Somebody, now."""

    TICKET = "ticket"
    """Somebody, in the next days."""


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses that alerts and dashboards link to: ``console`` is that of an ops port, and ``runbooks`` that of the
    page with a section for each alert; without it, the page of the ops port."""

    console: str = "http://127.0.0.1:8002"
    runbooks: str = ""

    def runbook(self, alert: str) -> str:
        """Return the address of an alert's section."""
        page = self.runbooks or f"{self.console.rstrip('/')}/runbook"
        return f"{page}#{alert.lower()}"

    def page(self, path: str) -> str:
        """Return the address of a page of the console."""
        return f"{self.console.rstrip('/')}/console/{path}"


@dataclass(frozen=True, slots=True)
class Recording:
    """A rule that stores the value of an expression as a series ``name``, with ``labels`` added."""

    name: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that fires while its expression has had values for the time ``wait``, one alert for each of them.

    ``summary`` is one line, ``description`` says what it means. Both, and ``page`` (a path of the console), are
    templates of Prometheus: they name labels as ``{{ $labels.model }}``, so that no value is taken for a template.
    """

    name: str
    severity: Severity
    expression: str
    summary: str
    description: str
    page: str = "fleet"
    wait: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def labels_of(model: str, **further: str) -> dict[str, str]:
    """Return the labels that set the alerts of a policy apart from those of other policies.

    Labels are templates, too. No model has a name that begins one; it would stay without a label.
    """
    return {**({} if "{{" in model else {"model": model}), **further}


Rule = Recording | Alert


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, every ``interval`` (Prometheus' own where it is empty)."""

    name: str
    rules: Sequence[Rule]
    interval: str = ""


def rules_document(groups: Iterable[Group], links: Links) -> Document:
    """Return the content of a rules file."""
    return {"groups": [_describe_group(group, links) for group in groups if group.rules]}


def _describe_group(group: Group, links: Links) -> Document:
    interval = {"interval": group.interval} if group.interval else {}
    return {"name": group.name, **interval, "rules": [_describe_rule(rule, links) for rule in group.rules]}


def _describe_rule(rule: Rule, links: Links) -> Document:
    match rule:
        case Recording(name=name, expression=expression, labels=labels):
            return {"record": name, "expr": expression, **({"labels": dict(labels)} if labels else {})}
        case Alert():
            return _describe_alert(rule, links)


def _describe_alert(alert: Alert, links: Links) -> Document:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        **({"for": alert.wait} if alert.wait else {}),
        "labels": {"severity": alert.severity.value, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": links.runbook(alert.name),
            "console_url": links.page(alert.page),
        },
    }
