"""Feedback that came at another gateway: it is joined by the one that gave the answer, at the age that it had."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from penstock.control.monitoring import feedback_spool
from penstock.control.monitoring.feedback import FeedbackMonitor
from penstock.control.monitoring.feedback_spool import SETTLED_S, FeedbackSpool, ReadPositions
from penstock.control.monitoring.label_comparisons import ComparedSignal, ComparisonTerms
from penstock.core.errors import NotReady
from penstock.core.policies import MonitorPolicy
from penstock.core.tensors import Tensor
from penstock.core.versions import VersionKey
from penstock.monitor.answer_segments import ANSWERS, AnswerWriter
from penstock.monitor.answers import answers_of
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.monitor.performance import PerformanceChange
from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.records import Document
from penstock.registry.stores import feedback
from penstock.registry.stores.feedback import MOST_BYTES, WAIT_S, FeedbackStore


class Clocks:
    """The database's clock, and those of machines that go by another time."""

    def __init__(self) -> None:
        self.database = time.time()

    def sleep(self, seconds: float) -> None:
        self.database += seconds


class Gateway:
    """Labels of one gateway, whose machine's clock is ``ahead`` of the database's."""

    def __init__(self, home: Path, database: Database, clocks: Clocks, ahead: float = 0.0) -> None:
        self.home, self._clocks, self._ahead = home, clocks, ahead
        self.now = lambda: clocks.database + ahead
        self.failing: set[str] = set()
        self.labels = FeedbackMonitor(home, home / "labels.json", self._watched, _emit, self.now)
        self.spool = self.labels.connect_spool(FeedbackStore(database, lambda: clocks.database))
        self.look()

    def _watched(self, key: VersionKey) -> tuple[None, MonitorPolicy]:
        if key[0] in self.failing:
            raise ValueError("its labels cannot be taken")
        return None, MonitorPolicy(horizon_s=3600.0)

    def answer(self, monkeypatch: pytest.MonkeyPatch, *ids: str, version: str = "1", model: str = "m") -> None:
        answers = answers_of([Tensor("p", "FP32", np.array([[0.2, 0.8]] * len(ids), "<f4"))])
        assert answers is not None
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", self.now)
            writer = AnswerWriter(self.home / ANSWERS, model, version)
            writer.add(list(ids), [1] * len(ids), answers, [True] * len(ids))
            writer.close()

    def send_feedback(self, *ids: str, model: str = "m") -> FeedbackResult:
        return asyncio.run(self.labels.take(model, [Feedback(id_, 1) for id_ in ids]))

    def look(self) -> None:
        asyncio.run(self.spool.step())

    def outcomes(self, version: str = "1", model: str = "m") -> dict[str, int]:
        found: dict[str, int] = self.labels.document((model, version))["outcomes"]
        return {outcome: count for outcome, count in found.items() if count}


async def _emit(key: VersionKey, change: PerformanceChange) -> None:
    raise AssertionError


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path}/registry.db", 5.0)
    yield opened
    opened.close()


@contextmanager
def gateways(folder: Path, database: Database, clocks: Clocks, *ahead: float) -> Iterator[list[Gateway]]:
    found = []
    for index, seconds in enumerate(ahead):
        (folder / f"home{index}").mkdir(exist_ok=True)
        found.append(Gateway(folder / f"home{index}", database, clocks, seconds))
    for item in found:
        item.look()  # now each knows of the others
    try:
        yield found
    finally:
        for item in found:
            item.labels.close()


def waiting(database: Database) -> int:
    with database.reading() as connection:
        return len(connection.execute(schema.feedback.select()).all())


def until_settled(clocks: Clocks, members: Sequence[Gateway]) -> None:
    clocks.sleep(SETTLED_S + 1)
    for _ in range(2):
        for member in members:
            member.look()


