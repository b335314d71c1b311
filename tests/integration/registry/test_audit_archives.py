"""Archives of the audit are listed and read like the audit itself, in a folder and in a bucket, by hand and by call."""

import gzip
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import DataLoss, NotFound
from penstock.registry.db.database import open_database
from penstock.registry.location import RegistryLocation, location_of
from penstock.registry.records import Author
from penstock.registry.registry import Registry, open_registry
from penstock.registry.stores import audit_archive
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.audit_archive import AuditArchives
from tests import harness, s3
from tests.leases import leading

DAY_S = 86_400.0
BY = Author("ann", "größer")


@dataclass(slots=True)
class Home:
    """A registry with two archives of two changes each, and a third change that is in none."""

    folder: Path
    registry: Registry
    archives: AuditArchives
    environment: dict[str, str]

    @property
    def audit(self) -> ArchivedAudit:
        return ArchivedAudit(self.registry.store.connections, lambda: self.registry.blobs)

    @property
    def place(self) -> RegistryLocation:
        return self.registry.location

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return harness.run_command("audit", *arguments, folder=self.folder, env=self.environment)

    def json(self, *arguments: str) -> Any:
        ended = self.run(*arguments, "--json")
        assert ended.returncode == 0, ended
        return json.loads(ended.stdout)


@pytest.fixture(params=["folder", "bucket"])
def home(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: s3.Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Home]:
    environment: dict[str, str] = {}
    if request.param == "bucket":
        environment = {**bucket.environment, "PENSTOCK_BLOBS": f"s3://{bucket.name}/{tmp_path.name}"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    place = location_of("", tmp_path / "home", environment.get("PENSTOCK_BLOBS", ""))
    registry = open_registry(place, 1 << 20)
    for number in range(1, 6):
        registry.store.note(f"m{number % 2}", "version.refuse", f"versions/{number}", BY, {"reason": str(number)})
    monkeypatch.setattr(audit_archive, "ENTRIES", 2)
    database = leading(open_database(place.database, 5.0))
    later = database.clock.now() + DAY_S
    archives = AuditArchives(database, lambda: registry.blobs, place.incoming, lambda: later)
    assert [archives.archive(later) for _ in range(3)] == [2, 2, 0]
    yield Home(tmp_path, registry, archives, environment)
    database.close()


def test_archives_are_listed_and_read_as_the_audit_is(home: Home) -> None:
    assert [(archive.name, archive.entries) for archive in home.audit.list_archives()] == [("1-2", 2), ("3-4", 2)]
    entries = home.audit.entries("3-4")
    assert [(entry.seq, entry.actor, entry.reason, entry.after) for entry in entries] == [
        (number, "ann", "größer", {"reason": str(number)}) for number in (3, 4)
    ]
    assert [entry.seq for entry in home.audit.entries("3-4", model="m0")] == [4]
    assert [entry.seq for entry in home.audit.entries("3-4", limit=1)] == [4]
    assert [entry.seq for entry in home.audit.entries("3-4", after=0, limit=1)] == [3]
    assert home.audit.entries("3-4", after=4) == []
    assert [entry.seq for entry in home.registry.store.audit()] == [5]


NO_NAMES = ["", "1", "1-3", "9-10", "../registry.db", "1-2/..", "-1-2", "1-2-3", "\u0661-\u0662", "9" * 30 + "-2"]


def test_other_names_are_not_found(home: Home) -> None:
    for name in NO_NAMES:
        with pytest.raises(NotFound, match="audit --archives"):
            home.audit.entries(name)


def test_a_dropped_archive_is_listed_and_says_so(home: Home) -> None:
    assert home.archives.drop(home.archives._clock()) == 2
    assert all(archive.dropped_at for archive in home.audit.list_archives())
    with pytest.raises(NotFound, match="dropped"):
        home.audit.entries("1-2")
    assert "Dropped" in home.run("--archives").stdout


def test_a_file_that_was_changed_is_not_read(home: Home) -> None:
    path = home.registry.blobs.fetch(home.audit.list_archives()[0].digest)
    path.chmod(0o600)
    path.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(DataLoss):
        home.audit.entries("1-2")
    assert home.run("--archive", "1-2").returncode == 8


def check_verb(home: Home) -> None:
    """Both options, for people and programs, and what goes wrong."""
    listed = home.json("--archives")["archives"]
    assert [(item["name"], item["rows"], item["dropped_at"]) for item in listed] == [("1-2", 2, None), ("3-4", 2, None)]
    assert all(item["from"] <= item["to"] and item["bytes"] > 0 and item["digest"] for item in listed)
    entries = home.json("--archive", "1-2")["entries"]
    assert [(entry["seq"], entry["action"], entry["after"]["reason"]) for entry in entries] == [
        (number, "version.refuse", str(number)) for number in (1, 2)
    ]
    assert entries[0].keys() == home.json()["entries"][-1].keys()
    assert [entry["seq"] for entry in home.json("--archive", "1-2", "--model", "m1")["entries"]] == [1]
    assert [entry["seq"] for entry in home.json("--archive", "1-2", "--limit", "1")["entries"]] == [2]
    assert "3-4" in home.run("--archives").stdout
    assert "version.refuse" in home.run("--archive", "3-4").stdout
    assert home.run("--archive", "1-3").returncode == 3
    assert home.run("--archive", "1-3").stderr.count("penstock audit --archives") == 1
    assert home.run("--archive", "1-2", "--archives").returncode == 2


def test_the_command_reads_archives_without_a_gateway(home: Home) -> None:
    check_verb(home)


def test_the_verb_reads_archives_through_a_gateway(home: Home) -> None:
    with harness.running(None, home.folder, env=home.environment) as server:
        check_verb(home)
        call = "/admin/v1/audit/archives"
        assert [archive["name"] for archive in server.admin("GET", call).json()["archives"]] == ["1-2", "3-4"]
        assert [entry["seq"] for entry in server.admin("GET", f"{call}/1-2?after=1").json()["entries"]] == [2]
        for name, status in (("1-3", 404), ("..%2Fregistry.db", 404), ("%2E%2E", 404), ("1-2?limit=x", 400)):
            assert server.admin("GET", f"{call}/{name}").status == status, name
