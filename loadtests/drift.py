"""Simulated drift through the monitor that serves: how often it is wrong where nothing changes, how soon it finds what
does, over many streams."""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from penstock.monitor.selftest import BUDGET, CASES, CaseResult, StreamResult, case_result, rows_of, run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    parser.add_argument("--streams", type=int, default=200, help="streams of each case")
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--budget", type=float, default=BUDGET, help="rows between false alarms")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument("--json", type=Path, help="file for the figures")


def main(arguments: argparse.Namespace) -> int:
    """Run every case and print what was asked and what came out; 1 if something does not hold."""
    console, found = Console(stderr=True), []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for index, case in enumerate(CASES):
            if arguments.only not in case.name:
                continue
            seeds = range(arguments.seed * (index + 1), arguments.seed * (index + 1) + arguments.streams)
            jobs = pool.map(partial(_run, index, arguments.budget), seeds, chunksize=5)
            outcomes = list(track(jobs, case.name, total=arguments.streams, console=console))
            found.append(case_result(case, outcomes, arguments.budget))
    Console(width=None if Console().is_terminal else 200).print(_table(found))
    if arguments.json:
        figures = [{**asdict(one), "case": one.case.name, "holds": one.holds} for one in found]
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0 if found and all(one.holds for one in found) else 1


def _run(index: int, budget: float, seed: int) -> StreamResult:
    return run(CASES[index], seed, budget, rows_of(CASES[index]))


def _table(found: list[CaseResult]) -> Table:
    table = Table(box=None)
    for head in ("case", "false alarms", "in rows", "found", "mean delay", "asked", "holds"):
        table.add_column(head)
    for one in found:
        asked = f"<= {one.case.within} rows" if one.case.within else f"<= 1 in {one.budget:.0f}"
        delay = "" if one.mean_delay is None else f"{one.mean_delay:.0f}"
        hits = f"{one.found} of {one.streams}" if one.case.within else ""
        holds = "yes" if one.holds else "NO"
        table.add_row(one.case.name, str(one.false_alarms), str(one.unchanged_rows), hits, delay, asked, holds)
    return table


if __name__ == "__main__":
    sys.exit("run it as: python -m loadtests drift")
