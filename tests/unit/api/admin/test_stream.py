"""The stream of live documents: topics, feeds that work only while they are watched, ids that resume, and limits."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from penstock.api.admin.stream import hub as hub_module
from penstock.api.admin.stream import messages
from penstock.api.admin.stream.event_feed import BATCH, KEPT, EventFeed, model_of
from penstock.api.admin.stream.feeds import LONGEST_S, STEP_S, UNCHANGED_S, Feed, render
from penstock.api.admin.stream.hub import EVENTS, StreamHub
from penstock.api.admin.stream.messages import COALESCE_S, MessageStream, Position
from penstock.api.admin.stream.topics import (
    MOST_TOPICS,
    Topic,
    filter_of_topic,
    lasting_part,
    parse_topics,
    visible_part,
)
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.errors import InvalidInput, NotReady, Overloaded
from tests.harness import PATIENCE_S, reached
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.test_permissions import Guarded, bearer

FRAUD = ModelFilter(("fraud-*",))
ROUTE, MODELS, TRAFFIC = Topic("route", "m"), Topic("models"), Topic("traffic")


@pytest.fixture
def guarded(tmp_path: Any) -> Guarded:
    return Guarded(tmp_path)


# Topics.


def test_topics_are_a_list_with_commas() -> None:
    assert parse_topics("models,route:m,models,,traffic:m") == (MODELS, ROUTE, Topic("traffic", "m"))
    assert [str(topic) for topic in parse_topics("events,monitor:a.b_c-d")] == ["events", "monitor:a.b_c-d"]


@pytest.mark.parametrize(
    "text", ["", ",", "model", "route:", "models:m", "unknown", "events:m", "route:a\nid: 1", "route:" + "x" * 300]
)
def test_other_topics_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="topic"):
        parse_topics(text)


def test_topics_are_bounded() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        parse_topics(",".join(f"route:m{number}" for number in range(MOST_TOPICS + 1)))


def test_lists_show_what_the_caller_may_read() -> None:
    models = {"models": [{"name": "digits"}, {"name": "fraud-1"}]}
    assert visible_part(MODELS, models, FRAUD) == {"models": [{"name": "fraud-1"}]}
    assert visible_part(TRAFFIC, {"models": {"digits": 1, "fraud-1": 2}}, FRAUD) == {"models": {"fraud-1": 2}}
    newest = {"models": {"": "9-9", "digits": "1-1", "fraud-1": "2-7"}}
    assert visible_part(Topic("timeline"), newest, FRAUD) == {"models": {"fraud-1": "2-7"}}
    assert filter_of_topic(Topic("timeline"), FRAUD) == FRAUD
    fleet = {"gateways": [{"serves": {"digits": ["1"], "fraud-1": ["1"]}}]}
    assert visible_part(Topic("fleet"), fleet, FRAUD) == {"gateways": [{"serves": {"fraud-1": ["1"]}}]}
    assert visible_part(MODELS, models, EVERY_MODEL) is models


def test_times_that_always_differ_do_not_count_as_a_change() -> None:
    assert lasting_part(TRAFFIC, {"at": 1.0, "models": {}}) == lasting_part(TRAFFIC, {"at": 2.0, "models": {}})
    fleets = [{"lease_seconds": age, "gateways": [{"silent_seconds": age}]} for age in (1, 2)]
    assert lasting_part(Topic("fleet"), fleets[0]) == lasting_part(Topic("fleet"), fleets[1])


# Feeds.


class World:
    """Documents by topic, what they were asked for, a clock, and processor time that a load costs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cost = 0.0
        self.spent = 0.0
        self.mark = 1
        self.requests = 0
        self.number_of_feeds = 1
        self.documents: dict[Topic, Any] = {}
        self.loads: list[Topic] = []
        self.fault: Exception | None = None

    async def load(self, topic: Topic) -> Any:
        self.loads.append(topic)
        self.spent += self.cost
        if self.fault is not None:
            raise self.fault
        return self.documents.get(topic, {})

    def feed(self, topic: Topic) -> Feed:
        return Feed(
            topic,
            self.load,
            lambda: self.mark,
            lambda model: self.requests,
            lambda: self.number_of_feeds,
            lambda: self.now,
            lambda: self.spent,
        )

    def step(self, feed: Feed, seconds: float = 0.5) -> int:
        """Let time pass; how many documents were made."""
        before = len(self.loads)
        asyncio.run(feed.step())
        self.now += seconds
        return len(self.loads) - before


