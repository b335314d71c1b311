"""The hub of all streams: runs the feeds of the topics that somebody watches, and no others."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from penstock.api.admin.stream.event_feed import EventFeed, EventService
from penstock.api.admin.stream.feeds import Feed, LoadDocument, ReadMark
from penstock.api.admin.stream.topics import Topic
from penstock.core.errors import Overloaded

MOST_STREAMS: Final = 100
MOST_OF_ONE: Final = 32
"""Maximum of open streams of one caller, so that nobody takes those of all others."""

MOST_FEEDS: Final = 256
"""Maximum of open streams, and of different topics that they watch."""

EVENTS: Final = Topic("events")


class StreamHub:
    """Starts a feed with its first watcher and ends it with its last; belongs to the event loop."""

    def __init__(self, load: LoadDocument, events: EventService, mark: ReadMark) -> None:
        self._load = load
        self._service = events
        self._mark = mark
        self._feeds: dict[Topic, Feed | EventFeed] = {}
        self._running: dict[Topic, asyncio.Task[None]] = {}
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
            self._running[topic] = asyncio.create_task(feed.task.run(), name=feed.task.name)
        feed.watchers.add(changed)
        changed.set()

    def _new_feed(self, topic: Topic) -> Feed | EventFeed:
        if topic == EVENTS:
            return EventFeed(self._service)
        return Feed(topic, self._load, self._mark, lambda: len(self._feeds))

    def _remove_watcher(self, topic: Topic, changed: asyncio.Event) -> None:
        feed = self._feeds[topic]
        feed.watchers.discard(changed)
        if not feed.watchers:
            del self._feeds[topic]
            self._running.pop(topic).cancel()

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
