"""Finds the selectors of PromQL expressions, and what they name that does not exist."""

import re
from collections.abc import Collection, Iterator
from functools import cache

from penstock.telemetry.metric import PREFIX, MetricType
from penstock.telemetry.metrics import METRICS
from penstock.telemetry.rules.rule import Group, Recording
from penstock.telemetry.rules.rules import fleet_groups, model_groups

Matchers = dict[str, tuple[str, str]]
"""Operator and value of each matcher by its label."""

OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus adds."""

POLICY = {
    "slo": {"error_ratio": 0.001, "latency_p99_ms": 25.6},
    "triggers": [
        {"name": "worse", "when": {"performance": {"metric": "accuracy", "below": 0.9}}},
        {"name": "broken", "when": {"quality": {"missing_ratio_above": 0.02}}},
    ],
}

_SELECTOR = re.compile(r'\b((?:penstock|up)[\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?(?:\[([^\]]+)\])?')
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(?:by|on|ignoring|group_left|without) \(([^)]*)\)")


def selectors_in(expression: str) -> Iterator[tuple[str, Matchers, str]]:
    """Yield name, matchers and window of each selector."""
    for name, inner, window in _SELECTOR.findall(_GROUPING.sub("", expression)):
        yield name, {label: (how, value) for label, how, value in _MATCHER.findall(inner)}, window


@cache
def series() -> dict[str, set[str]]:
    """The labels of every series in the table of metrics."""
    found: dict[str, set[str]] = {"up": set()}
    for metric in METRICS:
        suffixes = ("_bucket", "_count", "_sum") if metric.kind is MetricType.HISTOGRAM else ("",)
        for suffix in suffixes:
            found[PREFIX + metric.name + suffix] = {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
    return found


def groups() -> list[Group]:
    """All groups of rules, also those of a policy."""
    return [*fleet_groups(), *model_groups({"iris": POLICY})]


@cache
def recorded_names() -> frozenset[str]:
    """The names of all series that rules record."""
    return frozenset(rule.name for group in groups() for rule in group.rules if isinstance(rule, Recording))


def faults_of(expression: str, recorded: Collection[str] = (), labels: Collection[str] = ()) -> list[str]:
    """Names and labels of an expression that no metric has; ``labels`` must be those of each of its selectors."""
    faults: list[str] = []
    found = list(selectors_in(expression))
    known = set(OF_TARGETS)
    for name, matchers, _ in found:
        if name in recorded:
            known |= {"model", "version", "feature", "output", "bin", "slo"}
            continue
        if name not in series():
            faults.append(name)
            continue
        known |= series()[name]
        faults += [f"{name}: {label}" for label in {*matchers, *labels} - series()[name] - OF_TARGETS]
    grouped = {label.strip() for text in _GROUPING.findall(expression) for label in text.split(",") if label.strip()}
    return [*faults, *sorted(grouped - known), *([] if found else ["it selects nothing"])]