def test_labels_are_joined_where_the_answer_was_given(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateways(tmp_path, database, clocks, 0.0, 0.0, 0.0) as (first, second, third):
        first.answer(monkeypatch, "a1", "a2")
        third.answer(monkeypatch, "c1")
        assert second.send_feedback("a1", "c1", "nobody's") == FeedbackResult(unmatched=0, pending=3)
        assert first.send_feedback("a2", "c1") == FeedbackResult(unmatched=0, pending=1)
        for member in (first, second, third):
            member.look()
        assert first.outcomes() == {"joined": 2}
        assert third.outcomes() == {"joined": 1, "doubled": 1}
        assert waiting(database) == 1
        until_settled(clocks, (first, second, third))
        assert waiting(database) == 0
        assert sum(member.outcomes("").get("unknown", 0) for member in (first, second, third)) == 1  # told of once


def test_a_gateway_that_is_away_finds_its_labels_when_it_is_back(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, second):
        first.answer(monkeypatch, "a1")
        first.labels.close()
        assert second.send_feedback("a1") == FeedbackResult(0, 1)
        until_settled(clocks, [second])
        assert waiting(database) == 1
        again = Gateway(first.home, database, clocks)
        assert again.outcomes() == {"joined": 1}
        again.labels.close()
    assert waiting(database) == 0


def test_what_an_answer_was_written_down_after_is_looked_for_again(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, second):
        second.send_feedback("a1")
        first.look()
        first.answer(monkeypatch, "a1")  # a worker writes it down a moment later
        first.look()
        assert first.outcomes() == {"joined": 1}


@pytest.mark.parametrize("ahead", [0.0, 500.0, -500.0])
def test_labels_have_the_age_at_which_they_came(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    with gateways(tmp_path, database, clocks, ahead, 0.0) as (first, second):
        terms = ComparisonTerms("t", "m", ComparedSignal.WRONG, 0, ("1", "2"))
        first.labels.comparisons.start(terms)
        first.answer(monkeypatch, "a1")
        first.answer(monkeypatch, "a2", version="2")
        clocks.sleep(3.0)
        assert first.send_feedback("a1") == FeedbackResult()  # one version's come here
        assert second.send_feedback("a2") == FeedbackResult(0, 1)  # the other's there
        clocks.sleep(1.5)
        first.look()
        clocks.sleep(20.0)
        found = first.labels.comparisons.closed_strata("t", 0, -1.0)
        assert found is not None
        assert [(stratum["age"], sorted(stratum["sums"])) for stratum in found["strata"]] == [(2, ["1", "2"])]


def test_labels_that_are_too_old_or_already_known_are_reported_where_they_belong(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, second):
        first.answer(monkeypatch, "old", "new")
        clocks.sleep(3590.0)
        second.send_feedback("new")
        clocks.sleep(20.0)  # what came in time is in time, whenever it is taken
        second.send_feedback("old")
        first.look()
        assert first.outcomes() == {"joined": 1, "late": 1}


@pytest.mark.parametrize("number", [3, 12])
def test_a_model_whose_labels_cannot_be_taken_holds_back_no_other(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(feedback, "MOST_AT_ONCE", 5)  # a look
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, second):
        bad, good = [f"bad-{number}" for number in range(number)], [f"good-{number}" for number in range(8)]
        first.answer(monkeypatch, *bad, model="bad")
        first.answer(monkeypatch, *good)
        for item in bad:
            second.send_feedback(item, model="bad")
        first.failing = {"bad"}
        first.look()
        clocks.sleep(SETTLED_S + 1)
        for ids in (good[:6], good[6:]):
            second.send_feedback("nobody's", *ids)
            first.look()
        assert first.outcomes() == {"joined": 8}
        until_settled(clocks, (first, second))
        assert waiting(database) == number + 2  # what all have passed is over only behind what is held
        first.failing = set()
        first.spool.task.clock = lambda: time.monotonic() + 3600  # once it is tried again
        until_settled(clocks, (first, second))
        assert first.outcomes(model="bad") == {"joined": number}
        assert waiting(database) == 0


def test_labels_of_a_gateway_that_began_a_moment_ago_wait_for_it(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateways(tmp_path, database, clocks, 0.0) as (first,):
        assert first.send_feedback("b0") == FeedbackResult(1, 0)  # alone
        (tmp_path / "new").mkdir()
        labels = FeedbackMonitor(
            tmp_path / "new", tmp_path / "new.json", lambda key: (None, MonitorPolicy()), _emit, first.now
        )
        spool = labels.connect_spool(FeedbackStore(database, lambda: clocks.database))
        asyncio.run(spool.register())  # as it starts; neither has looked since
        answers = answers_of([Tensor("p", "FP32", np.array([[0.2, 0.8]], "<f4"))])
        assert answers is not None
        AnswerWriter(tmp_path / "new" / ANSWERS, "m", "1").add(["b1"], [1], answers)
        assert first.send_feedback("b1") == FeedbackResult(0, 1)
        until_settled(clocks, [first])
        assert waiting(database) == 1
        asyncio.run(spool.step())
        assert labels.document(("m", "1"))["outcomes"] == {"joined": 1}
        labels.close()


def test_a_model_takes_no_more_space_than_it_leaves_free(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, _):
        monkeypatch.setattr(feedback_spool, "MOST_BYTES", 10_000)
        reported = [f"x{number}" for number in range(200)]
        most = first.send_feedback(*reported).pending
        assert first.send_feedback(*reported).pending == 0
        assert 0 < first.send_feedback(*reported, model="n").pending <= most / 2 + 1


def test_size_and_time_are_bounded(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, second):
        first.answer(monkeypatch, "a1")
        first.labels.close()
        monkeypatch.setattr(feedback_spool, "MOST_BYTES", 500)
        assert second.send_feedback("a1", "a2", "a3") == FeedbackResult(unmatched=1, pending=2)
        assert second.outcomes("") == {"dropped": 1}
        monkeypatch.setattr(feedback_spool, "MOST_BYTES", MOST_BYTES)
        clocks.sleep(WAIT_S - 5)
        second.look()
        assert waiting(database) == 2
        clocks.sleep(10)
        second.send_feedback("b1")  # the other is not forgotten yet, as far as this one knows
        clocks.sleep(feedback.STAMPED_S)
        second.look()
        assert waiting(database) == 0
        assert second.outcomes("") == {"dropped": 1, "expired": 2, "unknown": 1}
        assert second.spool.others is False
        assert second.send_feedback("b2") == FeedbackResult(1, 0)  # nobody else is there to ask


def test_many_calls_are_written_down_together(tmp_path: Path, database: Database, clocks: Clocks) -> None:
    calls = []
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, _):
        put = FeedbackStore.put

        class Counted(FeedbackStore):
            def put(self, reported: Sequence[tuple[str, Document, int]]) -> None:
                calls.append(len(reported))
                put(self, reported)

        spool = first.labels.connect_spool(Counted(database, lambda: clocks.database))

        async def many() -> list[FeedbackResult]:
            await spool.step()
            return await asyncio.gather(*(first.labels.take("m", [Feedback(f"x{number}", 1)]) for number in range(50)))

        assert asyncio.run(many()) == [FeedbackResult(0, 1)] * 50
        assert sum(calls) == 50 == waiting(database)


def test_what_cannot_be_made_durable_is_not_acknowledged(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FeedbackStore, reported: object) -> None:
        raise NotReady("the database is away")

    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, second):
        first.answer(monkeypatch, "a1")
        monkeypatch.setattr(FeedbackStore, "put", refuse)
        with pytest.raises(NotReady, match="away"):
            second.send_feedback("a1")
        assert first.send_feedback("a1") == FeedbackResult()  # those that belong here need no database


@pytest.mark.parametrize(
    "reported", [None, [1], {"id": "b1", "label": 1, "newer": 2}, {"id": 7}, {"id": "b1", "at": "now"}]
)
def test_labels_of_a_newer_gateway_hold_back_no_other(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, reported: object
) -> None:
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, second):
        first.answer(monkeypatch, "a1")
        with database.writing() as connection:
            row = {"model": "m", "at": clocks.database, "size": 9, "told": sa.literal(reported, sa.JSON)}
            connection.execute(schema.feedback.insert().values(**row))
        assert second.send_feedback("a1") == FeedbackResult(unmatched=0, pending=1)
        first.look()
        assert first.outcomes() == {"joined": 1}
        until_settled(clocks, (first, second))
        assert waiting(database) == 0  # nobody knows it


