"""A month of retraining in simulated time: 24 times a day each model gets a new version, and nothing grows for ever.

What is real: the database, the contents, the laying out, the janitor, the reconciler, the counters in shared memory and
the readings of a scrape. Workers and their requests are simulated; the clock is the test's.
"""

import asyncio
import gc
import io
import logging
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.control.instance import directory
from penstock.control.instance.options import WorkerOptions
from penstock.control.plane.control_plane import ControlPlane
from penstock.control.reconcile.planner import MaterializedVersion, SourceModel
from penstock.control.retention import DAY_S, HomeFiles, Janitor, ReferencedDigests, RetentionLimits
from penstock.control.workers import slots
from penstock.control.workers.process import WorkerProcess
from penstock.core.labels import OUTCOME_INDEX
from penstock.core.versions import VersionPolicy
from penstock.engine.scratch import scratch_folder
from penstock.monitor.counters.layout import BLOCKS
from penstock.registry.blobs.folder import FolderBlobs, IncomingFile
from penstock.registry.contents.archive import receive
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.db import schema
from penstock.registry.db.database import open_database
from penstock.registry.garbage_collection import collect
from penstock.registry.records import AdmissionReport, Author, Content, VersionRecord
from penstock.registry.stores import audit_archive
from penstock.registry.stores.audit_archive import AuditArchives
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import ROLLOUT, TrafficStore, TrialChange, TrialEvent
from penstock.registry.stores.versions import VersionStore

log = logging.getLogger(__name__)

BY = Author("pipeline", "retrained")
HOUR_S = 3600.0
LINES = 12
"""Most entries of the audit for one retraining."""

KEPT = 2
"""Versions of a model that are not retired."""

KEEPING = RetentionLimits(
    events_s=2 * DAY_S,
    audit_s=2 * DAY_S,
    trials_s=2 * DAY_S,
    trials_per_model=30,
    deliveries_s=1 * DAY_S,
    dead_deliveries_s=2 * DAY_S,
    retired_versions_s=2 * DAY_S,
    references_s=1 * DAY_S,
    exports_s=2 * DAY_S,
    copies_s=1 * DAY_S,
)
"""Short times, so that a month has many of them and a test of some days a few."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What there is at one time; ``objects`` are those that the collector of Python follows, ``scrape_s``
    is the processor time of one scrape, the least of some, and ``resident`` the memory of this process. Bytes."""

    rows: dict[str, int]
    files: int
    disk: int
    database: int
    resident: int
    series: int
    blocks: int
    objects: int
    scrape_s: float


@dataclass(slots=True)
class Offered:
    """The source of models: what was laid out last."""

    models: dict[str, SourceModel] = field(default_factory=dict)

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[SourceModel]:
        """See ``reconciler.Source``."""
        return list(self.models.values())


