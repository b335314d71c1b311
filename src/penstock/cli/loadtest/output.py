"""What `penstock loadtest` shows and writes: a line of progress, the results for people, and the reports."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

import typer

from penstock.cli.console import data_console, say
from penstock.cli.formatting import table_of
from penstock.core.texts import make_legible
from penstock.loadtest.junit import describe_figure, to_junit
from penstock.loadtest.objectives import LATENCIES
from penstock.loadtest.report import LoadTestResults, TargetResult, describe_capacity, describe_durations, to_document

_EVERY_S = 0.5
_WIDTH = 30
_MARKS = {"pass": "kept", "breach": "BREACHED", "undecided": "undecided"}


class Progress:
    """A line on stderr, if that is a terminal, rewritten twice a second: little enough not to delay the generator."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = sys.stderr if out is None else out
        self._clock = clock
        self._is_shown = self._out.isatty()
        self._title, self._seconds, self._next = "", 1.0, 0.0

    def begin(self, title: str, seconds: float) -> None:
        """Show which window comes, and how long it takes."""
        self._title, self._seconds, self._next = title, seconds, 0.0

    def advance(self, done: int, failed: int, seconds: float) -> None:
        """Show how far the window is."""
        now = self._clock()
        if self._is_shown and now >= self._next:
            self._next = now + _EVERY_S
            filled = int(_WIDTH * min(seconds / self._seconds, 1.0)) if self._seconds else _WIDTH
            bar = "━" * filled + " " * (_WIDTH - filled)
            about = f"{seconds:.0f} of {self._seconds:.0f} s, {done} requests, {failed} failed"
            self._out.write(f"\r\x1b[K{self._title} ▕{bar}▏ {about}")
            self._out.flush()

    def close(self) -> None:
        """Clear the line."""
        if self._is_shown:
            self._out.write("\r\x1b[K")
            self._out.flush()


def print_results(results: LoadTestResults) -> None:
    """Print durations, stages and objectives on stdout, and what makes the result worthless on stderr."""
    table = table_of("milliseconds", *LATENCIES)
    for target in results.targets:
        measured = target.measurement
        table.add_row(
            f"{target.label}: from when due", *map(_format_cell, describe_durations(measured.latency).values())
        )
        table.add_row(
            f"{target.label}: from when sent", *map(_format_cell, describe_durations(measured.service).values())
        )
    data_console().print(table)
    for line in _format_lines(results):
        typer.echo(make_legible(line))
    for target in results.targets:
        if target.problem:
            say(f"the result is INVALID: {target.problem}")
    if results.interrupted:
        say("interrupted: the report has what was measured until then")


def _format_lines(results: LoadTestResults) -> Iterator[str]:
    for target in results.targets:
        yield from _format_target(target)
    for name, interval in results.ratios.items():
        yield (
            f"{name.removesuffix('_ratio')}: {interval.estimate:.3f} times that of {results.targets[1].label} "
            f"({interval.low:.3f} to {interval.high:.3f} with {interval.confidence:.0%} confidence): "
            f"{interval.direction}"
        )
    if results.search is not None:
        yield describe_capacity(results.search)
    for verdict in results.verdicts:
        yield f"{_MARKS[verdict.outcome]}: {verdict.objective.text} (observed: {describe_figure(verdict)})"


def _format_target(target: TargetResult) -> Iterator[str]:
    measured, stages = target.measurement, target.stages
    failures = ", ".join(f"{count} {outcome}" for outcome, count in measured.failures.items())
    yield (
        f"{target.label}: {measured.good} of {measured.requests} requests answered in {measured.seconds:.1f} s "
        f"({measured.rate:.1f}/s){'; failed: ' + failures if failures else ''}"
    )
    if stages is not None:
        means = ", ".join(f"{name} {mean:.3f}" for name, mean in stages.mean_ms.items())
        versions = ", ".join(f"version {version} {count}" for version, count in stages.requests.items())
        yield f"{target.label}: in the gateway, mean milliseconds: {means}; requests: {versions}"


def _format_cell(value: float | None) -> str:
    return "failed" if value is None else f"{value:.3f}"


def find_unwritable(files: Mapping[str, Path | None]) -> str:
    """Return what is wrong with the places of the reports, "" if nothing is: a load test is not to be run in vain."""
    wanted = [file for file in files.values() if file is not None]
    if len({file.absolute() for file in wanted}) < len(wanted):
        return "expected a file of its own for each report"
    problems = (f"{file} cannot be written: {reason}" for file in wanted if (reason := _why_unwritable(file)))
    return next(problems, "")


def _why_unwritable(file: Path) -> str:
    place = file if file.exists() else file.parent
    if file.is_dir():
        return "is a directory"
    if not place.exists():
        return "no such file or directory"
    return "" if os.access(place, os.W_OK) else "permission denied"


def write_files(text_of: Callable[[str], str], files: Mapping[str, Path | None]) -> str:
    """Write the reports that are wanted; return why some could not be written, "" if all were.

    ``text_of`` returns the report in a form: a key of ``files``.
    """
    problems = []
    for form, file in files.items():
        try:
            if file is not None:
                file.write_text(text_of(form), encoding="utf-8")
        except OSError as error:
            problems.append(f"{file} cannot be written: {(error.strerror or 'error').lower()}")
    return "; ".join(problems)


def format_results(results: LoadTestResults, form: str) -> str:
    """Return the report as ``json``, ``junit`` or ``html``."""
    if form == "json":
        return json.dumps(to_document(results), indent=2) + "\n"
    if form == "junit":
        return to_junit(results)
    from penstock.loadtest.html import to_html

    return to_html(results)
