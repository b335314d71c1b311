"""`penstock predict` and `penstock health` against a real gateway."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.console import ExitCode
from tests.harness import Server

Run = Callable[..., Any]


@pytest.fixture(params=["rest", "grpc"])
def by(request: pytest.FixtureRequest, server: Server) -> list[str]:
    """The options that choose a transport."""
    return ["--url", server.http] if request.param == "rest" else ["--url", server.grpc, "--grpc"]


def outputs(result: Any) -> dict[str, list[Any]]:
    assert result.code == ExitCode.OK, result
    return {output["name"]: output["data"] for output in json.loads(result.out)["outputs"]}


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        ("pair", [1, 2, 3], {"y": [4.0, 6.0, 8.0]}),
        ("pair", {"x": [[1, 2, 3]]}, {"y": [4.0, 6.0, 8.0]}),
        ("scalar", 3, {"y": [7.0]}),
        ("concat", {"a": ["x", "ä"], "b": ["y", ""]}, {"y": ["xy", "ä"]}),
        ("identity_bool", [[True, False]], {"y": [True, False]}),
        ("identity_int64", [[2**53 + 1, -1]], {"y": [2**53 + 1, -1]}),
        (
            "mixed",
            {"number": [[1, -1, 0]], "key": [[5, 6]]},
            {"doubled": [2.0, -2.0, 0.0], "next": [6, 7], "positive": [True, False, False]},
        ),
    ],
)
def test_the_answer_is_the_models(penstock: Run, by: list[str], model: str, data: Any, expected: Any) -> None:
    assert outputs(penstock("predict", model, "--data", json.dumps(data), "--json", *by)) == expected


def test_the_version_asked_for_answers_and_is_shown(penstock: Run, by: list[str]) -> None:
    result = penstock("predict", "pair", "--data", "[0, 1, 2]", "--version", "1", *by)
    assert result.code == ExitCode.OK
    assert result.err == "pair version 1 (pinned)\n"
    assert result.out.splitlines() == ["y FP32 [1, 3]", "1 2 3        "]


def test_a_request_of_the_protocol_is_sent_as_it_is(penstock: Run, by: list[str], tmp_path: Path) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [1, 2, 3, 4, 5]}
    requested = {"name": "probabilities", "parameters": {"classification": 1}}
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"id": "abc", "inputs": [tensor], "outputs": [requested]}))
    result = penstock("predict", "labelled", "--data", f"@{file}", "--json", *by)
    (best,) = outputs(result)["probabilities"]
    assert best.count(":") == 2  # value, number and label
    assert json.loads(result.out)["id"] == "abc"


def test_data_comes_from_stdin_when_it_is_piped(penstock: Run, by: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("[1, 2, 3]"))
    assert outputs(penstock("predict", "pair", "--json", *by)) == {"y": [4.0, 6.0, 8.0]}


def test_rows_of_a_batch_are_lines_of_a_table(penstock: Run, by: list[str]) -> None:
    data = json.dumps({"number": [[1, 2, 3], [4, 5, 6]], "key": [[1, 2], [3, 4]]})
    result = penstock("predict", "mixed", "--data", data, *by)
    head, *lines = [line.split() for line in result.out.splitlines()]
    assert head[:2] == ["doubled", "FP32"]
    assert lines == [
        ["2", "4", "6", "2", "3", "True", "True", "True"],
        ["8", "10", "12", "4", "5", "True", "True", "True"],
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["nobody", "--data", "[1]"], ExitCode.NOT_FOUND, "unknown model 'nobody'"),
        (["pair", "--data", "[1, 2, 3]", "--version", "9"], ExitCode.NOT_FOUND, "has no version '9'"),
        (["broken", "--data", "[1]"], ExitCode.UNAVAILABLE, "not ready"),
        (["pair", "--data", "[1, 2]"], ExitCode.FAILURE, "expected 'x' FP32 [-1, 3]"),
        (["pair", "--data", '{"z": [1]}'], ExitCode.USAGE, "unknown input 'z'; the model takes x FP32 [-1, 3]"),
        (["slow", "--data", "[1]", "--timeout", "0.05"], ExitCode.UNAVAILABLE, ""),
    ],
)
def test_what_goes_wrong_has_its_code_and_one_line(
    penstock: Run, by: list[str], arguments: list[str], code: ExitCode, expected: str
) -> None:
    result = penstock("predict", *arguments, *by)
    assert (result.code, result.out) == (code, ""), result
    assert expected in result.err
    assert result.err.startswith("penstock: ")
    assert result.err.count("\n") == 1


def test_names_of_any_kind_reach_the_gateway(penstock: Run, by: list[str]) -> None:
    result = penstock("predict", "a?b#c d%", "--data", "[1]", *by)
    assert result.code == ExitCode.NOT_FOUND
    assert "a?b#c d%" in result.err


def test_health_reports_a_ready_gateway(penstock: Run, server: Server) -> None:
    result = penstock("health", "--url", f"http://{server.ops}/")
    assert (result.code, result.out, result.err) == (ExitCode.OK, "", "ready\n")
    assert json.loads(penstock("health", "--url", server.ops, "--json").out)
