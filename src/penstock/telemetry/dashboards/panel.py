"""The parts of a dashboard: rows of panels with their queries, and the variables that readers choose from."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a panel shows its values, in Grafana's terms."""

    LINES = "timeseries"
    NUMBER = "stat"
    BARS = "bargauge"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression of PromQL, and the ``legend`` of its series (``{{version}}`` is a label's value)."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``unit`` is one of Grafana's, ``description`` says how to read it; ``width`` is out of 24."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = Kind.LINES
    width: int = 8


def draw_plot(title: str, description: str, unit: str, expression: str, legend: str = "", width: int = 8) -> Panel:
    """Return a panel that draws the series of one expression over time."""
    return Panel(title, description, unit, (Query(expression, legend),), Kind.LINES, width)


def show_last(title: str, description: str, unit: str, expression: str, legend: str = "", width: int = 8) -> Panel:
    """Return a panel that shows the last value of one expression."""
    return Panel(title, description, unit, (Query(expression, legend),), Kind.NUMBER, width)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """A label whose values a reader chooses among: those in the series that ``selector`` selects."""

    label: str
    selector: str
    several: bool = True


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard. ``name`` is that of its file and, with a prefix, its uid; ``page`` is the page of the console with
    the same subject, in which ``${model}`` stands for a variable."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    page: str = "models"