def test_a_document_is_made_when_the_mark_has_changed() -> None:
    world = World()
    feed = world.feed(ROUTE)
    assert [world.step(feed) for _ in range(3)] == [1, 0, 0]
    world.mark = 2
    assert [world.step(feed) for _ in range(3)] == [1, 0, 0]
    world.now += UNCHANGED_S
    assert world.step(feed) == 1


def test_ended_trials_are_looked_at_again_when_the_mark_has_changed() -> None:
    world, topic = World(), Topic("rollouts", "m")
    world.documents[topic] = {"rollouts": [{"state": "promoted"}]}
    feed = world.feed(topic)
    assert [world.step(feed) for _ in range(4)] == [1, 0, 0, 0]
    world.documents[topic], world.mark = {"rollouts": [{"state": "running"}]}, 2
    assert [world.step(feed) for _ in range(5)] == [1, 0, 1, 0, 1]  # its evidence changes without a mark


def test_other_documents_are_made_at_intervals() -> None:
    world = World()
    feed = world.feed(TRAFFIC)
    assert [world.step(feed) for _ in range(9)] == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_what_depends_on_requests_is_made_seldom_without_them() -> None:
    world = World()
    feed = world.feed(Topic("traffic", "m"))
    assert sum(world.step(feed) for _ in range(20)) == 1
    world.requests += 1
    assert [world.step(feed) for _ in range(5)] == [1, 0, 0, 0, 0]
    assert sum(world.step(world.feed(TRAFFIC)) for _ in range(1)) == 1  # that of all models is made for any of them


def test_costly_documents_are_made_less_often_but_are_made() -> None:
    world = World()
    world.cost, world.number_of_feeds = 0.03, 2
    feed = world.feed(TRAFFIC)
    assert sum(world.step(feed) for _ in range(12)) == 2  # 0.03 s each of 1.2 % of 6 s, shared by two
    world.cost = 60.0
    feed = world.feed(TRAFFIC)
    world.step(feed, LONGEST_S)
    assert world.step(feed) == 1


def test_a_change_is_shown_soon_however_costly_its_document_is() -> None:
    world = World()
    world.cost, world.number_of_feeds = 0.05, 20
    feed = world.feed(ROUTE)
    assert [world.step(feed) for _ in range(3)] == [1, 0, 0]
    world.mark = 2
    assert world.step(feed) == 1


def test_a_new_watcher_gets_no_document_whose_load_started_earlier() -> None:
    world = World()
    world.documents[ROUTE] = {"revision": 1}
    feed = world.feed(ROUTE)
    first = feed.join()
    assert feed.rendered(EVERY_MODEL, first) is None
    world.step(feed)
    assert feed.rendered(EVERY_MODEL, first) is not None
    world.documents[ROUTE] = {"revision": 2}
    second = feed.join()
    assert feed.rendered(EVERY_MODEL, second) is None
    watcher = asyncio.Event()
    feed.watchers.add(watcher)
    assert [world.step(feed) for _ in range(3)] == [1, 0, 0]  # whatever the mark says, once
    rendered = feed.rendered(EVERY_MODEL, second)
    assert rendered is not None and json.loads(rendered.text) == {"revision": 2}
    assert watcher.is_set()


def test_a_new_watcher_is_woken_by_an_unchanged_document_too() -> None:
    world, watcher = World(), asyncio.Event()
    feed = world.feed(ROUTE)
    world.step(feed)
    feed.watchers.add(watcher)
    joined = feed.join()
    world.step(feed)
    assert watcher.is_set() and feed.rendered(EVERY_MODEL, joined) is not None


def test_a_watcher_that_joins_during_a_load_waits_for_the_next_load() -> None:
    world = World()
    joined = []

    async def load(topic: Topic) -> Any:
        joined.append(feed.join())
        return await world.load(topic)

    feed = Feed(ROUTE, load, lambda: world.mark, lambda model: 0, lambda: 1, lambda: world.now, lambda: world.spent)
    assert world.step(feed) == 1
    assert feed.rendered(EVERY_MODEL, joined[0]) is None
    assert world.step(feed) == 1
    assert feed.rendered(EVERY_MODEL, joined[0]) is not None


