"""Runs command lines inside this process."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from penstock.cli import run


@dataclass(frozen=True, slots=True)
class Result:
    """How a command line ended, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def penstock(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Call it with the arguments of a command line."""

    def result(*arguments: str) -> Result:
        code = run(list(arguments))
        return Result(code, *capsys.readouterr())

    return result
