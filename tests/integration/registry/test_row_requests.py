"""Requests for captured rows, over SQLite and PostgreSQL: who answers, who is waited for, and what is left behind."""

import pytest

from penstock.core.row_shares import WAIT_S, RowAmount
from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lease import NotLeading
from penstock.registry.stores.gateways import GatewayDescription, GatewayStore
from penstock.registry.stores.retention import OVER_S, RetentionStore
from penstock.registry.stores.row_requests import RowAnswer, RowRequest, RowRequestStore
from tests.integration.registry.test_store import database
from tests.leases import leading, looking

__all__ = ["database"]

REQUEST = RowRequest("r1", "a", "m", "1", 0.25, True, RowAmount(7, 9))
ANSWER = RowAnswer("b", "sha256:1", RowAmount(3, 400))


@pytest.fixture
def requests(database: Database) -> RowRequestStore:
    return RowRequestStore(leading(database, "a"))


def age(database: Database, seconds: float) -> None:
    """Let so much time pass for all requests."""
    with database.recording() as connection:
        table = schema.row_requests
        connection.execute(table.update().values(deadline=table.c.deadline - seconds))


def test_every_other_gateway_answers_once(requests: RowRequestStore, database: Database) -> None:
    requests.ask(REQUEST)
    assert requests.open("a") == ([], set())
    assert requests.open("b") == ([REQUEST], set())
    assert requests.answer("r1", ANSWER)
    assert requests.answer("r1", RowAnswer("c", problem="the bucket is away"))
    assert requests.open("b") == ([], {"r1"})
    look = requests.read_state("r1")
    assert look.answers == (ANSWER, RowAnswer("c", problem="the bucket is away"))
    assert look.progress.answered == {"b", "c"}
    assert 0 < look.progress.left_s <= WAIT_S
    requests.close("r1")
    assert requests.open("b") == ([], set())
    assert not requests.answer("r1", RowAnswer("d"))
    assert requests.read_state("r1").progress.left_s == 0


def test_an_overdue_answer_is_refused(requests: RowRequestStore, database: Database) -> None:
    requests.ask(REQUEST)
    age(database, WAIT_S)
    assert requests.open("b") == ([], set())
    assert not requests.answer("r1", ANSWER)
    assert requests.read_state("r1").progress.left_s <= 0


def test_a_heartbeat_says_whether_rows_are_asked_for(requests: RowRequestStore, database: Database) -> None:
    gateways = GatewayStore(database)
    gateway = GatewayDescription("b", "host", "1.0", 0.0, 0, {}, "home")
    assert not gateways.beat(gateway)
    assert not gateways.beat(gateway)
    requests.ask(REQUEST)
    assert gateways.beat(gateway)
    assert gateways.fleet().gateways[0].gateway == gateway
    assert requests.read_state("r1").progress.silent_s.keys() == {"b"}
    requests.close("r1")
    assert not gateways.beat(gateway)


def test_only_who_leads_asks_and_closes(requests: RowRequestStore, url: str) -> None:
    requests.ask(REQUEST)
    other = looking(open_database(url, 5.0), "b")
    try:
        with pytest.raises(NotLeading):
            RowRequestStore(other).ask(REQUEST)
        with pytest.raises(NotLeading):
            RowRequestStore(other).close("r1")
    finally:
        other.close()
    assert requests.open("b") == ([REQUEST], set())


def test_what_a_leader_has_left_behind_goes(requests: RowRequestStore, database: Database) -> None:
    retention = RetentionStore(database)
    requests.ask(REQUEST)
    requests.answer("r1", ANSWER)
    age(database, WAIT_S + OVER_S - 60)
    assert (retention.row_requests(), retention.row_answers()) == (0, 0)
    age(database, 61)
    assert (retention.row_requests(), retention.row_answers()) == (1, 1)
    assert (retention.row_requests(), retention.row_answers()) == (0, 0)
    assert requests.open("b") == ([], set())
