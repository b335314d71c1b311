"""Events and refusals become entries: events before they happen, refusals in bounded number."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from penstock.control.audit import recorder as recorders
from penstock.control.audit.recorder import AuditRecorder
from penstock.core.access.refusals import Refusal
from penstock.core.errors import NotReady
from penstock.registry.db.database import open_database
from penstock.registry.records import Author, Document
from penstock.registry.stores.versions import VersionStore
from penstock.telemetry.readings import Point

REFUSAL = Refusal("auth.refuse", "anonymous", address="192.0.2.1", detail="unknown_key")


class Away(VersionStore):
    """A store whose database is away for some calls."""

    failures = 0

    def record_event(
        self, action: str, subject: str, by: Author, model: str = "", after: Document | None = None
    ) -> None:
        if self.failures:
            self.failures -= 1
            raise NotReady("the database is away")
        super().record_event(action, subject, by, model, after)


class Bench:
    """A recorder over a database of its own, whose clock a test sets."""

    def __init__(self, home: Path) -> None:
        self.database = open_database(f"sqlite:///{home / 'registry.db'}", 5.0)
        self.store = Away(self.database)
        self.now = 0.0
        self.recorder = AuditRecorder(self.store, lambda: self.now)


def on(tmp_path: Path, act: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        try:
            await act(bench)
        finally:
            bench.recorder.close()
            bench.database.close()

    asyncio.run(run())


def test_an_event_is_an_entry_with_all_of_its_author(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        by = Author("bot", "because", "key", "k1", "192.0.2.7", "r-1", "ann")
        await bench.recorder.record("model.load", "repository", by, "m", {"config": True})
        await bench.recorder.record("key.create", "keys/k2", by)
        load, key = bench.store.audit()
        assert (load.subject, key.subject) == ("models/m/repository", "keys/k2")
        assert (load.actor, load.reason, load.method, load.key_id) == ("bot", "because", "key", "k1")
        assert (load.address, load.request_id, load.on_behalf_of) == ("192.0.2.7", "r-1", "ann")
        assert (load.after, key.after) == ({"config": True}, None)

    on(tmp_path, act)


def test_an_event_that_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.store.failures = 1
        with pytest.raises(NotReady):
            await bench.recorder.record("model.load", "repository", Author("ann"), "m")

    on(tmp_path, act)


def test_ten_thousand_bad_logins_are_less_than_a_hundred_entries(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        for number in range(10_000):
            bench.now = number / 100
            bench.recorder.count_refusal(REFUSAL if number % 2 else Refusal("auth.refuse", f"a{number}"))
        await bench.recorder.step()
        bench.now += 60.0
        await bench.recorder.flush()
        entries = bench.store.audit(limit=1000)
        assert 0 < len(entries) < 100
        assert sum(entry.after["count"] for entry in entries if entry.after) == 10_000
        [first, *_] = [entry for entry in entries if entry.address]
        assert (first.action, first.actor, first.subject) == ("auth.refuse", "anonymous", "access")
        assert first.after == {"count": 1, "detail": "unknown_key"}

    on(tmp_path, act)


def test_refusals_wait_while_the_database_is_away_and_their_number_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "MOST_WAITING", 2)

    async def act(bench: Bench) -> None:
        for number in range(5):
            bench.recorder.count_refusal(Refusal("access.refuse", f"a{number}"), 3)
        assert [point.value for point in bench.recorder.readings() if isinstance(point, Point)] == [9]
        bench.store.failures = 2
        with pytest.raises(NotReady):
            await bench.recorder.step()
        await bench.recorder.flush()  # it is away still: the end does not wait for it
        assert bench.store.audit() == []
        await bench.recorder.step()
        assert [entry.actor for entry in bench.store.audit()] == ["a0", "a1"]

    on(tmp_path, act)


def test_refusals_of_workers_are_counted_by_kind(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        fields = {"action": "access.refuse", "actor": "bot", "method": "key", "key_id": "k1", "address": ""}
        bench.recorder.count_kinds([{**fields, "detail": "'read'", "count": 3}])
        await bench.recorder.step()
        entry = bench.store.audit(limit=1)[0]
        assert (entry.action, entry.actor) == ("access.refuse", "bot")

    on(tmp_path, act)
