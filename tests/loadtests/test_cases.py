"""How simulations report what they found."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtests.cases import add_stream_arguments, report, write_figures


@dataclass(frozen=True)
class Finding:
    name: str
    alarms: int


@pytest.mark.parametrize(("holds", "code"), [([True, True], 0), ([True, False], 1), ([], 1)])
def test_it_fails_where_something_does_not_hold_or_nothing_was_run(
    holds: list[bool], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(("case",), [("some",)] * len(holds), holds) == code
    printed = capsys.readouterr().out
    assert (printed.count("yes"), printed.count("NO")) == (holds.count(True), holds.count(False))


def test_figures_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_stream_arguments(parser, 7)
    arguments = parser.parse_args(["--json", str(tmp_path / "found.json")])
    write_figures(arguments.json, [Finding("a", 1)])
    assert json.loads((tmp_path / "found.json").read_text()) == [{"name": "a", "alarms": 1}]
    assert (arguments.seed, arguments.streams, parser.parse_args([]).json) == (7, 200, None)
