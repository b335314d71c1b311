"""Tables, states, sizes and times as people read them."""

from datetime import datetime
from typing import Any

from rich.table import Table

from penstock.cli.client import Document

COLOURS = {"READY": "green", "LOADING": "yellow", "UNLOADING": "yellow", "UNAVAILABLE": "red", "RETIRED": "dim"}


def table_of(*heads: str) -> Table:
    """An empty table for people."""
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head)
    return table


def state_text(state: str) -> Any:
    """A state in its colour."""
    from rich.text import Text

    return Text(state, style=COLOURS.get(state, ""))


def size_text(size: int | None) -> str:
    """A number of bytes with a unit, "" for none."""
    if size is None:
        return ""
    amount, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def date_of(text: str | None) -> str:
    """A moment as people read it, in their own time zone."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def label_delay(delay: Document | None) -> str:
    """How old the labels were that something rests on, in words; "" for none."""
    if delay is None:
        return ""
    return f"below {delay['all_below']:g} s, half below {delay['median_below']:g} s"
