"""A folder decides the versions, the registry's database their aliases, routes and transitions."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.control.reconcile.planner import SourceModel
from penstock.control.sources.aliased import AliasedFolder
from penstock.core.errors import InvalidInput, NotReady
from penstock.core.routing import RouteSpec
from penstock.registry.records import AliasRecord, ModelRecord, ModelSettings
from penstock.registry.stores.snapshot import RegistrySnapshot
from tests.unit.control.reconcile.test_reconciler import FakeSource, found

ROUTE = RouteSpec({"1": 10_000})
RECORD = ModelRecord(
    "m",
    3,
    aliases={"champion": AliasRecord("champion", "1")},
    settings=ModelSettings(transition="resources", keep_warm_s=7.0),
    route=ROUTE,
)


class Database:
    """A store of the registry that is there or not."""

    def __init__(self) -> None:
        self.is_away = False
        self.records = [RECORD, ModelRecord("gone", 1)]
        self.number = 1

    def revision(self) -> int:
        if self.is_away:
            raise NotReady("the database is away")
        return self.number

    def models(self) -> list[ModelRecord]:
        return self.records


def scan(source: AliasedFolder) -> Sequence[SourceModel]:
    return asyncio.run(source.scan(settled_only=False))


def source_of(tmp_path: Path, database: Database, *models: SourceModel) -> AliasedFolder:
    return AliasedFolder(FakeSource(*models), RegistrySnapshot(database, tmp_path / "last.json"))


def test_models_of_the_folder_get_what_the_database_knows_of_them(tmp_path: Path) -> None:
    source = source_of(tmp_path, Database(), found("m", "1", "2"), found("n", "1"))
    known, unknown = scan(source)
    assert set(known.versions) == {"1", "2"}
    assert (known.aliases, known.route) == ({"champion": "1"}, ROUTE)
    assert (known.transition, known.keep_warm_s) == ("resources", 7.0)
    assert unknown == found("n", "1")


def test_while_the_database_is_away_aliases_are_as_last_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database()
    source = source_of(tmp_path, database, found("m", "1"))
    database.is_away = True
    with caplog.at_level(logging.WARNING):
        assert scan(source) == [found("m", "1")]
        assert scan(source) == [found("m", "1")]
    assert caplog.text.count("served without aliases") == 1  # said once
    database.is_away = False
    assert scan(source)[0].aliases == {"champion": "1"}
    database.is_away, database.number = True, 2
    assert scan(source)[0].aliases == {"champion": "1"}


def test_a_fault_of_the_folder_is_one_of_the_source(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no model"):
        scan(source_of(tmp_path, Database()))


def test_an_unchanged_database_is_not_read_again(tmp_path: Path) -> None:
    database = Database()
    source = AliasedFolder(
        FakeSource(found("m", "1")), RegistrySnapshot(database, tmp_path / "last.json", lambda: database.number)
    )
    assert scan(source)[0].aliases == {"champion": "1"}
    database.is_away = True
    assert scan(source)[0].aliases == {"champion": "1"}
