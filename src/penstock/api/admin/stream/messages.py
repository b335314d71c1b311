"""The messages of one stream: what is new since the last message, or since the id that the client had last."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from penstock.api.admin.stream.hub import EVENTS, StreamHub
from penstock.api.admin.stream.topics import Topic
from penstock.core.access.model_filter import ModelFilter
from penstock.core.errors import Fault

COALESCE_S: Final = 0.5
"""Least time between two batches of messages, in seconds: what changes more often is sent in its newest state. The
first change after a quiet time is sent at once."""

CHECK_S: Final = 1.0
"""Interval at which the caller's credential is checked, in seconds."""

HEARTBEAT_S: Final = 15.0
RETRY: Final = "retry: 2000\n\n"
HEARTBEAT: Final = "event: heartbeat\ndata: {}\n\n"
"""Sent to a client that got no other message for ``HEARTBEAT_S`` seconds; pages cannot see comments."""

NOTHING: Final = "0"


@dataclass(slots=True)
class Position:
    """What a client has: the sequence number of its last event, and the digest of the document of each topic.

    As text it is the id of a message; so a stream is resumed at any gateway, and after its restart.
    """

    topics: Sequence[Topic]
    event: int | None = None
    digests: dict[Topic, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the id."""
        digests = [self.digests.get(topic, NOTHING) for topic in self.topics if topic != EVENTS]
        return ".".join(["-" if self.event is None else str(self.event), *digests])

    def events_only(self) -> "Position":
        """Return the position of a client that has the same events, and no documents."""
        return Position(self.topics, self.event)

    @classmethod
    def parse(cls, topics: Sequence[Topic], text: str) -> "Position":
        """Return the position of an id; what it does not say is unknown, and is sent again."""
        number, *digests = text.split(".")
        event = int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else None
        documents = [topic for topic in topics if topic != EVENTS]
        known = dict(zip(documents, digests, strict=True)) if len(documents) == len(digests) else {}
        return cls(topics, event, known)


class MessageStream:
    """Yields the messages of one client; ``is_valid`` says whether its credential still is, and ``caller`` whose it is
    ("": nobody knows). ``clock`` is monotonic.
    """

    def __init__(
        self,
        hub: StreamHub,
        position: Position,
        visible: ModelFilter,
        is_valid: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        caller: str = "",
    ) -> None:
        self._hub = hub
        self._caller = caller
        self._position = position
        self._visible = visible
        self._is_valid = is_valid
        self._clock = clock
        self._problems: dict[Topic, str] = {}
        self._loads: dict[Topic, int] = {}
        self._check_at = 0.0
        self._has_events = EVENTS not in position.topics

    async def messages(self) -> AsyncIterator[str]:
        """Yield the messages as text until the credential ends; raises ``Overloaded``."""
        with self._hub.watch(self._position.topics, self._caller) as changed:
            self._loads = {topic: self._hub.feed(topic).join() for topic in self._position.topics if topic != EVENTS}
            self._hub.wake()
            yield RETRY
            sent_at = self._clock()
            while self._may_go_on():
                changed.clear()
                text = await self._new_messages()
                if not text and self._clock() >= sent_at + HEARTBEAT_S:
                    text = HEARTBEAT
                if text:
                    yield text
                    sent_at = self._clock()
                pause_s = COALESCE_S if text and self._has_begun() else 0.0
                await asyncio.sleep(pause_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S - pause_s):
                        await changed.wait()

    def _has_begun(self) -> bool:
        """Whether the client has a document, or a problem, of each topic: until then each is sent as it comes."""
        return all(topic in self._position.digests or topic in self._problems for topic in self._loads)

    def _may_go_on(self) -> bool:
        """Whether the credential is valid, as of the last check."""
        if self._clock() < self._check_at:
            return True
        self._check_at = self._clock() + CHECK_S
        return self._is_valid()

    async def _new_messages(self) -> str:
        events = await self._new_events() if EVENTS in self._position.topics else ""
        return events + "".join(self._new_documents())

    async def _new_events(self) -> str:
        """Return the message with the next events, "" without any; the first message comes in any case."""
        try:
            read = await self._hub.events.read_after(self._position.event, self._visible)
        except Fault:
            return ""  # the feed's task says so in the log; the client goes on from where it is
        if read is None:
            return ""
        events, self._position.event = read
        if not events and self._has_events:
            return ""
        self._has_events = True
        return self._message(str(EVENTS), json.dumps({"events": events}))

    def _new_documents(self) -> Iterator[str]:
        for topic in self._position.topics:
            if topic == EVENTS:
                continue
            feed = self._hub.feed(topic)
            if feed.problem != self._problems.get(topic, ""):
                self._problems[topic] = feed.problem
                yield self._message("problem", json.dumps({"topic": str(topic), "error": feed.problem}))
            rendered = feed.rendered(self._visible, self._loads[topic])
            if rendered is not None and rendered.digest != self._position.digests.get(topic):
                self._position.digests[topic] = rendered.digest
                yield self._message(str(topic), rendered.text)

    def _message(self, name: str, data: str) -> str:
        return f"id: {self._position}\nevent: {name}\ndata: {data}\n\n"