def test_a_model_that_is_held_keeps_what_it_has_not_passed_until_it_has_caught_up() -> None:
    positions = ReadPositions()
    positions.ahead = 10
    positions.hold("m", 4)
    positions.hold("m", 9)  # it is held already
    positions.hold("n", 7)
    positions.ahead = 20
    assert (positions.passed, positions.held) == (4, {"m": 4, "n": 7})
    positions.catch_up("m", 6, is_all=False)
    positions.catch_up("m", 5, is_all=False)  # never back
    assert positions.passed == 6
    positions.catch_up("m", 20, is_all=True)
    positions.catch_up("n", 20, is_all=True)
    assert (positions.passed, positions.held) == (20, {})


class Joiner:
    """Remembers the answers to some requests, and counts what becomes of others."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.joined: list[str] = []
        self.counts: dict[str, int] = {}

    async def join(self, model: str, reported: Sequence[Feedback]) -> list[bool | None]:
        self.joined += [item.id for item in reported if item.id in self.known]
        return [item.id in self.known for item in reported]

    def count(self, model: str, outcome: str, number: int) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + number


def spool(database: Database, clocks: Clocks, name: str, joiner: Joiner) -> FeedbackSpool:
    store = FeedbackStore(database, lambda: clocks.database)
    return FeedbackSpool(store, lambda: name, joiner.join, joiner.count, lambda: clocks.database)


def test_a_spool_gives_each_label_to_the_gateway_that_knows_its_answer(database: Database, clocks: Clocks) -> None:
    own, foreign = Joiner("a"), Joiner("b")
    here, there = spool(database, clocks, "here", own), spool(database, clocks, "there", foreign)

    async def act() -> None:
        for member in (here, there):
            await member.register()
        puts = [here.put("m", [Feedback(item, 1)]) for item in ("b", "nobody's")]
        assert await asyncio.gather(*puts) == [1, 1]  # written down together, each durable when it returns
        assert waiting(database) == 2
        for _ in range(2):
            await there.step()
            await here.step()
            clocks.sleep(SETTLED_S + 1)
        for member in (there, here):
            await member.step()

    asyncio.run(act())
    assert (own.joined, foreign.joined) == ([], ["b"])
    assert own.counts.get("unknown", 0) + foreign.counts.get("unknown", 0) == 1
    assert waiting(database) == 0
    for member in (here, there):
        member.pool.close()


def test_a_spool_knows_whether_another_gateway_may_remember_answers(database: Database, clocks: Clocks) -> None:
    here, there = (spool(database, clocks, name, Joiner()) for name in ("here", "there"))

    async def act() -> None:
        await here.register()
        assert await here.has_others()  # until it has looked
        await here.step()
        assert not here.others
        assert not await here.has_others()
        await there.register()
        assert await here.has_others()  # it asks, whatever the last look said

    asyncio.run(act())
    for member in (here, there):
        member.pool.close()


def test_a_spool_takes_no_more_than_its_limit(
    database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    joiner = Joiner()
    here = spool(database, clocks, "here", joiner)
    monkeypatch.setattr(feedback_spool, "MOST_BYTES", 1000)

    async def act() -> None:
        await here.register()
        taken = await here.put("m", [Feedback(str(number), 1) for number in range(100)])
        assert 0 < taken < 100
        assert joiner.counts["dropped"] == 100 - taken
        assert await here.put("other", [Feedback("x", 1)]) == 1  # one model does not fill it all

    asyncio.run(act())
    here.pool.close()


def test_a_spool_whose_database_is_away_says_so_and_goes_on(
    database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = spool(database, clocks, "here", Joiner())

    def away(*_: object) -> None:
        raise NotReady("the database is away")

    async def act() -> None:
        await here.register()
        with monkeypatch.context() as patched:
            patched.setattr(FeedbackStore, "put", away)
            with pytest.raises(NotReady, match="away"):
                await here.put("m", [Feedback("a", 1)])
        assert await here.put("m", [Feedback("a", 1)]) == 1
        assert waiting(database) == 1

    asyncio.run(act())
    here.pool.close()


def test_labels_beyond_what_may_wait_for_the_database_are_refused(
    tmp_path: Path, database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback_spool, "MOST_QUEUED", 0)
    with gateways(tmp_path, database, clocks, 0.0, 0.0) as (first, _):

        async def both() -> list[int | BaseException]:
            puts = [first.spool.put("m", [Feedback(name, 1)]) for name in "ab"]
            return await asyncio.gather(*puts, return_exceptions=True)

        stored, refused = asyncio.run(both())
    assert stored == 1
    assert isinstance(refused, NotReady)
    assert waiting(database) == 1
