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

from penstock.monitor.selftest import BUDGET, CASES, CaseResult, StreamResult, judge_case, rows_of, run


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
    console, results = Console(stderr=True), []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for index, case in enumerate(CASES):
            if arguments.only not in case.name:
                continue
            seeds = range(arguments.seed * (index + 1), arguments.seed * (index + 1) + arguments.streams)
            jobs = pool.map(partial(_run, index, arguments.budget), seeds, chunksize=5)
            outcomes = list(track(jobs, case.name, total=arguments.streams, console=console))
            results.append(judge_case(case, outcomes, arguments.budget))
    Console(width=None if Console().is_terminal else 200).print(_table(results))
    if arguments.json:
        figures = [{**asdict(result), "case": result.case.name, "holds": result.holds} for result in results]
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0 if results and all(result.holds for result in results) else 1


def _run(index: int, budget: float, seed: int) -> StreamResult:
    return run(CASES[index], seed, budget, rows_of(CASES[index]))


def _table(results: list[CaseResult]) -> Table:
    table = Table(box=None)
    for head in ("case", "false alarms", "in rows", "found", "mean delay", "asked", "holds"):
        table.add_column(head)
    for result in results:
        asked = f"<= {result.case.within} rows" if result.case.within else f"<= 1 in {result.budget:.0f}"
        delay = "" if result.mean_delay is None else f"{result.mean_delay:.0f}"
        hits = f"{result.found} of {result.streams}" if result.case.within else ""
        holds = "yes" if result.holds else "NO"
        table.add_row(result.case.name, str(result.false_alarms), str(result.unchanged_rows), hits, delay, asked, holds)
    return table


if __name__ == "__main__":
    sys.exit("run it as: python -m loadtests drift")
