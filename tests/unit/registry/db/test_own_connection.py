"""The mark of a database: another one after every change, whoever makes it, but not after what a gateway renews."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.core.errors import NotReady
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lazy_database import LazyDatabase
from penstock.registry.db.lease import LeaderConnections, NotLeading
from penstock.registry.db.own_connection import OwnConnection
from penstock.registry.records import Author
from penstock.registry.stores.gateways import GatewayDescription, GatewayStore
from penstock.registry.stores.keys import KeyStore
from penstock.registry.stores.monitor import MonitorStore
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from tests.leases import leading

SELF = GatewayDescription("a", "host", "1", 0.0, 1, {})


def opened(folder: Path) -> Database:
    return leading(open_database(f"sqlite:///{folder / 'registry.db'}", 5.0), "a")


def change(database: Database) -> None:
    VersionStore(database).record_event("model.load", "repository", Author("ann"), "m")


def fill_up(database: Database) -> None:
    with database.renewing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        connection.exec_driver_sql("CREATE TABLE big AS SELECT zeroblob(100000) AS b")


def test_every_change_gives_another_mark(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database, closing(opened(tmp_path)) as other:
        marks = [database.change_mark()]
        changes: tuple[Callable[[], object], ...] = (
            lambda: change(database),
            lambda: change(other),
            lambda: GatewayStore(other).beat(SELF),  # other processes' heartbeats are changes
        )
        for act in changes:
            act()
            marks.append(database.change_mark())
            assert marks[-1] == database.change_mark()  # the same while nothing happens
        assert None not in marks
        assert len(set(marks)) == len(marks)


def test_the_lease_and_the_heartbeat_do_not_count_as_a_change(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        before, gateways = database.change_mark(), GatewayStore(database)
        assert before is not None
        for _ in range(2):
            assert database.acquire_leadership()
            gateways.beat(SELF)
        assert database.change_mark() == before
        assert [item.gateway.id for item in gateways.fleet().gateways] == ["a"]


def test_a_change_of_another_process_between_is_seen(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        before = database.change_mark()
        with closing(sqlite3.connect(tmp_path / "registry.db")) as stranger, stranger:
            stranger.execute("UPDATE registry SET revision = revision + 1")
        database.acquire_leadership()  # its own write hides nothing
        assert database.change_mark() not in (None, before)


def test_before_its_first_write_nothing_is_known() -> None:
    own = OwnConnection(sa.create_engine("sqlite://"), 1.0)
    assert own.change_mark() is None
    with own.renewing() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    assert own.change_mark() is not None
    own.close()
    assert own.change_mark() is None


def test_a_database_that_is_not_open_has_no_mark(tmp_path: Path) -> None:
    lazy = LazyDatabase(lambda: opened(tmp_path))
    assert lazy.change_mark() is None
    with closing(lazy):
        with lazy.renewing():
            assert lazy.change_mark() is None  # to wait for a write is not its work
        assert lazy.change_mark() is not None


def test_a_connection_that_fails_is_opened_again_with_other_marks(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        before = database.change_mark()
        with pytest.raises(NotReady):
            fill_up(database)
        assert database.change_mark() is None
        assert database.acquire_leadership()
        assert database.change_mark() not in (None, before)


def test_marks_wait_for_nobody_and_writes_do(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        own = database._own
        assert own is not None

        def limit_ms() -> int:
            return int(own._driver().execute("PRAGMA busy_timeout").fetchone()[0])

        assert limit_ms() == 0
        with database.renewing():
            assert limit_ms() == 5000
        with pytest.raises(LookupError), database.renewing():
            raise LookupError
        assert limit_ms() == 0
        own.close()
        with database.reading() as connection:  # others have their own time limit
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000


def test_a_leader_renews_only_while_it_leads(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        leader = LeaderConnections(database)
        with leader.renewing():
            pass
        assert leader.change_mark() == database.change_mark()
        database.lease.release(database)
        with pytest.raises(NotLeading), leader.renewing():
            pass


def test_stores_have_the_mark_of_their_database(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        traffic, monitor = TrafficStore(database), MonitorStore(database)
        stores = (traffic, monitor, monitor.gathered, KeyStore(database), VersionStore(database))
        marks = {store.change_mark() for store in stores} | {Outbox(database, traffic).change_mark()}
        assert marks == {database.change_mark()}
