"""What the evidence of a fleet costs: simulated gateways publish the counts of many models to a real PostgreSQL.

``python -m loadtests.evidence`` makes a server of its own (tests/postgres.py), has every gateway count rows of every
model between two steps, and times each gateway's publication and the step of the one that leads, one after the other on
one connection pool each, as the shares of the interval that they take.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from penstock.control.monitoring.fleet_evidence import INTERVAL_S, FleetEvidence
from penstock.control.monitoring.publication import CountsLayout, VersionCounts, layout_id
from penstock.control.monitoring.publisher import Publisher
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.columns import RowValues
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.drift_changes import DriftChange
from penstock.monitor.performance import PerformanceChange
from penstock.monitor.reference import Reference
from penstock.monitor.reference_builder import build
from penstock.monitor.rows import RegionLayout
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.db.database import open_database
from penstock.registry.records import Document
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.traffic import TrialEvent
from tests import postgres


class Simulated:
    """A gateway's counts, made up: every version has the same reference, and rows that look like it."""

    def __init__(self, reference: Reference, models: int, seed: int) -> None:
        self._reference = reference
        self._keys = [(f"model-{number}", "1") for number in range(models)]
        self._shape = CountsLayout(layout_id(reference.digest, ()), RegionLayout.of(reference))
        self._random = np.random.default_rng(seed)
        self._cells = {key: np.zeros(self._shape.size, np.uint64) for key in self._keys}
        self._slots = {key: Slot.in_process() for key in self._keys[:1]}

    def count(self, rows: int) -> None:
        """Count rows, and requests of the first model (whose block stands for all), at random."""
        block = next(iter(self._slots.values())).block(1)
        for _ in range(20):
            total = int(self._random.lognormal(13, 1))
            block.add_alone(0, 1, total, total // 10, total // 10, total // 2, total // 10, True)
        for cells in self._cells.values():
            cells[:2] += np.uint64(rows)
            for at, feature in zip(RegionLayout.of(self._reference).places, self._reference.features, strict=True):
                shares = np.asarray(feature.counts, float)
                counts = self._random.multinomial(rows, shares / shares.sum())
                cells[at : at + len(counts)] += counts.astype(np.uint64)

    def own_counts(self) -> dict[VersionKey, VersionCounts]:
        """See ``fleet_evidence.Watched``."""
        block = Totals.of(list(self._slots.values()), 1).cells
        return {key: VersionCounts(self._shape, self._cells[key].copy(), 2, block.copy()) for key in self._keys}

    def terms(self, key: VersionKey) -> tuple[Reference | None, MonitorPolicy]:
        """See ``fleet_evidence.Watched``."""
        return self._reference, MonitorPolicy()

    def event_of(self, key: VersionKey, change: DriftChange, monitor: VersionMonitor) -> TrialEvent:
        """See ``fleet_evidence.Watched``."""
        return TrialEvent("drift.detected.v1", f"models/{key[0]}", f"{change.feature} {time.time()}", {})

    def performance_event_of(self, key: VersionKey, change: PerformanceChange) -> TrialEvent:
        """See ``fleet_evidence.Watched``."""
        return TrialEvent("performance.degraded.v1", f"models/{key[0]}", f"{change.what} {time.time()}", {})

    def document_of(
        self,
        key: VersionKey,
        monitor: VersionMonitor | None,
        totals: Totals,
        performance: Document | None = None,
        shown: ShownColumns = ALL_COLUMNS,
    ) -> Document:
        """See ``fleet_evidence.Watched``."""
        return {} if monitor is None else monitor.document(shown)


def made_up(columns: int) -> Reference:
    """A reference of so many numbers, and two scores."""
    random = np.random.default_rng(0)
    names = [f"x{number}" for number in range(columns)]
    rows = RowValues(random.normal(size=(10_000, columns)), ())
    return build((names, ["y0"]), rows, RowValues(random.uniform(size=(10_000, 1)), ()), "training")


async def _on_this_thread(work: Any, *arguments: Any) -> Any:
    return work(*arguments)


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    return {"median_ms": round(float(np.median(seconds)) * 1e3, 2), "worst_ms": round(max(seconds) * 1e3, 2)}


def measure(url: str, notes: Path, gateways: int, models: int, columns: int, steps: int) -> dict[str, Any]:
    """Times of publications and of the leader's steps, and what lies in the database afterwards."""
    import asyncio  # noqa: PLC0415 - the coroutine below is run step by step

    reference = made_up(columns)
    simulated = [Simulated(reference, models, seed) for seed in range(gateways)]
    database = open_database(url, 30.0)
    leading = FleetEvidence(EvidenceStore(database), "gateway-0", simulated[0], _on_this_thread, notes / "0")
    others = [
        Publisher(EvidenceStore(database), f"gateway-{number}", notes / str(number)) for number in range(1, gateways)
    ]
    publications, used_by_each, looks, cpu = [], [], [], []
    for _ in range(steps):
        for gateway in simulated:
            gateway.count(20)
        for publisher, gateway in zip(others, simulated[1:], strict=True):
            counts = gateway.own_counts()
            began, used = time.perf_counter(), time.process_time()
            publisher.publish(counts)
            publications.append(time.perf_counter() - began)
            used_by_each.append(time.process_time() - used)
        began, used = time.perf_counter(), time.process_time()
        asyncio.run(leading.step())
        looks.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    with database.reading() as connection:
        rows = connection.execute(sa.text("SELECT count(*), sum(length(words) + length(block)) FROM counts")).one()
        size = connection.execute(sa.text("SELECT pg_total_relation_size('counts')")).scalar_one()
        verdicts = connection.execute(sa.text("SELECT pg_total_relation_size('verdicts')")).scalar_one()
    database.close()
    return {
        "gateways": gateways,
        "models": models,
        "columns": columns,
        "steps": steps,
        "publication": _quantiles(publications[len(others) :] or publications),
        "publication_cpu": _quantiles(used_by_each[len(others) :] or used_by_each),
        "publication_cores_of_all": round(gateways * float(np.median(used_by_each or [0.0])) / INTERVAL_S, 3),
        "leader_step": _quantiles(looks[1:] or looks),
        "leader_cpu": _quantiles(cpu[1:] or cpu),
        "leader_cpu_share": round(float(np.median(cpu[1:] or cpu)) / INTERVAL_S, 3),
        "leader_step_that_writes_all_ms": round(looks[0] * 1e3, 2),
        "rows": int(rows[0]),
        "bytes_a_row": round(float(rows[1]) / max(1, int(rows[0]))),
        "counts_bytes_with_dead_rows": int(size),
        "verdicts_bytes_with_dead_rows": int(verdicts),
    }


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, default=50)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--steps", type=int, default=4)
    asked = parser.parse_args()
    with postgres.running() as server:
        url = server.create("evidence").replace("postgresql://", "postgresql+psycopg://")
        with tempfile.TemporaryDirectory(dir="/dev/shm") as notes:  # where instances are
            found = measure(url, Path(notes), asked.gateways, asked.models, asked.columns, asked.steps)
        print(json.dumps(found, indent=1))
        print(f"of {Path('/proc/loadavg').read_text().split()[0]} load on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
