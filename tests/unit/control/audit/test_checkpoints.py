"""When checkpoints are signed, by which gateway, and where they are kept."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from penstock.control.audit.checkpoints import CHECKPOINT_ENTRIES, CHECKPOINT_S, CheckpointSigner, is_due
from penstock.core.errors import DataLoss
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.checkpoint_file import CheckpointFile
from penstock.registry.db.database import open_database
from penstock.registry.records import Author
from penstock.registry.stores import audit_checkpoints
from penstock.registry.stores.audit_checkpoints import AuditCheckpoints
from penstock.registry.stores.audit_log import AuditLog
from penstock.registry.stores.outbox import SUPERSEDED, Outbox
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from penstock.telemetry.delivery_metrics import DELIVERIES
from penstock.telemetry.readings import Point
from tests.leases import leading


@pytest.mark.parametrize(
    ("uncovered", "waited_s", "due"),
    [
        (0, 10 * CHECKPOINT_S, False),
        (1, CHECKPOINT_S - 1, False),
        (1, CHECKPOINT_S, True),
        (CHECKPOINT_ENTRIES - 1, 0.0, False),
        (CHECKPOINT_ENTRIES, 0.0, True),
    ],
)
def test_a_checkpoint_is_due_after_a_minute_or_many_entries(uncovered: int, waited_s: float, due: bool) -> None:
    assert is_due(uncovered, waited_s) is due


class Looking(AuditCheckpoints):
    """Counts how often the database is asked for entries."""

    looks = 0

    def uncovered(self) -> int:
        Looking.looks += 1
        return super().uncovered()


class Bench:
    """The signer of one gateway over a database of its own."""

    def __init__(self, home: Path) -> None:
        self.database = leading(open_database(f"sqlite:///{home / 'registry.db'}", 5.0))
        self.store = VersionStore(self.database)
        self.traffic = TrafficStore(self.database)
        self.log = AuditLog(self.database, lambda: FolderBlobs(home / "blobs"))
        self.file = CheckpointFile(home / "audit-checkpoints.txt")
        self.home, self.now, self.leads = home, 0.0, True
        Looking.looks = 0
        self.signers: list[CheckpointSigner] = []
        self.signer = self.new_signer()

    def new_signer(self, *sinks: str) -> CheckpointSigner:
        checkpoints = Looking(self.database, self.log, sinks=sinks)
        key, identity = self.home / "audit.key", self.log.identity
        self.signers.append(
            CheckpointSigner(checkpoints, self.file, key, lambda: self.leads, identity, lambda: self.now)
        )
        return self.signers[-1]

    def change(self) -> None:
        self.store.record_event("model.load", "repository", Author("ann"), "m")

    def sizes(self) -> list[int]:
        return [item.checkpoint.size for item in self.file.read()]


def on(tmp_path: Path, act: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        try:
            await act(bench)
        finally:
            for signer in bench.signers:
                signer.close()
            bench.database.close()

    asyncio.run(run())


def test_the_leader_signs_for_the_file_and_the_events(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        await bench.signer.step()
        bench.change()
        await bench.signer.step()
        assert not (tmp_path / "audit.key").exists()  # nothing was due yet
        bench.now = CHECKPOINT_S
        await bench.signer.step()
        bench.now = 3 * CHECKPOINT_S
        await bench.signer.step()
        assert bench.sizes() == [1]
        bench.change()
        await bench.signer.step()
        assert bench.sizes() == [1, 2]
        events = bench.traffic.events()
        assert [event["type"] for event in events] == ["io.penstock.audit.checkpoint.v1"] * 2
        assert events[-1]["data"]["note"] == bench.log.newest_checkpoint().note

    on(tmp_path, act)


def test_a_signed_audit_is_not_looked_at_until_the_database_changes(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.change()
        for bench.now in (1.0, 2.0, CHECKPOINT_S):
            await bench.signer.step()
        assert (Looking.looks, bench.sizes()) == (3, [1])  # the entry is signed when it is due
        for _ in range(3):
            await bench.signer.step()
        assert Looking.looks == 4  # the signature was a change
        bench.change()
        await bench.signer.step()
        assert Looking.looks == 5

    on(tmp_path, act)


def test_each_checkpoint_waits_for_each_sink_and_the_oldest_make_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_checkpoints, "MOST_WAITING", 2)

    async def act(bench: Bench) -> None:
        signer = bench.new_signer("hook", "log")
        for number in range(1, 5):
            bench.change()
            bench.now = number * CHECKPOINT_S
            await signer.step()
        outbox = Outbox(bench.database, bench.traffic)
        assert outbox.pending()[""][0] == 4
        states = [(item["sink"], item["state"], item["error"]) for item in outbox.deliveries("")]
        assert states[:4] == [(sink, "pending", "") for sink in ("log", "hook", "log", "hook")]
        assert {state[1:] for state in states[4:]} == {("dead", SUPERSEDED)}
        assert Point(DELIVERIES, ("", "superseded"), 4) in list(signer.readings())

    on(tmp_path, act)


def test_another_gateway_keeps_what_the_leader_signs(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.change()
        bench.now = CHECKPOINT_S
        bench.leads = False
        await bench.signer.step()
        assert bench.sizes() == []
        bench.leads = True
        await bench.signer.step()
        again = bench.new_signer()  # a new process on the same home
        await again.step()
        assert bench.sizes() == [1]

    on(tmp_path, act)


@pytest.mark.parametrize("change", [f"hash = '{'0' * 64}'", "actor = 'mallory'"])
@pytest.mark.parametrize("restarted", [False, True])
def test_an_audit_that_differs_from_the_last_checkpoint_is_not_signed(
    tmp_path: Path, change: str, restarted: bool
) -> None:
    if change.startswith("actor") and not restarted:
        return  # a process that goes on reads no entry twice

    async def act(bench: Bench) -> None:
        bench.change()
        bench.now = CHECKPOINT_S
        await bench.signer.step()
        with bench.database.writing() as connection:
            connection.exec_driver_sql("DROP TRIGGER audit_no_update")
            connection.exec_driver_sql(f"UPDATE audit SET {change}")
        bench.change()
        bench.now = 2 * CHECKPOINT_S
        signer = bench.new_signer() if restarted else bench.signer
        bench.now = 4 * CHECKPOINT_S
        with pytest.raises(DataLoss, match="penstock audit verify"):
            await signer.step()
        assert bench.sizes() == [1]

    on(tmp_path, act)
