"""Feeds: the newest document of each topic that somebody watches, made once for all streams."""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock.api.admin.stream.topics import Topic, filter_of_topic, lasting_part, visible_part
from penstock.control.periodic import PeriodicTask
from penstock.core.access.model_filter import ModelFilter
from penstock.core.errors import Fault

Document = Mapping[str, Any]
LoadDocument = Callable[[Topic], Awaitable[Document]]
ReadMark = Callable[[], object]
ReadActivity = Callable[[str], object]

STEP_S: Final = 0.25
"""Interval of looks at whether a document is due, in seconds. With the time in which messages are put together it
leaves a page a quarter of a second to fetch and draw, so that a change is visible within one second."""

LONGEST_S: Final = 10.0
SHARE: Final = 0.012
"""The share of a core that making documents may use, of all feeds together; documents that take long are made less
often, but every ``LONGEST_S`` seconds. Streams and looks at what is due cost more than that on top."""

INTERVALS_S: Final = {
    "fleet": 5.0,
    "monitor": 5.0,
    "traffic": 2.0,
    "retraining": 2.0,
    "rollouts": 1.0,
    "experiments": 1.0,
    "readiness": 1.0,
    "workers": 2.0,
}
"""Intervals of documents that may change at any time."""

UNCHANGED_S: Final = 10.0
BY_MARK: Final = {"overview": 2.0, "models": UNCHANGED_S, "model": UNCHANGED_S, "route": UNCHANGED_S}
"""Documents that are made when something has changed (see ``ReadMark``), and the interval in seconds in which they are
made all the same: a mark does not notice everything."""

TRIALS: Final = frozenset({"rollouts", "experiments"})
"""Documents that change at any time only while a trial is open; its beginning changes the mark."""

BY_REQUESTS: Final = frozenset({"traffic", "monitor"})
"""Documents of a model that change slowly while it gets no requests: they are made every ``UNCHANGED_S`` seconds."""

OPEN: Final = frozenset({"running", "paused"})


@dataclass(frozen=True, slots=True)
class Rendered:
    """A document as JSON text, and a digest of its topic and of what lasts of it: equal digests are not sent again."""

    digest: str
    text: str


def render(topic: Topic, document: Document) -> Rendered:
    """Return a document as it is sent: ASCII, in one line."""
    lasting = lasting_part(topic, document)
    text = _encode(lasting)
    digest = hashlib.blake2b(f"{topic} {text}".encode(), digest_size=6).hexdigest()
    if lasting is document:
        return Rendered(digest, text)
    if all(value is document[name] for name, value in lasting.items()):  # only whole fields were left out
        rest = {name: value for name, value in document.items() if name not in lasting}
        return Rendered(digest, f"{_encode(rest)[:-1]},{text[1:]}")
    return Rendered(digest, _encode(document))


def _encode(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))


class Feed:
    """The newest document of one topic; ``load`` makes it, ``mark`` returns an object that is equal as long as models
    and routes are the same. ``watchers`` are set when there is something new. ``problem`` says why the document could
    not be made, "" if it could. Loads are numbered from 1: a stream that joins gets no document
    whose load began before.

    ``feeds`` returns how many feeds there are; ``clock`` is monotonic; ``processor_time`` is that of this process,
    whose other threads read the database.
    """

    def __init__(
        self,
        topic: Topic,
        load: LoadDocument,
        mark: ReadMark,
        activity: ReadActivity,
        feeds: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        processor_time: Callable[[], float] = time.process_time,
    ) -> None:
        self.topic = topic
        self.watchers: set[asyncio.Event] = set()
        self.problem = ""
        self.task = PeriodicTask(f"stream {topic}", self.step, STEP_S, meanwhile=f"pages show an older {topic}")
        self._load = load
        self._mark = mark
        self._activity = activity
        self._feeds = feeds
        self._clock = clock
        self._processor_time = processor_time
        self._document: Document | None = None
        self._rendered: dict[ModelFilter, Rendered] = {}
        self._due = 0.0
        self._made: float | None = None
        self._of_mark: object = None
        self._of_activity: object = None
        self._begun = 0
        self._ended = 0
        self._needed = 0

    def join(self) -> int:
        """Return the number of the load that a stream needs which begins now. That load is due at once: it costs what a
        call for the document costs, and is one for all streams that join before it begins.

        A page would rest on a document from before its first request otherwise, and the change that it sends would be
        refused.
        """
        self._needed = self._begun + 1
        return self._needed

    @property
    def is_awaited(self) -> bool:
        """Whether a stream waits for a load that has not begun."""
        return self._needed > self._begun

    def is_due(self, now: float, mark: object) -> bool:
        """Whether ``step`` would make the document at a time; ``mark`` is the present one."""
        return self._made is None or self._is_due(now, self._made, mark)

    async def step(self) -> None:
        """Make the document if it is due, and wake those who watch."""
        now, mark = self._clock(), self._mark()
        if not self.is_due(now, mark):
            return
        began, activity = self._processor_time(), self._activity_now()
        self._begun += 1
        try:
            self._take(await self._load(self.topic), "")
        except Fault as fault:
            self._take(self._document, str(fault))
        finally:
            self._ended = self._begun
            self._of_mark, self._made = mark, now
            self._of_activity = activity
            self._due = now + self._pause_s(self._processor_time() - began)

    def _is_due(self, now: float, made: float, mark: object) -> bool:
        """Whether to make the document again: for a stream that has joined, soon after a change that the mark shows,
        else as often as it may cost."""
        if self.is_awaited:
            return True
        if mark != self._of_mark:
            return now >= made + STEP_S / 2
        if now < self._due:
            return False
        return bool(self.problem) or now >= made + self._quiet_s()

    def _quiet_s(self) -> float:
        """Return after which time to make the document again as long as nothing shows that it has changed."""
        activity = self._activity_now()
        is_idle = activity is not None and activity == self._of_activity
        return UNCHANGED_S if is_idle or self._has_only_ended_trials() else BY_MARK.get(self.topic.kind, 0.0)

    def _activity_now(self) -> object:
        return self._activity(self.topic.model) if self.topic.kind in BY_REQUESTS and self.topic.model else None

    def _has_only_ended_trials(self) -> bool:
        if self.topic.kind not in TRIALS or self._document is None:
            return False
        return not any(trial.get("state") in OPEN for trial in self._document[self.topic.kind])

    def _pause_s(self, cost_s: float) -> float:
        """Return the time until the next document; ``cost_s`` is what making it has cost, and what ran meanwhile."""
        least = INTERVALS_S.get(self.topic.kind, STEP_S) - STEP_S / 2  # steps are not exactly as long as intended
        return min(max(least, cost_s * self._feeds() / SHARE), LONGEST_S)

    def _take(self, document: Document | None, problem: str) -> None:
        if document == self._document and problem == self.problem and self._needed != self._begun:
            return
        if document != self._document:
            self._rendered.clear()
        self._document, self.problem = document, problem
        for watcher in self.watchers:
            watcher.set()

    def rendered(self, visible: ModelFilter, load: int = 0) -> Rendered | None:
        """Return the newest document as a caller may see it, None before the end of a load with this number; it is made
        once for equal filters."""
        if self._document is None or self._ended < load:
            return None
        key = filter_of_topic(self.topic, visible)
        if key not in self._rendered:
            self._rendered[key] = render(self.topic, visible_part(self.topic, self._document, key))
        return self._rendered[key]
