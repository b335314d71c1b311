"""An audit of a million entries: explanations use an index; the slow test prints how long they take."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.core.audit.chain import canonical_form, first_link, next_link
from penstock.registry.auditing import RegistryAudit
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.records import Author
from penstock.registry.stores.audit_questions import AuditQuestions, _last_about, _version_entries
from penstock.registry.stores.versions import VersionStore
from tests.postgres import Postgres

MANY = 1_000_000
BATCH = 10_000


def entries(registry_id: str, count: int) -> Iterator[list[dict[str, Any]]]:
    """Chained entries: of one busy model whose route changes all the time, and of a thousand others."""
    link, batch = first_link(registry_id), []
    for seq in range(1, count + 1):
        model = "busy" if seq % 2 else f"m{seq % 1000}"
        after: dict[str, Any] = {"split": {"1": 10_000}}
        action, subject = "route.set", "route"
        if seq <= 2000:
            action, subject, after = "version.add", "versions/1", {"digest": "sha256:1"}
        entry = {
            "seq": seq,
            "at": time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime(1_700_000_000 + seq)),
            "actor": f"a{seq % 7}",
            "action": action,
            "model": model,
            "subject": f"models/{model}/{subject}",
            "reason": "",
            "before": None,
            "after": after,
        }
        link = next_link(link, canonical_form(entry))
        batch.append({**entry, "hash": link.hex()})
        if len(batch) == BATCH or seq == count:
            yield batch
            batch = []


def fill(database: Database, registry_id: str, count: int) -> None:
    for batch in entries(registry_id, count):
        with database.writing() as connection:
            connection.execute(schema.audit.insert(), batch)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    server: Postgres = request.getfixturevalue("server")
    return server.create(f"scale{tmp_path.name.replace('-', '_')}"[:60].lower()).replace(
        "postgresql://", "postgresql+psycopg://"
    )


def plans(connection: sa.Connection) -> list[str]:
    """How SQLite finds what an explanation needs."""
    found: list[str] = []

    def explain(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        raw: Any = connection.connection.dbapi_connection
        found.extend(row[-1] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    sa.event.listen(connection, "before_cursor_execute", explain)
    _last_about(connection, "models/m/route", "2026")
    _version_entries(connection, "m", "2026")
    return found


def test_explanations_search_by_indexes(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)
    with database.reading() as connection:
        steps = plans(connection)
    assert any("ix_audit_subject_at" in step for step in steps)
    assert any("ix_audit_model_action_at" in step for step in steps)
    assert not [step for step in steps if step.startswith("SCAN")]
    database.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_entries_are_explained_and_verified(url: str, tmp_path: Path) -> None:
    database = open_database(url, 60.0)
    database.lease = LeaseHolder()
    blobs = FolderBlobs(tmp_path / "blobs")
    audit = RegistryAudit(database, lambda: blobs, tmp_path / "audit.key", tmp_path / "checkpoints.txt")
    fill(database, audit.log.identity(), MANY)
    questions = AuditQuestions(database, lambda: blobs)
    for model in ("busy", "m500"):
        for at in (1_700_000_000 + 5000, 1_700_000_000 + MANY // 2, 1_700_000_000 + 2 * MANY):
            began = time.perf_counter()
            document = questions.explain(model, at)
            took = time.perf_counter() - began
            sys.stdout.write(f"explain {model} at {at}: {took * 1e3:.1f} ms\n")
            assert document["rule"] == "route"
    began = time.perf_counter()
    result = audit.verify()
    sys.stdout.write(f"verify {result['entries']} entries: {time.perf_counter() - began:.1f} s\n")
    assert result["ok"]
    began = time.perf_counter()
    VersionStore(database).record_event("model.load", "repository", Author("ann"), "m1")
    sys.stdout.write(f"one more entry: {(time.perf_counter() - began) * 1e3:.1f} ms\n")
    database.close()