def test_a_document_is_made_once_for_callers_who_see_the_same() -> None:
    world = World()
    world.documents[MODELS] = {"models": [{"name": "digits"}, {"name": "fraud-1"}]}
    feed = world.feed(MODELS)
    assert feed.rendered(EVERY_MODEL) is None
    world.step(feed)
    all_models, some = feed.rendered(EVERY_MODEL), feed.rendered(FRAUD)
    assert feed.rendered(ModelFilter(("fraud-*",))) is some
    assert all_models is not None and some is not None and all_models.digest != some.digest
    assert json.loads(some.text) == {"models": [{"name": "fraud-1"}]}


def test_watchers_wake_only_when_something_is_new() -> None:
    world, watcher = World(), asyncio.Event()
    world.documents[ROUTE] = {"revision": 1}
    feed = world.feed(ROUTE)
    feed.watchers.add(watcher)
    world.step(feed)
    assert watcher.is_set()
    watcher.clear()
    world.mark = 2
    world.step(feed)
    assert not watcher.is_set()
    world.documents[ROUTE], world.mark = {"revision": 2}, 3
    world.step(feed)
    assert watcher.is_set()


def test_a_fault_is_the_problem_of_a_feed_and_keeps_its_document() -> None:
    world = World()
    world.documents[ROUTE] = {"revision": 1}
    feed = world.feed(ROUTE)
    world.step(feed)
    world.fault, world.mark = NotReady("the database is away"), 2
    world.step(feed)
    assert feed.problem == "the database is away"
    assert feed.rendered(EVERY_MODEL) is not None
    world.fault = None
    world.step(feed)
    assert feed.problem == ""


def test_what_is_sent_is_one_line_of_ascii() -> None:
    world = World()
    world.documents[ROUTE] = {"reason": "a\nb\r\n\u2028 \ud800 <script>"}
    feed = world.feed(ROUTE)
    world.step(feed)
    rendered = feed.rendered(EVERY_MODEL)
    assert rendered is not None and rendered.text.isascii() and rendered.text.isprintable()


# Events.


