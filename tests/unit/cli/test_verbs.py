"""The verbs that need no gateway, and what the others say when there is none."""

import json
import socket
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from penstock import __version__
from penstock.cli import app
from penstock.cli.console import Exit

RUNNER = CliRunner()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens: bound, so that no one else can take it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_version_names_penstock_and_its_engine() -> None:
    told = RUNNER.invoke(app, ["version"])
    assert told.exit_code == Exit.OK
    assert told.stdout.startswith(f"penstock {__version__} · onnxruntime ")
    assert json.loads(RUNNER.invoke(app, ["version", "--json"]).stdout)["penstock"] == __version__


def test_every_verb_has_help() -> None:
    overview = RUNNER.invoke(app, ["--help"])
    assert overview.exit_code == Exit.OK
    for verb in ("serve", "demo", "predict", "config", "version", "health"):
        assert verb in overview.stdout
        assert RUNNER.invoke(app, [verb, "--help"]).exit_code == Exit.OK


def test_health_is_unavailable_when_nobody_answers(nobody: str) -> None:
    told = RUNNER.invoke(app, ["health", "--url", nobody])
    assert told.exit_code == Exit.UNAVAILABLE
    assert (told.stdout, told.stderr.count("\n")) == ("", 1)
    assert "not ready" in told.stderr


@pytest.mark.parametrize("options", [[], ["--grpc"]])
def test_predict_is_unavailable_when_nobody_answers(nobody: str, options: list[str]) -> None:
    told = RUNNER.invoke(app, ["predict", "m", "--data", "[1]", "--url", nobody, "--timeout", "2", *options])
    assert told.exit_code == Exit.UNAVAILABLE
    assert told.stdout == ""


def test_predict_refuses_data_that_is_no_json(nobody: str) -> None:
    told = RUNNER.invoke(app, ["predict", "m", "--data", "[1,", "--url", nobody])
    assert told.exit_code == Exit.USAGE
    assert "is not JSON" in told.stderr
