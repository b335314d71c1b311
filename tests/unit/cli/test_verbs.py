"""The verbs that need no gateway, and what the others say when there is none."""

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock import __version__
from penstock.cli.console import ExitCode

Run = Callable[..., Any]


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens: bound, so that no one else can take it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_version_names_penstock_and_its_engine(penstock: Run) -> None:
    result = penstock("version")
    assert result.code == ExitCode.OK
    assert result.out.startswith(f"penstock {__version__} · onnxruntime ")
    assert json.loads(penstock("version", "--json").out)["penstock"] == __version__


def test_every_verb_has_help(penstock: Run) -> None:
    overview = penstock("--help")
    assert overview.code == ExitCode.OK
    for verb in ("serve", "demo", "predict", "config", "version", "health"):
        assert verb in overview.out
        assert penstock(verb, "--help").code == ExitCode.OK


def test_health_is_unavailable_when_nobody_answers(penstock: Run, nobody: str) -> None:
    result = penstock("health", "--url", nobody)
    assert result.code == ExitCode.UNAVAILABLE
    assert (result.out, result.err.count("\n")) == ("", 1)
    assert "not ready" in result.err


@pytest.mark.parametrize("options", [[], ["--grpc"]])
def test_predict_is_unavailable_when_nobody_answers(penstock: Run, nobody: str, options: list[str]) -> None:
    result = penstock("predict", "m", "--data", "[1]", "--url", nobody, "--timeout", "2", *options)
    assert result.code == ExitCode.UNAVAILABLE
    assert result.out == ""


def test_predict_refuses_data_that_is_not_json(penstock: Run, nobody: str) -> None:
    result = penstock("predict", "m", "--data", "[1,", "--url", nobody)
    assert result.code == ExitCode.USAGE
    assert "is not JSON" in result.err
