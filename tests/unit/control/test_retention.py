"""The janitor: everything that grows has an entry, what is overdue goes and nothing else, and faults stop nobody."""

import asyncio
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.app.retention import retention_of
from penstock.config.sections import RetentionSettings
from penstock.control import retention
from penstock.control.retention import (
    AUDIT_ARCHIVES,
    DAY_S,
    MOST_FILES,
    HomeFiles,
    Janitor,
    ReferencedDigests,
    RetentionLimit,
    RetentionLimits,
    StoredEntry,
    find_overdue,
    row_batches,
)
from penstock.core.errors import NotReady
from penstock.engine.scratch import temporary_folder
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db.database import Database, open_database
from penstock.registry.stores.audit_archive import AuditArchives
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import TrafficStore, TrialEvent
from tests.harness import PATIENCE_S
from tests.leases import leading


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a janitor a folder for temporary files in which no other process leaves any."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


def test_the_defaults_of_settings_and_janitor_are_the_same() -> None:
    assert retention_of(RetentionSettings()) == RetentionLimits()


@pytest.mark.parametrize(
    ("workspace", "gone"),
    [
        (RetentionLimit(100.0), []),
        (RetentionLimit(25.0), ["c"]),
        (RetentionLimit(5.0), ["c", "b", "a"]),
        (RetentionLimit(5.0, young_s=15.0), ["c", "b"]),
        (RetentionLimit(100.0, size=6), []),
        (RetentionLimit(100.0, size=5), ["c"]),
        (RetentionLimit(100.0, size=2), ["c", "b"]),
        (RetentionLimit(100.0, size=0, young_s=15.0), ["c", "b"]),
    ],
)
def test_what_is_overdue_is_the_oldest(workspace: RetentionLimit, gone: list[str]) -> None:
    entries = [StoredEntry("a", 10.0, 1), StoredEntry("c", 30.0, 3), StoredEntry("b", 20.0, 2)]
    assert find_overdue(entries, workspace) == gone


ENTRIES = st.lists(
    st.builds(StoredEntry, st.text(min_size=1), st.floats(-10, 1e6), st.integers(0, 1000)),
    unique_by=lambda item: item.name,
)


@given(ENTRIES, st.floats(0, 1e6), st.integers(0, 5000), st.floats(0, 1e6), st.sets(st.text(min_size=1)))
def test_nothing_needed_or_recent_is_deleted_and_the_rest_fits(
    entries: list[StoredEntry], age_s: float, size: int, young_s: float, needed: set[str]
) -> None:
    gone = find_overdue(entries, RetentionLimit(age_s, size, young_s), needed.__contains__)
    by_name = {entry.name: entry for entry in entries}
    assert not needed & set(gone)
    assert all(by_name[name].age_s > young_s for name in gone)
    left = [entry for entry in entries if entry.name not in gone and entry.name not in needed and entry.age_s > young_s]
    assert all(item.age_s <= age_s for item in left)
    young = sum(entry.size for entry in entries if entry.name not in needed and entry.age_s <= young_s)
    assert not left or sum(item.size for item in left) + young <= size


def test_a_pass_over_files_is_bounded() -> None:
    assert (
        len(find_overdue((StoredEntry(str(n), 9.0, 0) for n in range(MOST_FILES + 5)), RetentionLimit(1.0)))
        == MOST_FILES
    )


def made(path: Path, age_s: float, now: float) -> Path:
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    else:
        (path / "sub").mkdir(parents=True)
        (path / "sub" / "file").write_text("x")
    os.utime(path, (now - age_s, now - age_s))
    return path


def test_a_gateway_clears_away_its_own_copies_and_exports(tmp_path: Path) -> None:
    now, day, fetched = 1e9, DAY_S, "ab" * 32
    kept = [
        made(tmp_path / "retraining" / "new", 29 * day, now),
        made(tmp_path / "unpacked" / fetched, 99 * day, now),
        made(tmp_path / "unpacked" / f"{fetched}-0123", 99 * day, now),
        made(tmp_path / "unpacked" / ("cd" * 32), 0.5 * day, now),  # a push may be under way
        made(tmp_path / "references" / "r1.json", 99 * day, now),
        made(tmp_path / "references" / "index.json", 99 * day, now),
        made(tmp_path / "cache" / "sha256" / "ab" / fetched, 99 * day, now),
        made(tmp_path / "answers" / "old", 99 * day, now),
        made(tmp_path / "unpacked" / f".{fetched}.0123456789abcdef.penstock", 2 * day, now),  # scratch has a lock
    ]
    gone = [
        made(tmp_path / "retraining" / "old", 31 * day, now),
        made(tmp_path / "unpacked" / ("ee" * 32), 2 * day, now),
        made(tmp_path / "references" / "r2.json", 2 * day, now),
        made(tmp_path / "cache" / "sha256" / "ee" / ("ee" * 32), 2 * day, now),
    ]
    files = HomeFiles(tmp_path, RetentionLimits(), lambda: now, tmp_path / "shared")
    assert files.clear(ReferencedDigests({fetched}, {"r1"})) == len(gone)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert files.clear(ReferencedDigests({fetched}, {"r1"})) == 0


