"""The benchmark's two reports: tables for people, JSON for keeping."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import h2load
from loadtests.measurements import CLOSED, ONE, Measurement, Row, ServerFacts
from loadtests.openloop import Misses
from loadtests.processes import split_cores
from penstock.cli.version import request_path

_PACKAGES = (
    "penstock",
    "onnxruntime",
    "numpy",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "orjson",
    "grpcio",
    "fastapi",
)


def show(console: Console, rows: Sequence[Row], facts: Sequence[ServerFacts]) -> None:
    """One table for each model and load, and one of the servers."""
    for (model, load), group in groupby(rows, key=lambda row: (row.model, row.load)):
        console.print(_table(f"{model}, {load}", list(group)))
    console.print(_servers(facts))
    console.print("/inline, /batched: median over the rounds of the ratio to that ceiling in the round")
    console.print("~: fewer than ten durations of a round lie beyond this percentile")
    console.print("delayed: sent more than a millisecond after they were due; their durations include the wait")
    console.print("lag: the 99th percentile of the client's own delay; inf: so many requests have no answer")


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    columns = _closed if rows[0].load in CLOSED else _open
    for head in columns(rows[0]):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.contender, *columns(row).values())
    return table


def _closed(row: Row) -> dict[str, str]:
    what = "p50" if row.load == ONE else "req/s"
    return {
        "req/s": _format_number(row.rate),
        "min-max": f"{_format_number(row.rate_min)}-{_format_number(row.rate_max)}",
        **_format_times(row),
        "errors": str(row.errors),
        f"{what}/inline": _format_ratio(row.to_inline),
        f"{what}/batched": _format_ratio(row.to_batched),
        "CPU/batched": _format_ratio(row.cpu_to_batched),
    }


def _open(row: Row) -> dict[str, str]:
    """Everybody gets the same rate, so that all durations can be compared."""
    return {
        "req/s": _format_number(row.rate),
        **_format_times(row),
        "p50/batched": _format_ratio(row.to_batched),
        "p99": _format_ratio(row.p99_to_batched),
        "p99.9": _format_ratio(row.p999_to_batched),
        "CPU": _format_ratio(row.cpu_to_batched),
        "delayed": f"{row.delayed:,}",
        "lag ms": _format_number(row.lag_p99_ms),
        "missed": describe_missed(row.misses),
    }


def describe_missed(misses: Misses) -> str:
    """How many requests got no good answer, and why."""
    kinds = [f"{count:,} {kind}" for kind, count in asdict(misses).items() if count]
    return ", ".join(kinds) or "0"


def _format_times(row: Row) -> dict[str, str]:
    return {
        "p50 ms": _format_number(row.p50),
        "p99 ms": _format_tail(row.p99, row.samples >= 1000),
        "p99.9 ms": _format_tail(row.p999, row.samples >= 10_000),
        "CPU µs": _format_number(row.cpu_us),
    }


def _format_ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _format_tail(value: float, firm: bool) -> str:
    """A tail percentile, marked where fewer than ten durations of a round lie beyond it."""
    return _format_number(value) if firm else f"~{_format_number(value)}"


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _servers(facts: Sequence[ServerFacts]) -> Table:
    table = Table(title="servers", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for head in ("server", "model", "start s", "RSS MiB"):
        table.add_column(head)
    ordered = sorted(facts, key=lambda fact: (fact.model, fact.server))
    for (model, server), group in groupby(ordered, key=lambda fact: (fact.model, fact.server)):
        measurements = list(group)
        start = statistics.median(fact.start_s for fact in measurements)
        memory = statistics.median(fact.rss_bytes for fact in measurements) / 2**20
        table.add_row(server, model, f"{start:.2f}", f"{memory:,.0f}")
    return table


def write(
    folder: Path, plan: Any, rows: Sequence[Row], measurements: Sequence[Measurement], facts: Sequence[ServerFacts]
) -> Path:
    """Write everything, with the machine, the versions and the commit it stands on; the file's path."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y%m%d-%H%M%S}.json"
    content = {
        "at": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _machine(),
        "versions": _versions(),
        "plan": asdict(plan),
        "medians": [asdict(row) for row in rows],
        "servers": [asdict(fact) for fact in facts],
        "measurements": [asdict(measurement) for measurement in measurements],
    }
    path.write_text(json.dumps(content, indent=1, default=str) + "\n")
    return path


def _commit() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return said.stdout.strip()


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    server, client = split_cores()
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "server_cores": server,
        "client_cores": client,
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "h2load": h2load.require(), "request path": request_path()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