class Month:
    """A gateway with a registry of its own, and pipelines that push versions to it."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.now = time.time()
        self._numbers: dict[str, int] = {}
        self.home = folder / "home"
        self.home.mkdir()
        self.database = open_database(url or f"sqlite:///{self.home / 'registry.db'}", 5.0)
        self.blobs = FolderBlobs(self.home / "blobs", self.clock)
        self.layout = ContentLayout(self.blobs, self.home / "unpacked")
        self.store = VersionStore(self.database, self.clock)
        self.traffic = TrafficStore(self.database, self.clock)
        self.outbox = Outbox(self.database, self.traffic, self.clock)
        self.monitor = MonitorStore(self.database, self.clock)
        self.source = Offered()
        instance = directory.create(directory.make_private(folder / "run"))
        slots.create(instance.slot(0))
        options = WorkerOptions("127.0.0.1", 0, 0)
        self.plane = ControlPlane(instance, options, self.source, _no_worker, 1.0, clock=self.clock)
        archives = AuditArchives(self.database, lambda: self.blobs, self.home / "incoming", self.clock)
        self.janitor = Janitor(
            KEEPING,
            RetentionStore(self.database, self.clock),
            archives,
            HomeFiles(self.home, KEEPING, self.clock, instance.path),
            self.database.acquire_leadership,
            self._needed,
            self.plane.reconciler.offered_versions,
        )

    def clock(self) -> float:
        return self.now

    def _needed(self) -> ReferencedDigests:
        contents = {digest.removeprefix("sha256:") for digest in self.store.contents.needed()}
        return ReferencedDigests(
            contents, {reference.digest.removeprefix("sha256:") for reference in self.monitor.references()}
        )

    async def pass_days(self, days: float, models: int, every: int) -> None:
        """Let each model be retrained once in so many hours, and the janitor pass every hour."""
        self.plane.reconciler.begin(list(self.source.models.values()))
        for hour in range(int(days * 24)):
            for model in range(models) if hour % every == 0 else ():
                self._retrain(f"model-{model}")
            await self.plane.reconciler.refresh()
            self._serve()
            self.now += HOUR_S
            self.plane.reconciler.step()
            collect(self.store, self.blobs, self.layout, HOUR_S)
            await self.janitor.step()

    def _retrain(self, model: str) -> None:
        number = self._numbers[model] = self._numbers.get(model, 0) + 1
        self._ask(model, number)
        self._push(model, str(number))
        self._roll_out(model, str(number))
        if number > KEPT:
            self.store.retire(model, str(number - KEPT), BY)

    def _ask(self, model: str, number: int) -> None:
        """A request for retraining, its deliveries, and what a training command leaves."""
        event = TrialEvent("retraining.requested.v1", f"models/{model}", str(number), {"model": model})
        revision = self.outbox.rule_state(model)[1]
        self.outbox.commit(model, revision, {"n": number}, event, ["train", "hook"], BY)
        for delivery in [delivery for delivery in self.outbox.due() if delivery.model == model]:
            if delivery.sink == "hook" and number % 10 == 0:
                failure = TrialEvent("delivery.failed.v1", f"models/{model}", str(number), {})
                self.outbox.mark_dead(delivery, "it answered 500", failure)
                continue
            self.outbox.mark_sent(delivery)
        export = self.home / "retraining" / f"{model}-{number}"
        export.mkdir(parents=True)
        (export / "rows.parquet").write_bytes(bytes(4096))
        self._made_now(export)

    def _push(self, model: str, version: str) -> None:
        content = self._content(f"{model} {version}".encode())
        stamp = RetentionStore(self.database, self.clock)
        record = VersionRecord(
            model, version, content, str(stamp.now()), "pipeline", report=AdmissionReport("", {"ops": {}})
        )
        self.store.add_version(record, BY)
        folder, graph = self.layout.materialize(content)
        self._made_now(folder)
        digest = f"sha256:{model}-{version}"
        self.monitor.set_reference(ReferenceRecord(model, version, digest, "training"), {"columns": []}, BY)
        file = self.home / "references" / f"{model}-{version}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
        self._made_now(file)
        before = self.source.models.get(model, SourceModel(model)).versions
        versions = dict(list({**before, version: MaterializedVersion(str(graph), version)}.items())[-KEPT:])
        self.source.models[model] = SourceModel(model, versions, policy=VersionPolicy("all"))

    def _content(self, graph: bytes) -> Content:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, data in (("model.onnx", graph), ("weights.bin", bytes(1024))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        with IncomingFile(self.home / "incoming", 1 << 20) as incoming:
            incoming.write(packed.getvalue())
            incoming.close()
            with scratch_folder(self.home / "incoming", "unpacked") as folder:
                content = receive(incoming.path, folder, 1 << 20)
            self.blobs.keep(incoming.path, content.digest)
        self._made_now(self.blobs.fetch(content.digest))
        return content

    def _roll_out(self, model: str, version: str) -> None:
        trial = self.traffic.begin(
            model, ROLLOUT, lambda _model, _id: TrialChange({"to": version}, keep_route=True), BY
        )
        self.traffic.observe(trial.id, "gateway", {"n": 1})
        over = TrialChange({"to": version, "steps": ["x" * 100] * 10}, open=False, keep_route=True)
        self.traffic.change(trial, lambda _model: over, "promote", BY)
        self.traffic.observe(trial.id, "gateway", {"n": 2})  # it comes late
        self.store.aliases.move(model, "champion", version, BY)

    def _serve(self) -> None:
        """One request of each version that is served, and one that was refused."""
        for block in self.plane.reconciler.state.blocks.values():
            writer = self.plane._slots[0].block(block)
            writer.count_failure(0, OUTCOME_INDEX["invalid"], 1_000_000, attributed=True)
            writer.count_shed(0)

    def _made_now(self, path: Path) -> None:
        os.utime(path, (self.now, self.now))

    def sizes(self) -> Sizes:
        """What there is now."""
        with self.database.reading() as connection:
            count = sa.select(sa.func.count())
            rows = {
                name: int(connection.execute(count.select_from(table)).scalar_one())
                for name, table in schema.metadata.tables.items()
            }
        paths = [path for path in self.home.rglob("*") if path.is_file() and not path.name.startswith("registry.db")]
        gc.collect()
        return Sizes(
            {name: number for name, number in rows.items() if number},
            len(paths),
            sum(path.stat().st_size for path in paths),
            self._database_bytes(),
            int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            len(list(self.plane.readings())),
            len(self.plane.reconciler.state.blocks),
            len(gc.get_objects()),
            min(_processor_time(lambda: list(self.plane.readings())) for _ in range(5)),
        )

    def _database_bytes(self) -> int:
        with self.database.reading() as connection:
            if connection.dialect.name == "sqlite":
                return (self.home / "registry.db").stat().st_size
            return int(connection.execute(sa.text("select pg_database_size(current_database())")).scalar_one())


def _processor_time(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _no_worker(_slot: int) -> WorkerProcess:
    raise AssertionError


@contextmanager
def made(folder: Path, url: str = "") -> Iterator[Month]:
    month = Month(folder, url)
    try:
        yield month
    finally:
        month.database.close()


def soak(month: Month, first: float, second: float, models: int, every: int = 1) -> tuple[Sizes, Sizes]:
    """What there is after so many days, and after as many more."""
    asyncio.run(month.pass_days(first, models, every))
    sizes = month.sizes()
    log.warning("after %g days %s", first, sizes)
    asyncio.run(month.pass_days(second, models, every))
    return sizes, month.sizes()


def check(first: Sizes, last: Sizes, models: int) -> None:
    """Whatever was bounded early is as large later; archives of the audit, which stay, aside."""
    stay = {"audit", "audit_archives"}
    assert {name for name in last.rows if last.rows[name] > 1.1 * first.rows[name] + 5} <= stay
    assert last.rows["audit"] <= audit_archive.ENTRIES + models * 24 * 2.2 * LINES  # it goes by whole archives
    assert last.files <= 1.1 * first.files + last.rows.get("audit_archives", 0) + 5
    assert last.series == first.series
    assert last.blocks <= models * (KEPT + 2) < BLOCKS
    assert last.objects <= 1.05 * first.objects + 1000
    for name, days in (("events", 2.2), ("trials", 2.2), ("references", 1.2), ("versions", 2.2)):
        assert last.rows[name] <= models * (24 * days + KEPT + 24), name


def test_days_of_retraining_leave_no_more_behind_than_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_archive, "PATIENCE_S", DAY_S)
    with made(tmp_path) as month:
        first, last = soak(month, 4, 2, models=1, every=4)
    check(first, last, models=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_month_of_retraining_leaves_no_more_behind_than_the_settings_say(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    url = "" if kind == "sqlite" else request.getfixturevalue("server").create("soak")
    with made(tmp_path, url) as month:
        first, last = soak(month, 15, 15, models=10)
    log.warning("after 30 days %s", last)
    check(first, last, models=10)