class EventLog:
    """Events in a list, each of a model; counts reads."""

    def __init__(self, models: Sequence[str] = ()) -> None:
        self.models = list(models)
        self.reads = 0

    async def events(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[dict[str, Any]]:
        self.reads += 1
        numbered = enumerate(self.models, start=1)
        found: list[dict[str, Any]] = [
            {"sequence": number, "subject": f"models/{name}/versions/1"} for number, name in numbered
        ]
        found = [event for event in found if visible.allows(model_of(event))]
        return found[-limit:] if after is None else [item for item in found if item["sequence"] > after][:limit]


def sequences(read: tuple[Sequence[Any], int] | None) -> tuple[list[int], int]:
    assert read is not None
    return [event["sequence"] for event in read[0]], read[1]


def test_events_are_read_once_for_all_and_filtered_for_each() -> None:
    async def scenario() -> None:
        log = EventLog(["digits", "fraud-1"])
        feed = EventFeed(log)
        assert await feed.read_after(None, EVERY_MODEL) is None
        await feed.step()
        assert sequences(await feed.read_after(None, EVERY_MODEL)) == ([1, 2], 2)
        log.models += ["digits", "fraud-1"]
        await feed.step()
        reads = log.reads
        assert sequences(await feed.read_after(2, EVERY_MODEL)) == ([3, 4], 4)
        assert sequences(await feed.read_after(2, FRAUD)) == ([4], 4)
        assert sequences(await feed.read_after(4, FRAUD)) == ([], 4)
        assert log.reads == reads
        assert sequences(await feed.read_after(1, FRAUD)) == ([2, 4], 4)  # before the first look
        assert log.reads == reads + 1

    asyncio.run(scenario())


def test_a_stream_far_behind_reads_on_in_batches_and_misses_nothing() -> None:
    async def scenario() -> None:
        log = EventLog(["digits"] * (KEPT + 2 * BATCH))
        feed, read, last = EventFeed(log), list[int](), 5
        await feed.step()
        while last < len(log.models):
            batch, last = sequences(await feed.read_after(last, EVERY_MODEL))
            read += batch
        assert read == list(range(6, len(log.models) + 1))

    asyncio.run(scenario())


def test_events_in_memory_are_bounded_and_those_before_are_read_again() -> None:
    async def scenario() -> None:
        log = EventLog(["digits"])
        feed = EventFeed(log)
        await feed.step()
        log.models += ["digits"] * (KEPT + BATCH)
        for _ in range(2 + KEPT // BATCH):
            await feed.step()
        reads = log.reads
        assert sequences(await feed.read_after(1, EVERY_MODEL))[0][0] == 2
        assert log.reads == reads + 1
        assert sequences(await feed.read_after(len(log.models) - 5, EVERY_MODEL))[0] == list(
            range(len(log.models) - 4, len(log.models) + 1)
        )
        assert (
            sequences(await feed.read_after(len(log.models) - 3 * BATCH, EVERY_MODEL))[1] == len(log.models) - 2 * BATCH
        )
        assert log.reads == reads + 1

    asyncio.run(scenario())


def test_a_number_of_another_registry_begins_with_the_newest() -> None:
    async def scenario() -> None:
        feed = EventFeed(EventLog(["digits"] * 3))
        await feed.step()
        assert sequences(await feed.read_after(50, EVERY_MODEL)) == ([1, 2, 3], 3)

    asyncio.run(scenario())


def test_an_event_of_no_model_has_none() -> None:
    assert [model_of({"subject": subject}) for subject in ("models/a/versions/1", "gateways/a", "models/b", "")] == [
        "a",
        "",
        "b",
        "",
    ]


# Messages.


def test_a_position_is_written_and_read_as_an_id() -> None:
    topics = (EVENTS, ROUTE, MODELS)
    position = Position(topics, 17, {ROUTE: "ab12"})
    assert str(position) == "17.ab12.0"
    assert Position.parse(topics, str(position)) == Position(topics, 17, {ROUTE: "ab12", MODELS: "0"})
    assert str(Position((ROUTE,), None, {ROUTE: "ab12"})) == "-.ab12"


def test_a_position_without_documents_keeps_its_events() -> None:
    topics = (EVENTS, ROUTE)
    assert Position(topics, 17, {ROUTE: "ab12"}).events_only() == Position(topics, 17)


def test_equal_documents_of_two_topics_have_different_digests() -> None:
    assert render(ROUTE, {}).digest != render(Topic("route", "n"), {}).digest


@pytest.mark.parametrize(
    ("topic", "document"),
    [
        (TRAFFIC, {"scope": "gateway", "at": 1.5, "models": {"m": {"at": 2}}}),
        (Topic("fleet"), {"lease_seconds": 1, "gateways": [{"id": "a", "silent_seconds": 3}]}),
        (ROUTE, {"split": {"1": 10_000}}),
    ],
)
def test_what_is_sent_is_the_whole_document(topic: Topic, document: dict[str, Any]) -> None:
    assert json.loads(render(topic, document).text) == document


@pytest.mark.parametrize("text", ["", "x", "²", "1.2", "9" * 30, "....."])
def test_an_unknown_id_is_the_start(text: str) -> None:
    position = Position.parse((EVENTS, ROUTE, MODELS), text)
    assert position.digests == {}
    assert position.event in (None, 1)


class Page:
    """A stream over a hub, and the messages that came."""

    def __init__(self, world: World, topics: str, last_id: str = "", visible: ModelFilter = EVERY_MODEL) -> None:
        self.log = EventLog()
        self.valid = True
        self.hub = StreamHub(world.load, self.log, lambda: world.mark, lambda model: 0)
        position = Position.parse(parse_topics(topics), last_id)
        self.stream = MessageStream(self.hub, position, visible, lambda: self.valid)
        self.texts: list[str] = []

    def received(self) -> list[tuple[str, Any]]:
        blocks = [block.split("\n") for block in "".join(self.texts).split("\n\n") if block.startswith("id: ")]
        return [(block[1].removeprefix("event: "), json.loads(block[2].removeprefix("data: "))) for block in blocks]

    def last_id(self) -> str:
        return [block.split("\n")[0].removeprefix("id: ") for block in "".join(self.texts).split("\n\n") if block][-1]

    async def read(self) -> None:
        async for text in self.stream.messages():
            self.texts.append(text)

    async def run(self, until: Callable[[], bool], meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        reading = asyncio.create_task(self.read())
        if meanwhile is not None:
            await meanwhile()
        await reached(until)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that do not pause for long: their order is what is tested here."""
    monkeypatch.setattr(messages, "COALESCE_S", 0.001)
    monkeypatch.setattr(messages, "CHECK_S", 0.01)


def test_a_change_is_sent_in_time_for_one_second_until_it_is_visible() -> None:
    assert STEP_S + COALESCE_S <= 0.75
    assert COALESCE_S >= 0.5  # messages of a stream are put together to at most two a second


def test_a_stream_begins_with_each_document_and_goes_on_with_changes_only() -> None:
    world = World()
    world.documents = {ROUTE: {"revision": 1}, MODELS: {"models": []}}
    page = Page(world, "route:m,models,events")

    async def change() -> None:
        await reached(lambda: len(page.received()) == 3)
        world.documents[ROUTE], world.mark = {"revision": 2}, 2
        page.hub.wake()

    asyncio.run(page.run(lambda: len(page.received()) == 4, change))
    assert page.texts[0] == "retry: 2000\n\n"
    assert sorted(name for name, _ in page.received()[:3]) == ["events", "models", "route:m"]
    assert page.received()[3] == ("route:m", {"revision": 2})
    assert page.hub._feeds == {} and page.hub._making == {} and page.hub._running is None and page.hub.streams == 0


def test_a_resumed_stream_sends_only_what_has_changed() -> None:
    world = World()
    world.documents = {ROUTE: {"revision": 1}, MODELS: {"models": []}}
    first = Page(world, "route:m,models")
    asyncio.run(first.run(lambda: len(first.received()) == 2))
    world.documents[ROUTE] = {"revision": 2}
    second = Page(world, "route:m,models", first.last_id())
    asyncio.run(second.run(lambda: bool(second.received())))
    assert second.received() == [("route:m", {"revision": 2})]


def test_a_stream_beside_another_does_not_begin_with_what_is_over() -> None:
    world = World()
    world.documents[ROUTE] = {"revision": 1}
    first = Page(world, "route:m")
    second = Page(world, "route:m")
    second.stream = MessageStream(first.hub, Position.parse((ROUTE,), ""), EVERY_MODEL, lambda: True)

    async def open_another() -> None:
        await reached(lambda: bool(first.received()))
        world.documents[ROUTE] = {"revision": 2}
        await second.run(lambda: bool(second.received()))

    asyncio.run(first.run(lambda: bool(second.received()), open_another))
    assert second.received()[0] == ("route:m", {"revision": 2})


@pytest.mark.parametrize("turns", range(5))
def test_a_stream_ends_that_is_cancelled_while_something_changes(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "CHECK_S", 3600.0)
    page = Page(World(), "route:m")

    async def cancel_during_a_change() -> None:
        reading = asyncio.create_task(page.read())
        await reached(lambda: bool(page.received()))
        await asyncio.sleep(10 * messages.COALESCE_S)  # it waits for a change now
        for changed in page.hub._feeds[ROUTE].watchers:
            changed.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading}, timeout=PATIENCE_S)
        assert reading.cancelled()

    asyncio.run(cancel_during_a_change())


def test_a_stream_begins_at_once_whatever_its_topics_and_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((messages, "COALESCE_S"), (messages, "CHECK_S"), (hub_module, "STEP_S")):
        monkeypatch.setattr(module, name, 3600.0)
    world = World()
    world.documents = {ROUTE: {"revision": 1}, MODELS: {"models": []}}
    first = Page(world, "route:m,models")
    second = Page(world, "route:m,models")
    second.stream = MessageStream(first.hub, Position.parse((ROUTE, MODELS), ""), EVERY_MODEL, lambda: True)

    async def open_another() -> None:
        await reached(lambda: len(first.received()) == 2)
        await second.run(lambda: len(second.received()) == 2)

    asyncio.run(first.run(lambda: len(second.received()) == 2, open_another))
    assert len(world.loads) == 4


def test_a_change_after_a_quiet_time_is_sent_at_once_and_the_next_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "CHECK_S", 7200.0)
    world = World()
    world.documents = {ROUTE: {"revision": 1}}
    page = Page(world, "route:m")

    async def change(revision: int) -> None:
        world.documents[ROUTE], world.mark = {"revision": revision}, revision
        world.now += 1.0
        page.hub.wake()

    async def change_twice() -> None:
        await reached(lambda: len(page.received()) == 1)
        await asyncio.sleep(10 * messages.COALESCE_S)  # it waits for a change now
        monkeypatch.setattr(messages, "COALESCE_S", 3600.0)
        await change(2)
        await reached(lambda: len(page.received()) == 2)
        await change(3)
        await asyncio.sleep(0.02)

    asyncio.run(page.run(lambda: True, change_twice))
    assert [document["revision"] for _, document in page.received()] == [1, 2]


def test_a_watcher_that_joins_during_a_load_need_not_wait_for_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "STEP_S", 3600.0)
    world, loading, over = World(), asyncio.Event(), asyncio.Event()

    async def load(topic: Topic) -> Any:
        loading.set()
        await over.wait()
        return await world.load(topic)

    async def join_meanwhile() -> None:
        hub = StreamHub(load, EventLog(), lambda: world.mark, lambda model: 0)
        with hub.watch([ROUTE]):
            await loading.wait()
            joined = hub.feed(ROUTE).join()
            over.set()
            await reached(lambda: hub.feed(ROUTE).rendered(EVERY_MODEL, joined) is not None)

    asyncio.run(join_meanwhile())
    assert len(world.loads) == 2


def test_a_problem_is_a_message_until_it_is_over() -> None:
    world = World()
    world.fault = NotReady("the database is away")
    page = Page(world, "route:m")

    async def heal() -> None:
        await reached(lambda: len(page.received()) == 1)
        world.fault = None
        page.hub.wake()

    asyncio.run(page.run(lambda: len(page.received()) == 3, heal))
    topic = {"topic": "route:m"}
    assert [data for name, data in page.received() if name == "problem"] == [
        {**topic, "error": "the database is away"},
        {**topic, "error": ""},
    ]


def test_a_stream_ends_with_its_credential() -> None:
    page = Page(World(), "route:m")

    async def scenario() -> None:
        reading = asyncio.create_task(page.read())
        await reached(lambda: bool(page.received()))
        page.valid = False
        await reading

    asyncio.run(scenario())
    assert page.hub.streams == 0


def test_an_idle_stream_stays_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "HEARTBEAT_S", 0.0)
    page = Page(World(), "route:m")
    asyncio.run(page.run(lambda: messages.HEARTBEAT in page.texts))


def test_ten_pages_make_few_documents_and_one_look_serves_all() -> None:
    """What open pages cost: documents made and looks at the mark, counted over a minute in which nothing changes."""
    world, looks = World(), list[float]()
    names = [f"m{number}" for number in range(10)]
    for name in names:
        world.documents[Topic("rollouts", name)] = {"rollouts": []}

    def mark() -> int:
        looks.append(world.now)
        return 1

    async def scenario() -> None:
        hub = StreamHub(world.load, EventLog(), mark, lambda model: 0, lambda: world.now)
        with ExitStack() as pages:
            for name in names:
                of_model = ",".join(f"{kind}:{name}" for kind in ("model", "traffic", "route", "rollouts", "monitor"))
                pages.enter_context(hub.watch(parse_topics(f"models,traffic,readiness,events,fleet,{of_model}")))
            await reached(lambda: len(world.loads) == 54 and not hub._making)
            world.loads.clear()
            looks.clear()
            for _ in range(120):
                world.now += 0.5
                await hub.step()
                await reached(lambda: not hub._making)

    asyncio.run(scenario())
    made = Counter(topic.kind for topic in world.loads)
    assert made == {
        "readiness": 60, "traffic": 30 + 10 * 6, "fleet": 12, "models": 6,
        "model": 60, "route": 60, "rollouts": 60, "monitor": 60,
    }  # fmt: skip
    assert len(looks) <= 120 + len(world.loads) + 2


def test_a_document_that_takes_long_delays_no_other() -> None:
    world, slow = World(), asyncio.Event()

    async def load(topic: Topic) -> Any:
        if topic == MODELS:
            await slow.wait()
        return await world.load(topic)

    async def scenario() -> None:
        hub = StreamHub(load, EventLog(), lambda: 1, lambda model: 0, lambda: world.now)
        with hub.watch((MODELS, TRAFFIC)):
            await reached(lambda: world.loads == [TRAFFIC])
            world.now += 2.0
            await hub.step()
            await reached(lambda: world.loads == [TRAFFIC, TRAFFIC])
            slow.set()
            await reached(lambda: MODELS in world.loads)

    asyncio.run(scenario())


def test_a_feed_that_fails_is_tried_again_later_and_later(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.fault = RuntimeError("a fault of the code")

    async def scenario() -> int:
        hub = StreamHub(world.load, EventLog(), lambda: 1, lambda model: 0, lambda: world.now)
        with hub.watch((MODELS,)):
            await reached(lambda: bool(world.loads) and not hub._making)
            for _ in range(40):
                world.now += 0.5
                await hub.step()
                await reached(lambda: not hub._making)
        return len(world.loads)

    assert asyncio.run(scenario()) < 10
    assert len(caplog.records) == 1


def test_streams_and_topics_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MOST_STREAMS", 2)
    monkeypatch.setattr(hub_module, "MOST_FEEDS", 3)
    world = World()
    hub = StreamHub(world.load, EventLog(), lambda: 1, lambda model: 0)

    async def scenario() -> None:
        with hub.watch(parse_topics("models,traffic,fleet")):
            with pytest.raises(Overloaded, match="topics"), hub.watch((ROUTE,)):
                pass
            with hub.watch((MODELS,)), pytest.raises(Overloaded, match="streams"):
                hub.check_capacity((MODELS,))
        hub.check_capacity((ROUTE,))

    asyncio.run(scenario())


def test_nobody_takes_the_streams_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MOST_OF_ONE", 1)
    hub = StreamHub(World().load, EventLog(), lambda: 1, lambda model: 0)

    async def scenario() -> None:
        with hub.watch((MODELS,), "key:a"):
            with pytest.raises(Overloaded, match="you have 1 streams open"):
                hub.check_capacity((MODELS,), "key:a")
            with hub.watch((MODELS,), "key:b"), hub.watch((MODELS,)), hub.watch((MODELS,)):  # "": each may be another
                assert hub.streams == 4
        assert hub.streams == 0
        hub.check_capacity((MODELS,), "key:a")

    asyncio.run(scenario())


def test_the_hub_keeps_events_and_documents_apart() -> None:
    async def scenario() -> None:
        hub = StreamHub(World().load, EventLog(), lambda: 1, lambda model: 0)
        with hub.watch((EVENTS, ROUTE)):
            with pytest.raises(TypeError):
                hub.feed(EVENTS)
            hub._feeds[EVENTS] = hub.feed(ROUTE)
            with pytest.raises(TypeError):
                _ = hub.events

    asyncio.run(scenario())


# The endpoint.


def test_a_stream_needs_topics_that_the_caller_may_read(guarded: Guarded) -> None:
    def ask(topics: str, method: str = "HEAD") -> int:
        path = f"/admin/v1/stream?topics={topics}"
        return guarded.request(method, path, bearer("viewer", "fraud-*")).status_code

    assert ask("models,route:fraud-1") == 200
    assert ask("models,route:digits") == 404
    assert ask("", "GET") == 400
    assert guarded.request("GET", "/admin/v1/stream?topics=models").status_code == 401


def test_recent_traffic_is_shown(client: Client, guarded: Guarded) -> None:
    assert set(client.get("/admin/v1/traffic").json()["models"]) == {"digits", "fraud-1"}
    seen = guarded.request("GET", "/admin/v1/traffic", bearer("viewer", "fraud-*")).json()
    assert set(seen["models"]) == {"fraud-1"}
    assert client.get("/admin/v1/models/digits/traffic").json() == {"requests_per_second": 2.0}
    assert client.get("/admin/v1/models/other/traffic").status_code == 404
