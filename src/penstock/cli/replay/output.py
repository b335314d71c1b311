"""What `penstock replay` shows: a line of progress, and the results for people."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, TextIO

import typer

from penstock.cli.console import data_console, say
from penstock.cli.formatting import table_of
from penstock.core.texts import make_legible
from penstock.loadtest.objectives import LATENCIES
from penstock.loadtest.report import describe_durations
from penstock.monitor.capture_parts import ReadCounts
from penstock.replay.judgement import excess_of
from penstock.replay.junit import to_junit
from penstock.replay.report import ReplayResult, describe_comparison, describe_ends, to_document

_EVERY_S: Final = 0.5
_WIDTH: Final = 30
_LEAST_SHARE: Final = 0.005
"""The part of a capture from which on the time that is left can be estimated."""


class ReplayProgress:
    """A line on stderr, if that is a terminal: how far the capture is read, requests a second, and the time left."""

    def __init__(
        self, read: ReadCounts, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._out = sys.stderr if out is None else out
        self._clock = clock
        self._is_shown = self._out.isatty()
        self._next = 0.0

    def advance(self, done: int, failed: int, seconds: float) -> None:
        """Show how far the replay is."""
        now = self._clock()
        if not self._is_shown or now < self._next:
            return
        self._next = now + _EVERY_S
        share = self._read.share
        filled = int(_WIDTH * share)
        rate = done / seconds if seconds > 0 else 0.0
        bar = "━" * filled + " " * (_WIDTH - filled)
        about = f"{done} requests, {rate:.0f}/s, {failed} failed, {time_left(share, seconds)}"
        self._out.write(f"\r\x1b[K▕{bar}▏ {about}")
        self._out.flush()

    def close(self) -> None:
        """Clear the line."""
        if self._is_shown:
            self._out.write("\r\x1b[K")
            self._out.flush()


def time_left(share: float, seconds: float) -> str:
    """Return how long the rest takes, as a text, after a part of a capture took so many seconds."""
    if share < _LEAST_SHARE:
        return "time left unknown"
    rest = int(seconds * (1 - share) / share)
    return f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d} left"


def print_results(result: ReplayResult) -> None:
    """Print durations and differences on stdout, and what makes the result worthless on stderr."""
    found = result.findings
    table = table_of("milliseconds", *LATENCIES)
    cells = [
        "" if value is None else f"{value:.3f}" for value in describe_durations(found.durations.histogram()).values()
    ]
    table.add_row(result.setup.target, *cells)
    data_console().print(table)
    for line in _format_lines(result):
        typer.echo(make_legible(line))
    if result.problem and not result.interrupted:
        say(f"the result is INVALID: {result.problem}")
    if result.interrupted:
        say("interrupted: the report has what was found until then")


def _format_lines(result: ReplayResult) -> Iterator[str]:
    found = result.findings
    rate = found.requests / found.seconds if found.seconds else 0.0
    ended = describe_ends(found)
    yield (
        f"{found.ended['answered']} of {found.requests} requests answered in {found.seconds:.1f} s ({rate:.1f}/s)"
        f"{': ' + ended if ended else ''}"
    )
    if result.read.deleted or result.read.damaged:
        yield f"{result.read.deleted} files of the capture were deleted meanwhile, {result.read.damaged} are damaged"
    if text := describe_comparison(result):
        for name, counts in found.outputs.items():
            share = excess_of(counts.pairs).share
            yield f"output {name}: {counts.pairs.differ} differ, {counts.pairs.noisy} noisy, {share:.4%} above noise"
        yield f"{'BREACHED' if result.outcome == 'breach' else 'kept'}: {text}"


def format_results(result: ReplayResult, form: str) -> str:
    """Return the report as ``json``, ``junit`` or ``html``."""
    if form == "json":
        return json.dumps(to_document(result), indent=2) + "\n"
    if form == "junit":
        return to_junit(result)
    from penstock.replay.html import to_html

    return to_html(result)
