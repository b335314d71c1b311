"""Runs command lines inside this process."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from penstock.cli import run


@dataclass(frozen=True, slots=True)
class Told:
    """How a command line ended, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def penstock(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Call it with the arguments of a command line."""

    def told(*arguments: str) -> Told:
        code = run(list(arguments))
        return Told(code, *capsys.readouterr())

    return told
