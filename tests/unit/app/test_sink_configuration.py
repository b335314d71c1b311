"""Which sinks may receive the checkpoints of the audit."""

import json
from pathlib import Path

import pytest

from penstock.app.sink_configuration import read_sink_configuration
from penstock.config.settings import load_settings

SINKS = {
    "hook": {"webhook": {"url": "http://127.0.0.1:1/"}},
    "log": {"file": {"path": "/tmp/checkpoints.jsonl"}},
    "train": {"command": {"argv": ["true"]}},
}


def faults(names: list[str], tmp_path: Path) -> list[str]:
    file = tmp_path / "penstock.yaml"
    file.write_text(json.dumps({"sinks": SINKS, "audit": {"sinks": names}}))
    return read_sink_configuration(load_settings(file), tmp_path).faults


def test_declared_sinks_may_receive_checkpoints(tmp_path: Path) -> None:
    assert faults(["hook", "log"], tmp_path) == []


@pytest.mark.parametrize(("name", "fault"), [("absent", "names no sink"), ("train", "of the kind command")])
def test_other_sinks_may_not(name: str, fault: str, tmp_path: Path) -> None:
    [found] = faults(["hook", name], tmp_path)
    assert (fault in found, f"'{name}'" in found) == (True, True)
