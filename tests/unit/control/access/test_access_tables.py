"""The access table follows the database and the files, survives their failure, and its epoch only grows."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from penstock.control.access.access_tables import AccessSources, AccessTables
from penstock.control.access.authenticator import Authenticator
from penstock.control.access.key_sets import EARLY_S, IssuerSource, KeySets
from penstock.core.access.table import AccessTable, Binding, Issuer, KeyRecord
from penstock.core.errors import NotReady
from tests.harness import reached

KEY = KeyRecord("a", "bot", "digest", ("caller",))
ENABLED = AccessTable(enabled=True, bindings=(Binding("viewer", group="ops"),))


class Keys:
    """The keys of a database that can go away."""

    def __init__(self, *records: KeyRecord) -> None:
        self.records = records
        self.number = 1
        self.away = False
        self.reads = 0

    def revision(self) -> int:
        if self.away:
            raise NotReady("the database is away")
        return self.number

    def list_valid(self) -> tuple[KeyRecord, ...]:
        self.reads += 1
        return self.records


class Gateway:
    """One control process: its tables, and what it has published."""

    def __init__(self, folder: Path, keys: Keys | None, settings: AccessTable = ENABLED, now: float = 5.0) -> None:
        self.published: list[AccessTable] = []
        self.authenticator = Authenticator(lambda: 0.0)
        sources = AccessSources(settings, keys, KeySets([]), folder / "access.json")
        self.tables = AccessTables(sources, self.authenticator, self.published.append, lambda: now)

    def accepted(self) -> tuple[KeyRecord, ...]:
        """The keys that are accepted."""
        return self.authenticator.table.keys

    async def __aenter__(self) -> "Gateway":
        await self.tables.start()
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.tables.close()


class CountedFetches(KeySets):
    """A key set at an address, which counts how often it is fetched."""

    def __init__(self) -> None:
        super().__init__([IssuerSource(Issuer("https://issuer", "penstock", ""), None, "https://issuer/keys")])
        self.fetched = 0

    def fetch(self) -> None:
        self.fetched += 1


def test_an_unknown_key_wakes_the_fetch_once_in_some_seconds(tmp_path: Path) -> None:
    async def run() -> None:
        seconds, unknown, key_sets = [0.0], [0], CountedFetches()
        sources = AccessSources(ENABLED, None, key_sets, tmp_path / "access.json", lambda: unknown[0])
        authenticator = Authenticator(lambda: 0.0)
        tables = AccessTables(sources, authenticator, lambda _: None, clock=lambda: seconds[0])
        await tables.start()
        fetching = asyncio.create_task(tables.tasks[1].run())
        await reached(lambda: key_sets.fetched == 1)
        for seconds[0], unknown[0] in ((1.0, 1), (EARLY_S - 0.1, 100), (EARLY_S, 100)):
            await tables.refresh()
        await reached(lambda: key_sets.fetched == 2)
        for seconds[0] in (EARLY_S, 2 * EARLY_S):  # no token since
            await tables.refresh()
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        tables.close()
        assert key_sets.fetched == 2

    asyncio.run(run())


def test_a_change_is_published_once(tmp_path: Path) -> None:
    async def run() -> None:
        keys = Keys()
        async with Gateway(tmp_path, keys) as gateway:
            assert [table.keys for table in gateway.published] == [()]
            await gateway.tables.refresh()
            assert (len(gateway.published), keys.reads) == (1, 1)
            keys.records, keys.number = (KEY,), 2
            await gateway.tables.refresh()
            assert gateway.published[-1].keys == (KEY,)
            assert gateway.authenticator.table == gateway.published[-1]
            keys.number = 3  # another change of the registry
            await gateway.tables.refresh()
            assert (len(gateway.published), keys.reads) == (2, 3)
            assert gateway.published[0].epoch < gateway.published[1].epoch
            assert gateway.published[1].bindings == ENABLED.bindings

    asyncio.run(run())


def test_keys_of_an_unchanged_database_are_not_read_again(tmp_path: Path) -> None:
    async def run() -> None:
        keys, mark = Keys(KEY), [1]
        sources = AccessSources(ENABLED, keys, KeySets([]), tmp_path / "access.json", mark=lambda: mark[-1])
        tables = AccessTables(sources, Authenticator(lambda: 0.0), lambda _: None)
        await tables.start()
        keys.away = True
        await tables.refresh()
        mark.append(2)
        for _ in range(2):
            with pytest.raises(NotReady):
                await tables.refresh()
        tables.close()

    asyncio.run(run())


def test_the_epoch_grows_also_over_restarts_and_clocks_that_are_set_back(tmp_path: Path) -> None:
    async def run() -> None:
        epochs = []
        for now in (100.0, 50.0, 200.0):
            async with Gateway(tmp_path, Keys(KEY), now=now) as gateway:
                epochs += [table.epoch for table in gateway.published]
        assert epochs == [100_000, 100_001, 200_000]

    asyncio.run(run())


def test_while_the_database_is_away_the_last_known_keys_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        keys = Keys(KEY)
        async with Gateway(tmp_path, keys) as gateway:
            keys.away = True
            with pytest.raises(NotReady):
                await gateway.tables.refresh()
            assert gateway.accepted() == (KEY,)
        async with Gateway(tmp_path, keys) as later:
            assert later.accepted() == (KEY,)
            assert "those last known are used" in caplog.text
            keys.away, keys.number = False, 2
            keys.records = ()
            await later.tables.refresh()
            assert later.accepted() == ()
        keys.away = True
        async with Gateway(tmp_path / "nothing", keys) as new:
            assert new.authenticator.enabled and new.accepted() == ()
            assert "cannot be saved" in caplog.text

    asyncio.run(run())


def test_keys_of_an_earlier_process_do_not_outlive_the_setting(tmp_path: Path) -> None:
    async def run() -> None:
        async with Gateway(tmp_path, Keys(KEY)):
            pass
        async with Gateway(tmp_path, None) as gateway:
            assert gateway.accepted() == ()

    asyncio.run(run())


def test_without_authentication_the_workers_hear_that_nobody_needs_a_credential(tmp_path: Path) -> None:
    async def run() -> None:
        async with Gateway(tmp_path, None, AccessTable()) as gateway:
            assert gateway.published == [AccessTable()]
            assert gateway.tables.tasks == ()
            assert list(gateway.tables.readings()) is not None
        assert not (tmp_path / "access.json").exists()

    asyncio.run(run())


def test_a_file_of_another_release_is_not_read_as_a_table(tmp_path: Path) -> None:
    (tmp_path / "access.json").write_text('{"epoch": 1}')

    async def run() -> None:
        async with Gateway(tmp_path, Keys(KEY)) as gateway:
            assert gateway.accepted() == (KEY,)

    asyncio.run(run())


def test_a_table_that_cannot_be_saved_is_used_and_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "access.json").mkdir()

    async def run() -> None:
        keys = Keys()
        async with Gateway(tmp_path, keys) as gateway:
            for number, records in ((2, (KEY,)), (3, ())):
                keys.number, keys.records = number, records
                await gateway.tables.refresh()
            assert gateway.accepted() == ()

    asyncio.run(run())
    assert caplog.text.count("cannot be saved") == 1
