"""The registry's records, one list of behaviour over SQLite and PostgreSQL."""

import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from penstock.core.errors import Conflict, DataLoss, InvalidInput, NotFound, NotReady, Refused
from penstock.core.routing import RouteSpec, encode_stored_route
from penstock.core.versions import VersionPolicy
from penstock.registry.db import database as databases
from penstock.registry.db import schema
from penstock.registry.db.database import MIGRATION_LOCK, Database, open_database
from penstock.registry.records import (
    AdmissionReport,
    Author,
    Content,
    FileRecord,
    ModelSettings,
    VersionRecord,
    VersionState,
)
from penstock.registry.stores.aliases import ANY
from penstock.registry.stores.contents import RETIRED_KEPT_S, BeingDeleted
from penstock.registry.stores.snapshot import RegistrySnapshot
from penstock.registry.stores.versions import VersionStore
from tests.harness import PATIENCE_S
from tests.postgres import Postgres, driver_url

BY = Author("ann", "because")
NUMBERS = iter(range(10_000))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url, 5.0)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database, clock: Clock) -> VersionStore:
    return VersionStore(database, clock)


def version(name: str, model: str = "m", digest: str = "") -> VersionRecord:
    content = Content(digest or f"sha256:{name * 8}", 3, "onnx", (FileRecord("model.onnx", "aa", 3),))
    facts = {"ops": {"Add": 1}, "probes": {"form": 1, "cases": []}}
    return VersionRecord(
        model, name, content, "2026-11-20T10:00:00.000+00:00", "ann", report=AdmissionReport("", facts)
    )


def test_a_version_is_as_it_was_added(store: VersionStore) -> None:
    record = replace(version("1"), metadata={"metrics": {"accuracy": 0.9}, "card": {"summary": "s"}})
    assert store.add_version(record, BY) == record
    assert store.model("m").versions == {"1": record}
    assert store.models() == [store.model("m")]
    assert store.revision() == store.model("m").revision == 1
    assert len(store.identity()) == 36


def test_a_model_is_read_once_for_each_of_its_revisions(store: VersionStore, database: Database, clock: Clock) -> None:
    other = VersionStore(database, clock)
    store.add_version(version("1"), BY)
    first = store.model("m")
    assert store.model("m") is first
    other.aliases.move("m", "champion", "1", BY)
    assert store.model("m").aliases["champion"].version == "1"
    other.configure("m", ModelSettings(), BY)
    assert store.model("m") == other.model("m")
    assert store.model("m").revision == 3


def test_the_same_content_again_changes_nothing(store: VersionStore) -> None:
    first = store.add_version(version("1"), BY)
    again = store.add_version(replace(version("1"), created_by="bob"), Author("bob"))
    assert again == first
    assert store.revision() == 1
    assert len(store.audit()) == 1


def test_a_version_never_changes_its_content(store: VersionStore) -> None:
    store.add_version(version("1"), BY)
    with pytest.raises(Conflict, match="another content"):
        store.add_version(version("1", digest="sha256:other"), BY)
    store.retire("m", "1", BY)
    with pytest.raises(Conflict, match="was retired"):
        store.add_version(version("1"), BY)


def test_an_alias_moves_by_compare_and_set(store: VersionStore) -> None:
    for name in "123":
        store.add_version(version(name), BY)
    made = store.aliases.move("m", "champion", "1", BY, expected=None)
    assert (made.before, made.after, made.revision) == (None, "1", 4)
    with pytest.raises(Conflict, match="points to 1"):
        store.aliases.move("m", "champion", "2", BY, expected=None)
    with pytest.raises(Conflict, match="not 3"):
        store.aliases.move("m", "champion", "2", BY, expected="3")
    moved = store.aliases.move("m", "champion", "2", BY, expected="1", if_revision=4)
    assert (moved.before, moved.after) == ("1", "2")
    with pytest.raises(Conflict, match="revision 5, not 4"):
        store.aliases.move("m", "champion", "3", BY, if_revision=4)
    assert store.aliases.move("m", "champion", "2", BY, expected=ANY).revision == 5
    assert store.model("m").aliases["champion"].before == ("1",)
    with pytest.raises(NotFound):
        store.aliases.move("m", "champion", "9", BY)
    store.retire("m", "1", BY)
    with pytest.raises(Refused, match="retired"):
        store.aliases.move("m", "champion", "1", BY)
    assert store.aliases.move("folder", "champion", "7", BY, in_registry=False).after == "7"


