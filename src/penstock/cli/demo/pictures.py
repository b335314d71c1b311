"""Draws the digits and tables of the demo."""

from collections.abc import Sequence

from rich.table import Table

from penstock.cli.demo.traffic import CallingThread, percentile_ms
from penstock.cli.demo.training import SIDE
from penstock.core.tensors import Array

SHADES = " ░▒▓█"
PLAIN_SHADES = " .:*#"
DARKEST = 16.0


def draw_digit(row: Array, plain: bool) -> str:
    """Return a row of pixels as eight lines of text; ``plain`` uses only ASCII."""
    shades = PLAIN_SHADES if plain else SHADES
    steps = (row.reshape(SIDE, SIDE) / DARKEST * (len(shades) - 1)).round().astype(int)
    return "\n".join("".join(shades[step] * 2 for step in line) for line in steps)


def side_by_side(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """Return a table with a column for each sample; each line starts with its title."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(head, min_width=2 * SIDE, no_wrap=True)
    for title, cells in lines:
        table.add_row(title, *cells)
    return table


def draw_traffic(callers: Sequence[CallingThread], seconds: float) -> Table:
    """Return the results of each caller so far, and of all together."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("caller")
    for head in ("answered by", "calls", "calls/s", "p50 ms", "p99 ms"):
        table.add_column(head, justify="right")
    for caller in callers:
        times = list(caller.times)
        versions = ", ".join(f"version {version}" for version in sorted(caller.versions))
        table.add_row(caller.title, versions, *_format_numbers(times, seconds))
    everything = [took for caller in callers for took in list(caller.times)]
    table.add_row("together", "", *_format_numbers(everything, seconds), style="bold")
    return table


def _format_numbers(times: list[float], seconds: float) -> tuple[str, str, str, str]:
    rate = len(times) / seconds if seconds else 0.0
    return (
        f"{len(times):,}",
        f"{rate:,.0f}",
        f"{percentile_ms(times, 0.5):.2f}",
        f"{percentile_ms(times, 0.99):.2f}",
    )


def draw_counters(sent: dict[tuple[str, str], int], counted: dict[tuple[str, str], int]) -> Table:
    """Return the requests sent beside those the gateway counted, by version and protocol."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("version", "protocol", "sent", "counted", ""):
        table.add_column(head, justify="right")
    for version, protocol in sorted(sent.keys() | counted.keys()):
        was_sent, was_counted = sent.get((version, protocol), 0), counted.get((version, protocol), 0)
        table.add_row(
            version, protocol, f"{was_sent:,}", f"{was_counted:,}", "equal" if was_sent == was_counted else "DIFFERENT"
        )
    return table
