"""`penstock rules` and `penstock dashboards` without a gateway."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.conftest import Result

Penstock = Callable[..., Result]


def test_rules_that_need_no_policy_need_no_gateway(penstock: Penstock, tmp_path: Path) -> None:
    printed = penstock("rules", "--console", "https://c.example/p/", "--runbooks", "https://r.example/a.html")
    assert printed.code == 0
    document = yaml.safe_load(printed.out)
    alerts = [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts[0]["annotations"]["runbook_url"] == "https://r.example/a.html#penstockdown"
    assert {rule["annotations"]["console_url"].partition("/console/")[0] for rule in alerts} == {"https://c.example/p"}
    assert json.loads(penstock("rules", "--json").out)["groups"]
    file = tmp_path / "rules.yml"
    assert penstock("rules", "-o", str(file)) == Result(0, "", f"wrote {file}\n")
    assert file.read_text().startswith("# Written by `penstock rules`: do not edit it")


def test_a_model_and_all_models_exclude_each_other(penstock: Penstock) -> None:
    assert penstock("rules", "iris", "--all").code == 2


@pytest.mark.parametrize("address", ["javascript:alert(1)", "//c.example", "c.example", ""])
def test_links_go_to_web_pages_alone(penstock: Penstock, tmp_path: Path, address: str) -> None:
    assert penstock("rules", "--runbooks", address).code == 2
    assert penstock("dashboards", "-o", str(tmp_path / "d"), "--console", address).code == 2
    assert not (tmp_path / "d").exists()


def test_a_file_that_cannot_be_written_is_reported(penstock: Penstock, tmp_path: Path) -> None:
    missing = tmp_path / "none" / "rules.yml"
    result = penstock("rules", "-o", str(missing))
    assert (result.code, result.err) == (1, f"penstock: {missing} cannot be written: no such file or directory\n")
    (tmp_path / "file").touch()
    assert penstock("dashboards", "-o", str(tmp_path / "file")).code == 1


def test_dashboards_are_four_files(penstock: Penstock, tmp_path: Path) -> None:
    assert penstock("dashboards", "-o", str(tmp_path / "new" / "d"), "--console", "https://c.example").code == 0
    files = sorted(file.name for file in (tmp_path / "new" / "d").iterdir())
    assert files == ["drift.json", "fleet.json", "model.json", "rollout.json"]
    assert "https://c.example/console/fleet" in (tmp_path / "new" / "d" / "fleet.json").read_text()
