"""Turns dashboards into documents of Grafana's dashboard model, as files are provisioned and imported."""

from collections.abc import Iterator, Sequence
from typing import Any

from penstock.telemetry import metrics
from penstock.telemetry.dashboards.panel import Dashboard, Kind, Panel, Query, Row, Variable
from penstock.telemetry.promql import select

Document = dict[str, Any]

SCHEMA_VERSION = 39
"""Of the dashboard model of Grafana 10.4; later ones migrate it."""

HEIGHTS = {Kind.LINES: 8, Kind.NUMBER: 4, Kind.BARS: 8, Kind.TABLE: 8}
WIDTH = 24
TAG = "penstock"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

COMMON = (
    Variable("job", select(metrics.INSECURE)),
    Variable("instance", select(metrics.INSECURE, 'job=~"$job"')),
)
"""Every gateway reports whether it is insecure."""


def dashboard_document(dashboard: Dashboard, console: str) -> Document:
    """Return the content of a dashboard's file; ``console`` is the address of the console's ops port."""
    return {
        "uid": f"{TAG}-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "editable": False,
        "schemaVersion": SCHEMA_VERSION,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "graphTooltip": 1,
        "links": _make_links(dashboard, console),
        "templating": {"list": [_make_source(), *map(_make_variable, (*COMMON, *dashboard.variables))]},
        "annotations": {"list": []},
        "panels": list(_place_panels(dashboard.rows)),
    }


def _make_links(dashboard: Dashboard, console: str) -> list[Document]:
    return [
        {
            "type": "dashboards",
            "title": "Penstock",
            "tags": [TAG],
            "asDropdown": False,
            "includeVars": True,
            "keepTime": True,
        },
        {
            "type": "link",
            "title": "Console",
            "icon": "external link",
            "targetBlank": True,
            "url": f"{console.rstrip('/')}/console/{dashboard.page}",
        },
    ]


def _make_source() -> Document:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _make_variable(variable: Variable) -> Document:
    return {
        "name": variable.label,
        "label": variable.label,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({variable.selector}, {variable.label})",
        "refresh": 2,
        "sort": 1,
        "multi": variable.several,
        "includeAll": variable.several,
        **({"allValue": ".+", "current": {"text": "All", "value": "$__all"}} if variable.several else {}),
    }


def _place_panels(rows: Sequence[Row]) -> Iterator[Document]:
    """Yield rows and panels from left to right, each with a number and its place."""
    number, top = 1, 0
    for row in rows:
        yield _make_row(row, number, top)
        number, top = number + 1, top + 1
        left, tallest = 0, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, tallest = 0, top + tallest, 0
            yield _make_panel(panel, number, left, top)
            number, left, tallest = number + 1, left + panel.width, max(tallest, HEIGHTS[panel.kind])
        top += tallest


def _make_row(row: Row, number: int, top: int) -> Document:
    place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}


def _make_panel(panel: Panel, number: int, left: int, top: int) -> Document:
    return {
        "id": number,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": HEIGHTS[panel.kind]},
        "fieldConfig": {"defaults": {"unit": panel.unit, **_make_field(panel.kind)}, "overrides": []},
        "options": _make_options(panel.kind),
        "targets": [_make_target(panel.kind, query, index) for index, query in enumerate(panel.queries)],
    }


def _make_field(kind: Kind) -> Document:
    if kind is not Kind.LINES:
        return {"color": {"mode": "palette-classic"}} if kind is Kind.BARS else {}
    return {"min": 0, "custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 0, "showPoints": "never"}}


def _make_options(kind: Kind) -> Document:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match kind:
        case Kind.LINES:
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case Kind.NUMBER:
            return {"reduceOptions": last, "colorMode": "none", "graphMode": "area", "textMode": "auto"}
        case Kind.BARS:
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}
        case Kind.TABLE:
            return {"showHeader": True}


def _make_target(kind: Kind, query: Query, index: int) -> Document:
    instant = kind in (Kind.BARS, Kind.TABLE)
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": "table" if kind is Kind.TABLE else "time_series",
    }
