"""A plain command line of `penstock serve` gives the settings that the parser gives, without importing the parser."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main

from penstock import cli
from penstock.cli import serve, start
from tests.harness import PATIENCE_S

LINES = [
    [],
    ["models"],
    ["a", "--http-port", "0", "b", "--grpc-port=18001"],
    ["--model-name", "m", "folder", "--workers", "auto", "--host", "::1"],
    ["--registry=postgresql://user:word@host/name?a=b", "--log-level", "debug"],
    ["--config", "file.yaml", "--ready-file", "ready.json"],
    ["--max-body-bytes", "1_000_000", "--deadline", "1e1", "--drain-delay", "0", "--orphan-grace", "2.5"],
    ["--ops-port", "1", "--ops-port", "2", "--drain-timeout=3"],
    ["--host", "0.0.0.0", "--insecure-no-auth", "models", "--ops-host", "::1"],
]
LEFT = [
    ["--help"],
    ["--http-port"],
    ["--http-port", "many"],
    ["--unknown", "1"],
    ["--http", "1"],
    ["--http-port", "-1"],
    ["--host="],
    ["--insecure-no-auth=yes"],
    ["--", "folder"],
    ["-h"],
    [""],
]


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Path | None, dict[str, Any]]:
    """The settings that the parser gives."""
    seen: list[tuple[Path | None, dict[str, Any]]] = []

    def note(config: Path | None, flags: Mapping[str, Any]) -> int:
        seen.append((config, {name: value for name, value in flags.items() if value is not None}))
        return 0

    monkeypatch.setattr(serve, "start", note)
    cli.build(["serve"])(["serve", *words], standalone_mode=False)
    return seen[0]


@pytest.mark.parametrize("words", LINES)
def test_a_plain_line_means_what_the_parser_says(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(start.CONFIG_VARIABLE, raising=False)
    flags = start.read_plain(words)
    assert flags is not None
    config = flags.pop(start.CONFIG, None)
    assert (config, {name: value for name, value in flags.items() if value is not None}) == parsed(words, monkeypatch)


@pytest.mark.parametrize("words", LEFT)
def test_what_is_not_plain_is_left_to_the_parser(words: list[str]) -> None:
    assert start.read_plain(words) is None


def test_every_option_of_the_parser_may_stand_in_a_plain_line() -> None:
    command: Any = typer.main.get_command(cli.build(["serve"]))
    options = {name for option in command.commands["serve"].params for name in option.opts if name.startswith("--")}
    assert options - {"--help"} == {*start.OPTIONS, *start.SWITCHES}


@pytest.mark.parametrize("variable", ["", "file.yaml"])
def test_the_configuration_file_may_come_from_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path | None] = []

    def note(config: Path | None, _flags: Mapping[str, Any]) -> int:
        seen.append(config)
        return 0

    monkeypatch.setenv(start.CONFIG_VARIABLE, variable)
    monkeypatch.setattr(start, "start", note)
    assert start.run_plain([]) == 0
    assert start.run_plain(["--config", "other.yaml"]) == 0
    assert seen == [Path(variable) if variable else None, Path("other.yaml")]
    assert parsed([], monkeypatch)[0] == seen[0]


@pytest.mark.processes
def test_an_error_of_a_plain_line_is_one_line_without_the_parser() -> None:
    program = (
        "import sys; from penstock import cli; code = cli.run(['serve', '--workers', 'none']); "
        "print(code, *{'typer', 'click', 'rich', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout == "2\n"
    assert done.stderr == "penstock: workers: expected a number from 1 to 256, or auto (got 'none')\n"


def test_ctrl_c_before_the_gateway_runs_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "launch", interrupted)
    assert cli.run(["serve"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.processes
def test_output_that_cannot_be_written_is_one_line_and_a_closed_pipe_none() -> None:
    command = [sys.executable, "-m", "penstock", "version"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (1, "penstock: the output cannot be written: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False
        )
        closed_end = done.returncode, done.stderr
    assert closed_end == (1, "")
