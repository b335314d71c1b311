"""Takes the records of the workers: makes spans of them, exemplars, and lines of the access log, on a thread."""

import logging
import time
from base64 import b64decode
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from random import getrandbits
from typing import Any, Final

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.traces.access_fields import access_line
from penstock.core.traces.records import ACCESS, KEPT, REQUEST, SPANS, TraceRecord, read_records
from penstock.core.traces.spans import STAGES, protocol_of, route_of, spans_of
from penstock.telemetry import metrics as table
from penstock.telemetry import otlp_metrics as metrics
from penstock.telemetry.exemplars import ExemplarStore
from penstock.telemetry.otlp.trace_request import encode_span
from penstock.telemetry.readings import Exemplar, Point, Reading

log = logging.getLogger("penstock.telemetry")
access_log = logging.getLogger("penstock.access")

STEP_S: Final = 0.25
MOST_BYTES: Final = 4 << 20
"""Size of records and their texts that wait; further ones are counted and dropped."""

REASONS: Final = ("forced", "kept", "full", "queue")
"""Why requests that would have been traced were not: the limits, a full buffer of a worker, a full queue here."""


class RecordIntake:
    """The records of one gateway's workers. ``take`` belongs to the event loop.

    ``export`` gets encoded spans (None: none are exported). ``is_split`` says whether a model's route splits traffic,
    and ``scheme`` is that of the REST port.
    """

    def __init__(
        self,
        export: Callable[[list[bytes]], None] | None,
        exemplars: ExemplarStore,
        is_split: Callable[[str], bool],
        scheme: str = "http",
    ) -> None:
        self._export = export
        self._exemplars = exemplars
        self._is_split = is_split
        self._scheme = scheme
        self._waiting: deque[tuple[int, bytes, list[str]]] = deque()
        self._taken_bytes = 0  # the event loop's
        self._processed_bytes = 0  # the thread's
        self._dropped: Counter[str] = Counter()
        self._pool = BlockingPool("trace_records", 1, "the log")
        self.pools = (self._pool,)
        self.task = PeriodicTask("trace records", self.step, STEP_S, meanwhile="traces and the access log wait")

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a message of a worker."""
        self._dropped.update({str(reason): int(count) for reason, count in message["dropped"].items()})
        records = b64decode(message["records"])
        texts = [str(text) for text in message["texts"]]
        size = len(records) + sum(map(len, texts))
        if self._taken_bytes - self._processed_bytes + size > MOST_BYTES:
            self._dropped["queue"] += int(message["count"])
        elif records:
            self._waiting.append((size, records, texts))
            self._taken_bytes += size

    async def step(self) -> None:
        """Process what waits."""
        if self._waiting:
            await self._pool.call(self.process)

    def process(self) -> None:
        """Process what waits. Blocks; of one thread at a time."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        while self._waiting:
            size, records, texts = self._waiting.popleft()
            self._processed_bytes += size
            for record in read_records(records, texts):
                self._process(record, offset_ns)

    def _process(self, record: TraceRecord, offset_ns: int) -> None:
        if record.flags & SPANS:
            self._keep_exemplars(record, offset_ns)
            if self._export is not None:
                spans = spans_of(record, self._is_split(record.model), offset_ns, new_id, self._scheme)
                self._export([encode_span(span) for span in spans])
        if record.flags & ACCESS and record.kind == REQUEST:
            message, fields = access_line(record, offset_ns)
            access_log.info(message, extra={"fields": fields})

    def _keep_exemplars(self, record: TraceRecord, offset_ns: int) -> None:
        """Let the latency histograms refer to the trace of an answered request, whose times are those they counted: of
        one that is kept for a shadow, the end is that of its run."""
        if record.kind != REQUEST or not record.version or record.outcome or record.flags & KEPT:
            return
        exemplar = Exemplar(record.trace_id.hex(), record.span_id.hex(), 0.0, (record.times[4] + offset_ns) / 1e9)
        labels = (record.model, record.version)
        series = (*labels, route_of(record), protocol_of(record))
        self._exemplars.put(table.REQUEST_DURATION, series, (record.times[4] - record.times[0]) / 1e9, exemplar)
        for stage, start, end in zip(STAGES, record.times, record.times[1:], strict=False):
            self._exemplars.put(table.STAGE_DURATION, (*labels, stage), (end - start) / 1e9, exemplar)

    def readings(self) -> Iterator[Reading]:
        """Return how many requests were not traced, by reason."""
        for reason in REASONS:
            yield Point(metrics.TRACES_DROPPED, (reason,), self._dropped[reason])

    def close(self) -> None:
        """End the thread."""
        self._pool.close()


def new_id() -> bytes:
    """Return a random span id; not for secrets."""
    return (getrandbits(64) | 1).to_bytes(8, "big")
