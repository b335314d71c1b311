"""Events that wait for the database over its absence and the end of the process: told once, in order, bounded."""

import asyncio
from pathlib import Path

import pytest

from penstock.control.monitoring import event_queue
from penstock.control.monitoring.event_queue import EventQueue
from penstock.core.errors import InvalidInput, NotReady
from penstock.registry.stores.traffic import TrialEvent
from tests.harness import reached


class Database:
    """Takes events while it is there; one that was taken and whose answer was lost is taken again."""

    def __init__(self) -> None:
        self.away, self.loses, self.reported = False, False, dict[str, TrialEvent]()

    async def emit_event(self, model: str, event: TrialEvent) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise NotReady("away")
        if event.key == "odd":
            raise InvalidInput("no such event")
        self.reported.setdefault(f"{model} {event.key}", event)
        if self.loses:
            raise NotReady("no answer")


def event(key: str) -> TrialEvent:
    return TrialEvent("drift.detected.v1", "models/m", key, {"column": "x"})


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.mark.parametrize("fails", ["away", "loses"])
@pytest.mark.parametrize("replaced", [False, True])
def test_events_wait_for_the_database_and_are_emitted_once(
    tmp_path: Path, database: Database, fails: str, replaced: bool
) -> None:
    file = tmp_path / "events.json"
    queue = EventQueue(database.emit_event, file)
    setattr(database, fails, True)
    for key in ("1", "2"):
        asyncio.run(queue.add("m", event(key)))
    setattr(database, fails, False)
    queue = EventQueue(database.emit_event, file) if replaced else queue
    asyncio.run(queue.flush())
    assert list(database.reported) == ["m 1", "m 2"]
    database.reported.clear()
    asyncio.run(EventQueue(database.emit_event, file).flush())
    assert not database.reported


def test_a_database_that_stays_away_is_logged_once(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    queue = EventQueue(database.emit_event, tmp_path / "events.json")
    for away in (True, True, True, False, True, True):
        database.away = away
        asyncio.run(queue.add("m", event("1")))
    assert [record.message for record in caplog.records] == ["events wait for the registry's database: away"] * 2


def test_events_that_come_while_others_are_emitted_are_emitted_too(tmp_path: Path, database: Database) -> None:
    queue = EventQueue(database.emit_event, tmp_path / "events.json")

    async def many() -> None:
        await asyncio.gather(*(queue.add("m", event(str(number))) for number in range(9)))

    asyncio.run(many())
    assert list(database.reported) == [f"m {number}" for number in range(9)]


def test_the_oldest_are_given_up_and_counted(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queue, "MOST_WAITING", 3)
    database.away = True
    queue = EventQueue(database.emit_event, tmp_path / "events.json")
    for number in range(5):
        asyncio.run(queue.add("m", event(str(number))))
    database.away = False
    asyncio.run(queue.flush())
    assert (list(database.reported), queue.given_up) == (["m 2", "m 3", "m 4"], 2)


def test_one_that_is_refused_holds_up_no_other(tmp_path: Path, database: Database) -> None:
    queue = EventQueue(database.emit_event, tmp_path / "events.json")
    database.away = True
    for key in ("odd", "1"):
        asyncio.run(queue.add("m", event(key)))
    database.away = False
    asyncio.run(queue.flush())
    assert (list(database.reported), queue.given_up) == (["m 1"], 1)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["m", {"odd": 1}]]'])
def test_a_file_of_another_form_is_not_read_as_an_event(tmp_path: Path, database: Database, text: str) -> None:
    file = tmp_path / "events.json"
    file.write_text(text)
    queue = EventQueue(database.emit_event, file)
    asyncio.run(queue.add("m", event("1")))
    assert list(database.reported) == ["m 1"]


def test_an_event_that_is_given_up_while_it_is_emitted_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queue, "MOST_WAITING", 1)
    emitted: list[str] = []
    release = asyncio.Event()

    async def emit(_: str, change: TrialEvent) -> None:
        emitted.append(change.key)
        await release.wait()

    async def act() -> None:
        queue = EventQueue(emit, tmp_path / "events.json")
        first = asyncio.create_task(queue.add("m", event("1")))
        await reached(lambda: emitted == ["1"])
        await queue.add("m", event("2"))  # there is no space for both
        release.set()
        await first
        assert (emitted, queue.given_up) == (["1", "2"], 1)

    asyncio.run(act())
