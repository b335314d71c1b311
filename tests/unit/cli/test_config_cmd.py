"""`penstock config`: what holds, what is wrong, and the schema."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock import config
from penstock.cli import app
from penstock.cli.addresses import local_address
from penstock.cli.console import Exit

RUNNER = CliRunner()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "penstock.yaml"


def test_show_prints_a_file_that_means_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("workers: 3\nstop: {drain_delay_seconds: 0.5}\n")
    monkeypatch.setenv("PENSTOCK_WORKERS", "2")
    told = RUNNER.invoke(app, ["config", "show", "--config", str(file)])
    assert told.exit_code == Exit.OK
    monkeypatch.delenv("PENSTOCK_WORKERS")
    again = file.with_name("again.yaml")
    again.write_text(told.stdout)
    settings = config.load(again)
    assert (settings.workers, settings.stop.drain_delay_seconds) == (2, 0.5)
    shown = json.loads(RUNNER.invoke(app, ["config", "show", "--config", str(again), "--json"]).stdout)
    assert shown == config.document(settings)


def test_check_says_every_fault(file: Path) -> None:
    file.write_text("http_port: 70000\nworkres: 2\n")
    told = RUNNER.invoke(app, ["config", "check", "--config", str(file)])
    assert told.exit_code == Exit.USAGE
    assert told.stdout == ""
    assert len(told.stderr.splitlines()) == 2
    as_json = RUNNER.invoke(app, ["config", "check", "--config", str(file), "--json"])
    assert as_json.exit_code == Exit.USAGE
    assert json.loads(as_json.stdout)["faults"] == told.stderr.splitlines()


def test_check_finds_the_defaults_sound() -> None:
    assert RUNNER.invoke(app, ["config", "check"]).exit_code == Exit.OK
    assert json.loads(RUNNER.invoke(app, ["config", "check", "--json"]).stdout) == {"ok": True, "faults": []}


def test_show_refuses_settings_that_cannot_be_used(file: Path) -> None:
    told = RUNNER.invoke(app, ["config", "show", "--config", str(file)])
    assert told.exit_code == Exit.USAGE
    assert "cannot be read" in told.stderr


def test_schema_describes_every_setting() -> None:
    schema = json.loads(RUNNER.invoke(app, ["config", "schema"]).stdout)
    assert schema["properties"].keys() == config.document(config.load()).keys()
    assert all("description" in part or "$ref" in part for part in schema["properties"].values())


def test_the_address_to_call_follows_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_address("ops") == "127.0.0.1:8002"
    monkeypatch.setenv("PENSTOCK_HOST", "0.0.0.0")
    monkeypatch.setenv("PENSTOCK_OPS_PORT", "9002")
    assert local_address("ops") == "127.0.0.1:9002"
