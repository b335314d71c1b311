"""The rules and dashboards in ``deploy`` are what the generators write; ``PENSTOCK_WRITE_DOCS=1`` writes them anew."""

import os
from functools import cache
from pathlib import Path

import pytest

from penstock.cli.rules import CONSOLE, HEAD
from penstock.config.documents import written_with_blocks
from penstock.telemetry.dashboards.dashboards import dashboard_files
from penstock.telemetry.rules.rule import Links, rules_document
from penstock.telemetry.rules.rules import fleet_groups

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"


@cache
def written() -> dict[Path, str]:
    rules = HEAD.format(arguments="") + written_with_blocks(rules_document(fleet_groups(), Links(CONSOLE)))
    dashboards = {DASHBOARDS / name: text for name, text in dashboard_files(CONSOLE).items()}
    return {DEPLOY / "prometheus" / "penstock.rules.yml": rules, **dashboards}


@pytest.mark.parametrize("file", written(), ids=lambda file: file.name)
def test_the_files_in_deploy_are_the_generators(file: Path) -> None:
    if os.environ.get("PENSTOCK_WRITE_DOCS"):
        file.write_text(written()[file])
    assert file.read_text() == written()[file], "run this test with PENSTOCK_WRITE_DOCS=1"


def test_no_other_dashboard_is_there() -> None:
    assert {file.name for file in DASHBOARDS.iterdir()} == dashboard_files(CONSOLE).keys()
