"""What simulations of many streams a case have in common: their options, and the report of their findings."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

Floats = NDArray[np.float64]

WIDTH = 200
"""Columns of a table that is not printed on a terminal."""

BLOCK = 64
"""Rows of an autoregression that are made together."""


def draw_autoregression(noise: Floats, last: Floats, correlation: float) -> tuple[Floats, Floats]:
    """Rows [rows, columns] of an autoregression of first order, of independent ones and the row before them [columns];
    and the last row of it. Every row is as spread as the ones before."""
    lags = np.arange(BLOCK)[:, None] - np.arange(BLOCK)
    weights = np.where(lags >= 0, (1 - correlation**2) ** 0.5 * correlation ** np.maximum(lags, 0), 0.0)
    fading = correlation ** np.arange(1.0, BLOCK + 1)[:, None]
    series = np.empty_like(noise)
    for start in range(0, len(noise), BLOCK):
        rows = noise[start : start + BLOCK]
        many = len(rows)
        series[start : start + many] = weights[:many, :many] @ rows + fading[:many] * last
        last = series[start + many - 1]
    return series, last


def add_stream_arguments(parser: argparse.ArgumentParser, seed: int) -> None:
    """Declare the options of a simulation whose cases have names; ``seed`` is the usual first one."""
    parser.add_argument("--streams", type=int, default=200, help="streams of each case")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument("--json", type=Path, help="file for the figures")


def report(heads: Sequence[str], rows: Sequence[Sequence[str]], holds: Sequence[bool]) -> int:
    """Print a line for each finding, and at its end whether it ``holds``; 0 if all do, 1 if one does not or nothing
    was run."""
    table = Table(box=None)
    for head in (*heads, "holds"):
        table.add_column(head)
    for row, hold in zip(rows, holds, strict=True):
        table.add_row(*row, "yes" if hold else "NO")
    Console(width=None if Console().is_terminal else WIDTH).print(table)
    return 0 if holds and all(holds) else 1


def write_figures(path: Path | None, findings: Sequence[Any]) -> None:
    """Write findings, which are dataclasses, to a JSON file, where one is wanted."""
    if path is not None:
        path.write_text(json.dumps([asdict(finding) for finding in findings], indent=1))
