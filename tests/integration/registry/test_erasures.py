"""Requests to erase rows, over SQLite and PostgreSQL: each home answers once, and the audit never has the value."""

import sqlalchemy as sa

from penstock.core.erasure import ErasureReport, SubjectKey
from penstock.core.live_references import Contribution
from penstock.registry.db import schema
from penstock.registry.db.database import Database
from penstock.registry.records import Author
from penstock.registry.stores.erasures import ErasureStore
from penstock.registry.stores.gateways import GatewayDescription, GatewayStore
from penstock.registry.stores.gathered import GatheredStore
from penstock.registry.stores.retention import RetentionStore
from tests.integration.registry.test_store import database
from tests.leases import leading

__all__ = ["database"]

BY = Author("ann", "request 118")
KEY = SubjectKey("email", "bob@example.org")
REPORT = ErasureReport(requests=2, rows=3, problems=("something",))


def everything(database: Database) -> str:
    """All that the audit and the tables of erasures hold."""
    with database.reading() as connection:
        tables = (schema.audit, schema.erasures, schema.erasure_reports)
        return repr([tuple(row) for table in tables for row in connection.execute(sa.select(table))])


def join(database: Database, gateway: str, home: str) -> None:
    GatewayStore(database).beat(GatewayDescription(gateway, "host", "1.0", 0.0, 0, {}, home))


def test_each_home_answers_once(database: Database) -> None:
    store = ErasureStore(database)
    join(database, "a", "home-a")
    join(database, "b", "home-b")
    join(database, "c", "home-b")
    erasure = store.ask("m", KEY, BY)
    assert store.open("home-a") == store.open("home-b") == [erasure]
    store.answer(erasure.id, "home-a", REPORT)
    assert store.open("home-a") == []
    state = store.state(erasure.id)
    assert state.reports == {"home-a": REPORT} and list(state.missing) == ["home-b"]
    store.finish(erasure, {"removed": {"rows": 3}}, BY, is_shared=True)
    assert store.open("home-b") == store.open("away") == [erasure]
    store.answer(erasure.id, "home-b", ErasureReport())
    assert not store.state(erasure.id).missing


def test_the_audit_has_who_and_how_much(database: Database) -> None:
    store = ErasureStore(database)
    erasure = store.ask(None, KEY, BY)
    store.finish(erasure, {"removed": {"rows": 3}}, BY, is_shared=False)
    assert store.open("home-a") == []
    with database.reading() as connection:
        entries = connection.execute(sa.select(schema.audit).order_by(schema.audit.c.seq)).all()
    assert [entry.action for entry in entries] == ["rows.erase", "rows.erased"]
    assert all(entry.actor == "ann" and erasure.id in entry.subject for entry in entries)
    assert entries[1].after == {"column": "email", "removed": {"rows": 3}}
    assert KEY.value not in everything(database)


def test_old_erasures_are_deleted(database: Database) -> None:
    store, janitor = ErasureStore(database), RetentionStore(leading(database))
    erasure = store.ask(None, KEY, BY)
    store.answer(erasure.id, "home-a", REPORT)
    assert janitor.erasures(janitor.now() - 60) == janitor.erasure_reports() == 0
    assert janitor.erasures(janitor.now() + 60) == janitor.erasure_reports() == 1
    assert store.open("home-b") == []


def test_gathered_rows_of_all_gateways_are_changed(database: Database) -> None:
    store = GatheredStore(leading(database, "a"))
    for model in ("m", "other"):
        store.submit((model, "1"), Contribution(3, 9), model.encode())
    assert store.erase("m", lambda key, rows: (1, 2, rows + b"!")) == 1
    assert (store.rows(("m", "1"), "a"), store.rows(("other", "1"), "a")) == (b"m!", b"other")
    assert store.erase(None, lambda key, rows: None if key[0] == "m" else (3, 0, b"")) == 3
    assert (store.rows(("m", "1"), "a"), store.rows(("other", "1"), "a")) == (b"m!", None)
