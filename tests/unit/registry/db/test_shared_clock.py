"""The time that gateways agree on: steady whatever this machine's clock does, and on SQLite this machine's."""

from pathlib import Path

import pytest

from penstock.registry.db.database import open_database
from penstock.registry.db.lazy_database import LazyDatabase
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.stores.versions import VersionStore


class Machine:
    """Clocks set by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def clock(self) -> SharedClock:
        return SharedClock(lambda: self.wall, lambda: self.steady)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_setting_the_machines_clock_does_not_affect_decisions() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now() == 1_000_000.0
    machine.wall += 86_400
    assert clock.now() == 1_000_000.0
    machine.wait(5)
    assert clock.now() == 1_000_005.0
    assert clock.stamp() == 1_086_405.0  # what people read


def test_sqlite_has_the_machines_time(tmp_path: Path) -> None:
    machine = Machine()
    database = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    database.clock = machine.clock()
    with database.writing():
        machine.wait(1)
    with database.reading():
        assert database.clock.now() == machine.wall
    database.close()


def test_a_lazy_database_gives_its_time_to_existing_users(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    lazy = LazyDatabase(lambda: database)
    store = VersionStore(lazy)  # is made before anybody has asked
    with lazy.reading():
        pass
    assert lazy.clock is database.clock
    assert store.connections.clock is database.clock
    lazy.close()
    assert not (tmp_path / "registry.db-wal").exists()


def test_a_lazy_database_that_was_never_opened_has_nothing_to_close() -> None:
    LazyDatabase(lambda: pytest.fail("it was opened")).close()
