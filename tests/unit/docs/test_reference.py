"""The reference pages say what the code does; ``PENSTOCK_WRITE_DOCS=1`` has their tables written anew."""

import ast
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from penstock.api.admin import access, admin, overview, traffic
from penstock.api.admin.stream import routes as stream
from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.policies import parse_policy
from penstock.core.rollouts.guard_spec import NAMES
from penstock.core.rollouts.spec import parse_spec as parse_rollout_spec
from penstock.core.sinks import FIELDS
from penstock.core.triggers.conditions import SIMPLE
from tests.unit.docs.chart_schema import CHART, SCHEMA, copies, schema_text
from tests.unit.docs.reference import BLOCKS, REFERENCE, block, write

SOURCE = Path(__file__).parents[3] / "src" / "penstock"


@pytest.mark.parametrize(("page", "name"), BLOCKS)
def test_what_is_written_from_the_code_is_up_to_date(page: str, name: str) -> None:
    if os.environ.get("PENSTOCK_WRITE_DOCS"):
        write(page, name)
    assert block(page, name)[0] == BLOCKS[page, name](), "run this test with PENSTOCK_WRITE_DOCS=1"


def test_the_values_of_the_chart_have_the_settings() -> None:
    if os.environ.get("PENSTOCK_WRITE_DOCS"):
        SCHEMA.write_text(schema_text())
    assert SCHEMA.read_text() == schema_text(), "run this test with PENSTOCK_WRITE_DOCS=1"


def test_the_chart_has_the_rules_and_the_dashboards() -> None:
    for copy, source in copies().items():
        if os.environ.get("PENSTOCK_WRITE_DOCS"):
            copy.write_bytes(source.read_bytes())
        assert copy.read_bytes() == source.read_bytes(), "run this test with PENSTOCK_WRITE_DOCS=1"
    assert {*(CHART / "files").rglob("*.*")} == {*copies()}


def first_cells(page: str) -> list[str]:
    """The code in the first column of a page's tables."""
    return [
        cell
        for line in re.findall(r"^\| (`.*?) \|", (REFERENCE / page).read_text(), re.MULTILINE)
        for cell in codes(line)
    ]


def codes(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def test_every_event_type_is_described() -> None:
    types = {text.removesuffix(".v1") for text in literals() if re.fullmatch(r"[a-z_]+\.[a-z_]+\.v1", text)}
    assert sorted(first_cells("events.md")) == sorted(types)


def literals() -> Iterator[str]:
    """Every text in the files of the source that may name a type of event."""
    for text in (file.read_text() for file in SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(text)) if ".v1" in text else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


class Anything:
    """Stands for what a route calls; no call is made."""

    def __getattr__(self, name: str) -> Any:
        return Anything()


def test_every_call_of_the_admin_api_is_described() -> None:
    anything: Any = Anything()
    found = [
        *admin.list_routes(anything),
        *traffic.list_routes(anything, anything),
        *stream.list_routes(anything),
        *overview.list_routes(anything, anything),
        *access.list_routes(anything),
    ]
    assert sorted(first_cells("admin-api.md")) == sorted(call for route in found for call in calls_of(route))


def calls_of(route: Route) -> Iterator[str]:
    """Method and path of each call, the path without what all have."""
    for method in (route.methods or set()) - {"HEAD"}:
        yield f"{method} {route.path.removeprefix('/admin/v1')}"


def rows_below(page: str, heading: str) -> dict[str, str]:
    """Name and second cell of each row of the first table below a heading."""
    text = re.split(rf"^##+ {re.escape(heading)}$", (REFERENCE / page).read_text(), flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table
    return dict(re.findall(r"^\| `([^`|]+)` \| ([^|]*) \|", table[0], re.MULTILINE))


def stated_defaults(page: str, heading: str) -> dict[str, Any]:
    """The defaults that a table states as values; those that it describes are left out."""
    found = {}
    for name, cell in rows_below(page, heading).items():
        with suppress(ValueError):
            found[name] = json.loads(cell.strip("`"))
    return found


@pytest.mark.parametrize(
    ("heading", "section", "least"),
    [("Monitor", "monitor", 9), ("Capture", "capture", 2), ("Retraining", "retraining", 5)],
)
def test_the_defaults_of_a_policy_are_the_codes(heading: str, section: str, least: int) -> None:
    defaults = stated_defaults("policy.md", heading)
    assert len(defaults) >= least
    assert replace(parse_policy({section: defaults}, parse_schedule), rules={}) == parse_policy({}, parse_schedule)


def test_the_defaults_of_a_rollout_are_the_codes() -> None:
    defaults = stated_defaults("rollouts.md", "Settings of a rollout")
    assert len(defaults) >= 5
    assert parse_rollout_spec({"to": "2", **defaults}, "1") == parse_rollout_spec({"to": "2"}, "1")


def test_every_condition_guard_and_sink_is_described() -> None:
    assert list(rows_below("policy.md", "Conditions of a rule")) == list(SIMPLE)
    assert sorted(rows_below("policy.md", "Sinks")) == sorted(FIELDS)
    assert sorted(rows_below("rollouts.md", "Guards")) == sorted(NAMES)
