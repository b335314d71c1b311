"""The hub of all streams: makes the documents of the topics that somebody watches, and no others.

One task looks at all feeds; only a document that is due gets a task of its own, so that a slow one delays no other.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from penstock.api.admin.stream.event_feed import EventFeed, EventService
from penstock.api.admin.stream.feeds import STEP_S, Feed, LoadDocument, ReadActivity, ReadMark
from penstock.api.admin.stream.topics import Topic
from penstock.control.periodic import PeriodicTask
from penstock.core.errors import Overloaded

MOST_STREAMS: Final = 100
MOST_OF_ONE: Final = 32
"""Maximum of open streams of one caller, so that nobody takes those of all others."""

MOST_FEEDS: Final = 256
"""Maximum of open streams, and of different topics that they watch."""

EVENTS: Final = Topic("events")


class StreamHub:
    """Starts a feed with its first watcher and ends it with its last; ``clock`` is monotonic. Belongs to the event
    loop."""

    def __init__(
        self,
        load: LoadDocument,
        events: EventService,
        mark: ReadMark,
        activity: ReadActivity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._service = events
        self._mark = mark
        self._activity = activity
        self._clock = clock
        self._task = PeriodicTask("stream", self.step, STEP_S, meanwhile="pages show older documents")
        self._running: asyncio.Task[None] | None = None
        self._feeds: dict[Topic, Feed | EventFeed] = {}
        self._making: dict[Topic, asyncio.Task[None]] = {}
        self._failed_until: dict[Topic, float] = {}
        self._streams: dict[str, int] = {}  # by caller

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return sum(self._streams.values())

    def check_capacity(self, topics: Sequence[Topic], caller: str = "") -> None:
        """Check that one more stream of these topics may begin for a caller ("": one whose name nobody knows).

        Raises:
            Overloaded: too many are open.
        """
        if caller and self._streams.get(caller, 0) >= MOST_OF_ONE:
            raise Overloaded(f"you have {MOST_OF_ONE} streams open already; close pages of the console")
        if self.streams >= MOST_STREAMS:
            raise Overloaded(f"{MOST_STREAMS} streams are open already; close pages of the console, or try again later")
        if len(self._feeds.keys() | set(topics)) > MOST_FEEDS:
            raise Overloaded(f"open streams have {MOST_FEEDS} different topics already; close pages of the console")

    @contextmanager
    def watch(self, topics: Sequence[Topic], caller: str = "") -> Iterator[asyncio.Event]:
        """Return an event that is set when one of the topics has something new; raises ``Overloaded``."""
        self.check_capacity(topics, caller)
        changed = asyncio.Event()
        self._streams[caller] = self._streams.get(caller, 0) + 1
        try:
            for topic in topics:
                self._add_watcher(topic, changed)
            yield changed
        finally:
            self._count_ended(caller)
            for topic in topics:
                self._remove_watcher(topic, changed)

    def _count_ended(self, caller: str) -> None:
        self._streams[caller] -= 1
        if not self._streams[caller]:
            del self._streams[caller]

    def _add_watcher(self, topic: Topic, changed: asyncio.Event) -> None:
        feed = self._feeds.get(topic)
        if feed is None:
            feed = self._feeds[topic] = self._new_feed(topic)
            self._make(topic, feed)
        if self._running is None:
            self._running = asyncio.create_task(self._task.run(), name=self._task.name)
        feed.watchers.add(changed)
        changed.set()

    def _new_feed(self, topic: Topic) -> Feed | EventFeed:
        if topic == EVENTS:
            return EventFeed(self._service)
        return Feed(topic, self._load, self._mark, self._activity, lambda: len(self._feeds), self._clock)

    def wake(self) -> None:
        """Look at once at what is due."""
        self._task.wake()

    async def step(self) -> None:
        """Begin to make the documents that are due."""
        now, mark = self._clock(), self._mark()
        for topic, feed in self._feeds.items():
            if topic not in self._making and now >= self._failed_until.get(topic, 0.0) and feed.is_due(now, mark):
                self._make(topic, feed)

    def _make(self, topic: Topic, feed: Feed | EventFeed) -> None:
        """Begin to make a document; after a failure the next attempt comes later, as that of any periodic task."""

        async def attempt() -> None:
            failures = feed.task.failures
            await feed.task.attempt()
            if feed.task.failures > failures:
                self._failed_until[topic] = self._clock() + feed.task.pause_s()

        making = self._making[topic] = asyncio.create_task(attempt(), name=feed.task.name)
        making.add_done_callback(lambda ended: self._forget_making(topic, ended))

    def _forget_making(self, topic: Topic, ended: "asyncio.Task[None]") -> None:
        if self._making.get(topic) is ended:
            del self._making[topic]
        feed = self._feeds.get(topic)
        if isinstance(feed, Feed) and feed.is_awaited:
            self.wake()

    def _remove_watcher(self, topic: Topic, changed: asyncio.Event) -> None:
        feed = self._feeds[topic]
        feed.watchers.discard(changed)
        if not feed.watchers:
            del self._feeds[topic]
            self._failed_until.pop(topic, None)
            if making := self._making.pop(topic, None):
                making.cancel()
        if not self._feeds and self._running is not None:
            self._running.cancel()
            self._running = None

    def feed(self, topic: Topic) -> Feed:
        """Return the feed of a watched topic other than the events."""
        feed = self._feeds[topic]
        if isinstance(feed, EventFeed):
            raise TypeError
        return feed

    @property
    def events(self) -> EventFeed:
        """The feed of the events, while it is watched."""
        feed = self._feeds[EVENTS]
        if isinstance(feed, Feed):
            raise TypeError
        return feed
