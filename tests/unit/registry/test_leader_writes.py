"""Every write of the stores that the gateway that leads works with is refused to one that does not lead."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lease import NotLeading
from penstock.registry.stores.audit_archive import AuditArchives
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import TrafficStore

WRITES = ("self._database.writing(", "self._database.recording(")
LEADERS = ("self._leader.writing(", "self._leader.recording(")
ANYBODY = {EvidenceStore: {"publish", "add_labels"}, RetentionStore: {"use_references"}, AuditArchives: set()}
"""What any gateway may write, of the stores that know by themselves what only a leader may."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    yield opened
    opened.close()


def methods(kind: type, marks: tuple[str, ...]) -> set[str]:
    """The methods of a store whose text has one of these marks."""
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name for name, item in found if any(mark in inspect.getsource(item) for mark in marks)}


@pytest.mark.parametrize("kind", [EvidenceStore, RetentionStore, AuditArchives])
def test_what_only_a_leader_writes_checks_the_term(kind: type) -> None:
    assert methods(kind, WRITES) == ANYBODY[kind]
    assert methods(kind, LEADERS)


@pytest.mark.parametrize("kind", [TrafficStore, Outbox])
def test_all_that_the_leaders_form_of_a_store_writes_is_refused(kind: type, database: Database) -> None:
    traffic = TrafficStore(database).as_leader()
    store: Any = traffic if kind is TrafficStore else Outbox(database, TrafficStore(database)).as_leader()
    names = methods(kind, WRITES) | ({"mark_sent", "mark_failed", "begin", "emit"} if kind is Outbox else set())
    for name in sorted(names):
        call: Callable[..., Any] = getattr(store, name)
        needed = [
            parameter
            for parameter in inspect.signature(call).parameters.values()
            if parameter.default is parameter.empty
        ]
        parameters = [item for item in needed if item.kind is not item.VAR_KEYWORD]
        with pytest.raises(NotLeading):
            call(*([_Anything()] * len(parameters)))
    assert names


class _Anything:
    """An argument of which little is looked at, since the write is refused before."""

    attempts = 0
    id = model = type = subject = key = ""

    def __add__(self, _: int) -> int:
        return 0


def test_an_archive_is_dropped_by_a_leader_alone(database: Database, tmp_path: Path) -> None:
    archives = AuditArchives(database, lambda: FolderBlobs(tmp_path), tmp_path)
    with pytest.raises(NotLeading):
        archives.drop(0.0)
    assert database.acquire_leadership()
    assert archives.drop(0.0) == 0
