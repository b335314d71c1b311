"""`penstock config`: what holds, what is wrong, and the schema."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.addresses import local_address
from penstock.cli.console import ExitCode
from penstock.config.settings import load_settings, settings_document

Run = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "penstock.yaml"


def test_show_prints_a_file_that_means_the_same(penstock: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("workers: 3\nstop: {drain_delay_seconds: 0.5}\n")
    monkeypatch.setenv("PENSTOCK_WORKERS", "2")
    result = penstock("config", "show", "--config", str(file))
    assert result.code == ExitCode.OK
    monkeypatch.delenv("PENSTOCK_WORKERS")
    again = file.with_name("again.yaml")
    again.write_text(result.out)
    settings = load_settings(again)
    assert (settings.workers, settings.stop.drain_delay_seconds) == (2, 0.5)
    shown = json.loads(penstock("config", "show", "--config", str(again), "--json").out)
    assert shown == settings_document(settings)


def test_check_says_every_fault(penstock: Run, file: Path) -> None:
    file.write_text("http_port: 70000\nworkres: 2\n")
    result = penstock("config", "check", "--config", str(file))
    assert result.code == ExitCode.USAGE
    assert result.out == ""
    assert len(result.err.splitlines()) == 2
    as_json = penstock("config", "check", "--config", str(file), "--json")
    assert as_json.code == ExitCode.USAGE
    assert json.loads(as_json.out)["faults"] == result.err.splitlines()


def test_check_finds_the_defaults_sound(penstock: Run) -> None:
    assert penstock("config", "check").code == ExitCode.OK
    assert json.loads(penstock("config", "check", "--json").out) == {"ok": True, "faults": []}


def test_show_refuses_settings_that_cannot_be_used(penstock: Run, file: Path) -> None:
    result = penstock("config", "show", "--config", str(file))
    assert result.code == ExitCode.USAGE
    assert "cannot be read" in result.err


def test_schema_describes_every_setting(penstock: Run) -> None:
    schema = json.loads(penstock("config", "schema").out)
    assert schema["properties"].keys() == settings_document(load_settings()).keys()
    assert all("description" in part or "$ref" in part for part in schema["properties"].values())


def test_the_address_to_call_follows_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_address("ops") == "127.0.0.1:8002"
    monkeypatch.setenv("PENSTOCK_HOST", "0.0.0.0")
    monkeypatch.setenv("PENSTOCK_OPS_PORT", "9002")
    assert local_address("ops") == "127.0.0.1:9002"
