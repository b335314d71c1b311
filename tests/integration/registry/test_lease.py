"""The lease on real databases: SQLite, PostgreSQL, and PostgreSQL behind PgBouncer in transaction mode."""

import itertools
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lease import LeaderConnections, NotLeading, read_lease
from penstock.registry.stores.traffic import TrafficStore, TrialEvent
from tests import pgbouncer
from tests.harness import PATIENCE_S, wait_until
from tests.leases import looking
from tests.postgres import Postgres

log = logging.getLogger("tests.lease")
NUMBERS = itertools.count()
EVENT = TrialEvent("test.v1", "models/m", "once", {})


@pytest.fixture(params=["sqlite", "postgres", "pgbouncer"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'registry.db'}"
        return
    server: Postgres = request.getfixturevalue("server")
    name = f"lease{next(NUMBERS)}"
    direct = server.create_registry(name)
    if request.param == "postgres":
        yield direct
        return
    with pgbouncer.before(server) as port:
        yield f"postgresql+psycopg://penstock@127.0.0.1:{port}/{name}"


@pytest.fixture
def two(url: str) -> Iterator[tuple[Database, Database]]:
    with ExitStack() as stack:
        opened = [looking(open_database(url, 5.0), name) for name in "ab"]
        for item in opened:
            stack.callback(item.close)
        yield opened[0], opened[1]


def end_lease(database: Database) -> None:
    """As time does while a leader is frozen."""
    with database.recording() as connection:
        connection.execute(schema.leadership.update().values(until=0.0))


def test_one_leads_until_it_goes(two: tuple[Database, Database]) -> None:
    first, second = two
    for _ in range(3):
        assert first.acquire_leadership()
        assert not second.acquire_leadership()
    with first.reading() as connection:
        lease = read_lease(connection)
    assert (lease.holder, lease.term) == ("a", 1)
    assert 0 < lease.left_s <= 6
    first.close()
    assert second.acquire_leadership()
    assert second.lease.term is None or second.lease.term == 2


def test_a_stale_leader_writes_nothing_and_steps_down(two: tuple[Database, Database]) -> None:
    first, second = two
    assert first.acquire_leadership()
    before = TrafficStore(first).as_leader()
    end_lease(second)
    assert second.acquire_leadership()
    with pytest.raises(NotLeading):
        before.emit("m", EVENT)
    with pytest.raises(NotLeading), LeaderConnections(first).recording():
        pass
    assert TrafficStore(second).events() == []
    assert not first.acquire_leadership()
    TrafficStore(second).as_leader().emit("m", EVENT)
    assert len(TrafficStore(first).events()) == 1


def test_an_overdue_leader_continues_if_nobody_else_leads(two: tuple[Database, Database]) -> None:
    first, second = two
    assert first.acquire_leadership()
    end_lease(second)
    TrafficStore(first).as_leader().emit("m", EVENT)
    assert first.acquire_leadership()
    assert not second.acquire_leadership()


def test_no_gateway_starts_to_lead_during_a_write_of_the_leader(two: tuple[Database, Database], url: str) -> None:
    first, second = two
    assert first.acquire_leadership()
    end_lease(second)
    hasty = open_database(url, 0.3)
    try:
        with LeaderConnections(first).recording() as connection:
            looking(hasty, "c")
            with pytest.raises(Exception, match="busy"):
                hasty.acquire_leadership()
            connection.execute(sa.text("SELECT 1"))
        assert hasty.acquire_leadership()
    finally:
        hasty.close()


def _follow(url: str, channel: "multiprocessing.connection.Connection") -> None:
    """A gateway that leads whenever it can, writes while it does, and sends the term in which it did. It sends
    itself the signals that it gets, outside of transactions: who is stopped within one keeps SQLite's write lock."""
    database = open_database(url, 5.0)
    database.lease.gateway = str(os.getpid())
    store = TrafficStore(database).as_leader()
    for number in itertools.count():
        with suppress(NotLeading):
            if database.acquire_leadership() and (term := database.lease.term) is not None:
                store.emit("m", TrialEvent("test.v1", "models/m", f"{os.getpid()} {number}", {"pid": os.getpid()}))
                channel.send(term)
        if channel.poll(0.05):
            os.kill(os.getpid(), channel.recv())


def received_terms(channel: "multiprocessing.connection.Connection") -> list[int]:
    """The terms in which the process has led since it was last asked."""
    terms = []
    while channel.poll():
        terms.append(channel.recv())
    return terms


@pytest.mark.parametrize("fate", [signal.SIGSTOP, signal.SIGKILL])
def test_a_frozen_or_killed_leader_is_replaced_and_does_no_harm_when_it_wakes(url: str, fate: signal.Signals) -> None:
    open_database(url, 5.0).close()
    context = multiprocessing.get_context("spawn")
    members = []
    try:
        for _ in range(2):
            own, other = context.Pipe()
            process = context.Process(target=_follow, args=(url, other), daemon=True)
            process.start()
            members.append((process, own))
            if len(members) == 1:
                wait_until(lambda: bool(received_terms(members[0][1])), PATIENCE_S, "the first to lead")
        (first, to_first), (second, to_second) = members
        to_first.send(fate)
        began = time.monotonic()
        wait_until(to_second.poll, PATIENCE_S, "a successor")
        term = to_second.recv()
        log.info("replaced after %.1f s", time.monotonic() - began)
        if fate is signal.SIGSTOP:
            assert max(received_terms(to_first), default=0) < term
            os.kill(first.pid or 0, signal.SIGCONT)
            for _ in range(20):
                assert all(later > term for later in received_terms(to_first))  # if the second has lost it meanwhile
                time.sleep(0.05)
            assert first.is_alive()
        assert second.is_alive()
    finally:
        for process, _ in members:
            process.kill()
            process.join(PATIENCE_S)