def test_only_one_of_many_moves_wins(store: VersionStore) -> None:
    for name in "123456789":
        store.add_version(version(name), BY)
    store.aliases.move("m", "champion", "1", BY)

    def move(name: str) -> bool:
        try:
            store.aliases.move("m", "champion", name, BY, expected="1")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(move, "23456789"))
    assert won.count(True) == 1
    assert [entry.action for entry in store.audit()].count("alias.move") == 2


def test_a_roll_back_goes_one_step_further_each_time(store: VersionStore) -> None:
    for name in "1234":
        store.add_version(version(name), BY)
        store.aliases.move("m", "champion", name, BY)
    usable = {"1", "2", "4"}.__contains__
    assert store.aliases.roll_back("m", "champion", BY, usable).after == "2"
    assert store.aliases.roll_back("m", "champion", BY, usable).after == "1"
    with pytest.raises(Conflict, match="no earlier version"):
        store.aliases.roll_back("m", "champion", BY, usable)
    with pytest.raises(Conflict):
        store.aliases.roll_back("m", "other", BY, usable)
    assert store.aliases.roll_back("m", "other", BY, usable, fallback="2").after == "2"


def test_an_alias_can_be_taken_away(store: VersionStore) -> None:
    store.add_version(version("1"), BY)
    store.aliases.move("m", "champion", "1", BY)
    with pytest.raises(Conflict, match="stands on"):
        store.retire("m", "1", BY)
    assert store.aliases.drop("m", "champion", BY).before == "1"
    with pytest.raises(NotFound):
        store.aliases.drop("m", "champion", BY)
    revision = store.retire("m", "1", BY)
    assert store.retire("m", "1", BY) == revision
    assert store.model("m").versions["1"].state is VersionState.RETIRED
    with pytest.raises(NotFound):
        store.retire("m", "9", BY)
    with pytest.raises(NotFound):
        store.model("zzz")


def test_every_change_compares_the_revision_it_is_given(store: VersionStore) -> None:
    first = store.add_version(version("1"), BY, if_revision=0)
    with pytest.raises(Conflict, match="revision 1, not 0"):
        store.add_version(version("2"), BY, if_revision=0)
    assert store.add_version(version("1"), BY, if_revision=0) == first  # it is there already: nothing changes
    store.add_version(version("2"), BY, if_revision=1)
    store.aliases.move("m", "champion", "1", BY, if_revision=2)
    store.aliases.move("m", "champion", "2", BY, if_revision=3)
    with pytest.raises(Conflict):
        store.aliases.roll_back("m", "champion", BY, lambda _: True, if_revision=3)
    assert store.aliases.roll_back("m", "champion", BY, lambda _: True, if_revision=4).revision == 5
    with pytest.raises(Conflict):
        store.retire("m", "2", BY, if_revision=4)
    assert store.retire("m", "2", BY, if_revision=5) == 6


def test_settings_are_kept(store: VersionStore) -> None:
    settings = ModelSettings(VersionPolicy("latest", 2), "resources", 10.0)
    revision = store.configure("m", settings, BY)
    assert store.model("m").settings == settings
    with pytest.raises(Conflict):
        store.configure("m", settings, BY, if_revision=revision + 1)


def test_every_change_is_in_the_audit_and_stays_there(store: VersionStore, database: Database) -> None:
    store.add_version(version("1"), BY)
    store.add_version(version("1", "other"), Author("bob"))
    store.aliases.move("m", "champion", "1", Author("cid", "first"))
    store.note("m", "version.refuse", "versions/2", BY, {"reason": "bad"})
    last = store.audit()[2]
    assert (last.actor, last.action, last.subject) == ("cid", "alias.move", "models/m/aliases/champion")
    assert (last.before, last.reason) == (None, "first")
    assert last.after is not None and last.after["version"] == "1"
    assert last.at.startswith("1970-01-12T13:46:40")
    assert [entry.seq for entry in store.audit(limit=2)] == [3, 4]
    assert [entry.seq for entry in store.audit(model="m")] == [1, 3, 4]
    assert [entry.seq for entry in store.audit(after=3)] == [4]
    assert [entry.seq for entry in store.audit(after=0, limit=2)] == [1, 2]  # page after page, nothing is left out
    assert [entry.seq for entry in store.audit(after=2, limit=2)] == [3, 4]
    with pytest.raises(InvalidInput, match="reason"):
        store.note("m", "a", "b", Author("x", "y" * 3000), {})
    for by in (Author("x", "nul \x00"), Author("x", "half \ud800"), Author("\x1b[1m")):
        with pytest.raises(InvalidInput, match="readable"):
            store.note("m", "a", "b", by, {})
    for statement in ("DELETE FROM audit", "UPDATE audit SET actor = 'nobody'"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), database.writing() as connection:
            connection.execute(sa.text(statement))
    assert len(store.audit()) == 4


