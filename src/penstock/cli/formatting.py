"""Formats tables, states, sizes and times for people."""

from datetime import datetime
from typing import Any

from rich.table import Table

from penstock.cli.client import Document

COLOURS = {"READY": "green", "LOADING": "yellow", "UNLOADING": "yellow", "UNAVAILABLE": "red", "RETIRED": "dim"}


def table_of(*heads: str) -> Table:
    """Return an empty table with these column headings."""
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head)
    return table


def state_text(state: str) -> Any:
    """Return a state as text in its colour."""
    from rich.text import Text

    return Text(state, style=COLOURS.get(state, ""))


def size_text(size: int | None) -> str:
    """Return a number of bytes with a binary unit; "" for None."""
    if size is None:
        return ""
    amount, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def date_of(text: str | None) -> str:
    """Return an ISO 8601 time in the local time zone, to the second; "" for None."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def label_delay(delay: Document | None) -> str:
    """Return the age of the labels that a result rests on; "" for None."""
    if delay is None:
        return ""
    return f"all below {delay['all_below']:g} s, half below {delay['median_below']:g} s"