def test_a_link_among_the_copies_is_removed_and_not_followed(tmp_path: Path) -> None:
    target = made(tmp_path / "elsewhere", 0.0, 1e9)
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "link").symlink_to(target)
    assert (
        HomeFiles(tmp_path, RetentionLimits(), lambda: 9e9, tmp_path / "shared").clear(ReferencedDigests((), ())) == 1
    )
    assert (target / "sub" / "file").exists()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = leading(open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0))
    yield opened
    opened.close()


def janitor(
    home: Path,
    database: Database,
    lead: Callable[[], bool] = lambda: True,
    needed: Callable[[], ReferencedDigests] = lambda: ReferencedDigests((), ()),
) -> Janitor:
    """One at a time a year after now."""
    later = database.clock.now() + 365 * DAY_S
    store = RetentionStore(database, lambda: later)
    archives = AuditArchives(database, lambda: FolderBlobs(home / "blobs"), home / "incoming", lambda: later)
    files = HomeFiles(home, RetentionLimits(), lambda: later, home / "shared")
    return Janitor(RetentionLimits(), store, archives, files, lead, needed, set)


def test_the_leader_deletes_rows_and_others_do_not(tmp_path: Path, database: Database) -> None:
    traffic = TrafficStore(database)
    traffic.emit("m", TrialEvent("drift.detected.v1", "models/m", "1", {}))
    assert asyncio.run(janitor(tmp_path, database, lambda: False).step()) == {}
    assert len(traffic.events()) == 1
    assert asyncio.run(janitor(tmp_path, database).step()) == {"events": 1}
    assert traffic.events() == []


def test_what_killed_processes_left_is_swept_although_the_database_is_away(tmp_path: Path, database: Database) -> None:
    def away() -> bool:
        raise NotReady("the database is away")

    places = [tmp_path / "references", tmp_path / "shared", temporary_folder()]
    left = [made(place / f".data.{secrets.token_hex(8)}.penstock", 0.0, 1e9) for place in places]
    with pytest.raises(NotReady, match="database"):
        asyncio.run(janitor(tmp_path, database, away).step())
    assert [path for path in left if path.exists()] == []


@pytest.mark.parametrize("error", [NotReady("the bucket is away"), OSError("the bucket is away")])
def test_what_fails_does_not_stop_the_rest(tmp_path: Path, database: Database, error: Exception) -> None:
    traffic = TrafficStore(database)
    traffic.emit("m", TrialEvent("drift.detected.v1", "models/m", "1", {}))

    def away() -> ReferencedDigests:
        raise error

    with pytest.raises(type(error), match="bucket"):
        asyncio.run(janitor(tmp_path, database, needed=away).step())
    assert traffic.events() == []


def test_a_pass_ends_although_more_is_left(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_BATCHES", 2)
    monkeypatch.setattr("penstock.registry.stores.retention.BATCH", 1)
    traffic = TrafficStore(database)
    for number in range(3):
        traffic.emit("m", TrialEvent("drift.detected.v1", "models/m", str(number), {}))
    one = janitor(tmp_path, database)
    assert [asyncio.run(one.step()) for _ in range(3)] == [{"events": 2}, {"events": 1}, {}]


def test_what_hangs_does_not_hold_the_rest(tmp_path: Path, database: Database) -> None:
    traffic, go = TrafficStore(database), threading.Event()
    traffic.emit("m", TrialEvent("drift.detected.v1", "models/m", "1", {}))

    def hanging() -> ReferencedDigests:
        go.wait(PATIENCE_S)
        return ReferencedDigests((), ())

    made = janitor(tmp_path, database, needed=hanging)
    files = made.pools[0]
    files._deadline_s = 0.01
    with pytest.raises(NotReady, match="did not answer"):
        asyncio.run(made.step())
    assert traffic.events() == []
    go.set()
    made.close()


def test_audit_archives_are_kept_for_ever_where_no_limit_is_set(tmp_path: Path, database: Database) -> None:
    store = RetentionStore(database)
    archives = AuditArchives(database, lambda: FolderBlobs(tmp_path / "blobs"), tmp_path / "incoming")
    names = {
        limit: [name for name, _ in row_batches(RetentionLimits(audit_archive_s=limit), store, archives, 1e9)]
        for limit in (0.0, DAY_S)
    }
    assert names[DAY_S] == [*names[0.0], AUDIT_ARCHIVES]