def test_contents_that_a_version_or_a_running_task_needs_are_never_deleted(store: VersionStore, clock: Clock) -> None:
    store.add_version(version("1", digest="sha256:kept"), BY)
    lease = store.contents.lease("sha256:leased", 60.0)
    assert store.contents.mark_for_deletion(["sha256:kept", "sha256:leased", "sha256:free"]) == ["sha256:free"]
    with pytest.raises(BeingDeleted):
        store.contents.lease("sha256:free", 60.0)
    with pytest.raises(BeingDeleted):
        store.add_version(version("2", digest="sha256:free"), BY)
    assert store.contents.mark_for_deletion([]) == ["sha256:free"]  # somebody was interrupted: it is taken up again
    store.contents.finish_deletion(["sha256:free"])
    store.contents.lease("sha256:free", 60.0)
    store.contents.release(lease)
    assert store.contents.mark_for_deletion(["sha256:leased"]) == ["sha256:leased"]
    clock.now += 61.0
    assert store.contents.mark_for_deletion(["sha256:free"]) == ["sha256:free", "sha256:leased"]


def test_a_retired_content_is_kept_for_a_while(store: VersionStore, clock: Clock) -> None:
    store.add_version(version("1", digest="sha256:old"), BY)
    store.retire("m", "1", BY)
    assert store.contents.needed() == {"sha256:old"}
    clock.now += RETIRED_KEPT_S + 1
    assert store.contents.needed() == set()


def test_two_may_open_an_empty_database_at_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: open_database(empty_url, 10.0), range(4)))
    assert len({VersionStore(item).identity() for item in opened}) == 1
    for item in opened:
        item.close()


def test_a_migration_may_take_longer_than_other_calls(server: Postgres) -> None:
    url = driver_url(server.create(f"test{next(NUMBERS)}"))
    with ThreadPoolExecutor(1) as pool, psycopg.connect(server.url(url.rpartition("/")[2])) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))  # as another gateway that migrates
        opening = pool.submit(open_database, url, 0.5)
        with pytest.raises(TimeoutError):
            opening.result(2.0)
        other.rollback()
        opening.result(PATIENCE_S).close()


def test_many_empty_files_are_opened_by_two_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number in range(30):  # SQLite itself does not wait for the first who begins a log
            file = f"sqlite:///{tmp_path}/{number}.db"
            for item in list(pool.map(lambda _, file=file: open_database(file, 10.0), range(4))):
                item.close()


def test_the_steps_lead_to_the_tables(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_a_newer_database_is_left_alone(url: str, database: Database) -> None:
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InvalidInput, match="newer"):
        open_database(url, 5.0)


@pytest.mark.parametrize("change", ["UPDATE alembic_version SET version_num = '0011'", "DROP TABLE alembic_version"])
def test_a_database_whose_tables_are_not_those_of_its_version_is_damaged(
    url: str, database: Database, change: str
) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(change))
    with pytest.raises(DataLoss, match="does not have the tables"):
        open_database(url, 5.0)


def test_a_full_database_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    opened = open_database(f"sqlite:///{tmp_path / 'r.db'}", 5.0)
    store = VersionStore(opened)
    store.add_version(version("1"), BY)
    with opened.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def bounded(raw: sqlite3.Connection, _: object) -> None:
        raw.execute(f"PRAGMA max_page_count = {pages}")

    sa.event.listen(opened._engine, "connect", bounded)
    opened._engine.dispose()

    def fill() -> None:
        for number in range(1000):
            store.add_version(replace(version(str(number + 10)), metadata={"tags": {"x": "y" * 400}}), BY)

    with pytest.raises(NotReady, match="disk is full"):
        fill()
    sa.event.remove(opened._engine, "connect", bounded)
    opened.close()
    again = VersionStore(open_database(f"sqlite:///{tmp_path / 'r.db'}", 5.0))
    names = set(again.model("m").versions)
    assert "1" in names
    assert len(again.audit(limit=1000)) == len(names)


def test_a_file_that_is_not_a_database_is_reported_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"no database" * 500)
    with pytest.raises(DataLoss, match="backup"):
        open_database(f"sqlite:///{tmp_path / 'r.db'}", 5.0)


def test_a_database_that_is_away_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="cannot be reached"):
        open_database("postgresql+psycopg://penstock:topsecret@127.0.0.1:1/none", 2.0)
    with pytest.raises(NotReady):
        open_database(f"sqlite:///{tmp_path / 'missing' / 'r.db'}", 2.0)


def test_a_database_that_is_missing_says_so(server: Postgres) -> None:
    with pytest.raises(NotReady, match=r"does not exist|cannot be reached"):
        open_database(f"postgresql+psycopg://penstock@127.0.0.1:{server.port}/nothing", 5.0)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_says_how_to_make_another(server: Postgres, encoding: str) -> None:
    url = server.create(f"test{next(NUMBERS)}", "-E", encoding, "-T", "template0", "--locale", "C")
    with pytest.raises(InvalidInput, match=f"{encoding}.*CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"):
        open_database(driver_url(url), 5.0)


def test_a_closed_sqlite_database_is_one_file(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    VersionStore(database).configure("m", ModelSettings(), BY)
    with closing(sqlite3.connect(tmp_path / "registry.db")) as other:  # another process would keep the log
        tables = other.execute("SELECT count(*) FROM sqlite_master").fetchone()
        database.close()
        shutil.copy(tmp_path / "registry.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM sqlite_master").fetchone() == tables
        assert copy.execute("SELECT revision FROM registry").fetchone() == (1,)


def test_a_reader_of_an_sqlite_database_does_not_keep_it_from_closing(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    with closing(sqlite3.connect(tmp_path / "registry.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT revision FROM registry").fetchone()
        VersionStore(database).configure("m", ModelSettings(), BY)
        database.close()
        assert reader.execute("SELECT revision FROM registry").fetchone() == (0,)


@pytest.mark.parametrize(("code", "kind"), [*databases._SQLITE_FAULTS.items()])
def test_every_sqlite_failure_has_its_fault(code: int, kind: tuple[type[Exception], str]) -> None:
    original = sqlite3.OperationalError("/a/secret/path")
    original.sqlite_errorcode = code | (3 << 8)  # extended codes mean the same
    fault = databases.fault_of(sa.exc.OperationalError("SELECT", {}, original))
    assert type(fault) is kind[0]
    assert "secret" not in str(fault)


def test_a_busy_database_is_waited_for_only_so_long(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    store = VersionStore(open_database(url, 0.2))
    blocker = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotReady, match="busy"):
        store.add_version(version("1"), BY)
    blocker.execute("ROLLBACK")
    store.add_version(version("1"), BY)
    blocker.close()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("versions", "standing", "'quarantined'"),
        ("versions", "files", "'7'"),
        ("versions", "metadata", "'7'"),
        ("versions", "facts", "'[7]'"),
        ("aliases", "before", "'7'"),
        ("routes", "document", '\'{"split": {"1": "many"}}\''),
        ("routes", "document", "'[]'"),
        ("models", "settings", "'null'"),
        ("models", "settings", "'{\"transition\": 7}'"),
    ],
)
def test_a_record_of_an_unknown_form_hinders_no_other_model(
    store: VersionStore, database: Database, tmp_path: Path, table: str, column: str, value: str
) -> None:
    store.add_version(version("1", "m"), BY)
    store.add_version(version("1", "z"), BY)
    store.aliases.move("z", "champion", "1", BY)
    with database.writing() as connection:
        connection.execute(
            schema.routes.insert().values(model="z", document=encode_stored_route(RouteSpec({"1": 10_000})))
        )
    snapshot = RegistrySnapshot(store, tmp_path / "last.json")
    sound = {model.name: model for model in snapshot.models()}
    name = "name" if table == "models" else "model"
    with database.writing() as connection:
        connection.execute(sa.text(f"UPDATE {table} SET {column} = {value} WHERE {name} = 'z'"))
        connection.execute(schema.registry.update().values(revision=schema.registry.c.revision + 1))
    for look in (snapshot, RegistrySnapshot(store, tmp_path / "last.json")):  # also in the next process
        found = {model.name: model for model in look.models()}
        assert found["m"] == sound["m"]
        assert "does not know" in found["z"].problem
        assert replace(found["z"], problem="") == sound["z"]
    with pytest.raises(NotReady, match="'z' cannot be read"):
        store.model("z")
    with pytest.raises(NotReady, match="'z' cannot be read"):
        store.aliases.move("z", "champion", "1", BY)
    assert store.aliases.move("m", "champion", "1", BY).after == "1"
    assert sound["z"].versions["1"].content.digest in store.contents.needed()  # its content is not collected


def test_a_text_that_is_not_json_affects_no_other_model(tmp_path: Path, clock: Clock) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    store = VersionStore(database, clock)
    for model in "mz":
        store.add_version(version("1", model), BY)
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE versions SET facts = '{\"torn' WHERE model = 'z'"))
    assert [(model.name, bool(model.problem)) for model in store.models()] == [("m", False), ("z", True)]
    database.close()
