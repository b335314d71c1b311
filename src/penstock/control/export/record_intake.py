"""Takes the records of the workers: makes spans of them, exemplars, and lines of the access log, on a thread."""

import logging
import time
from base64 import b64decode
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.traces.access_fields import access_line
from penstock.core.traces.processor_budget import ProcessorBudget
from penstock.core.traces.records import ACCESS, KEPT, REQUEST, SPANS, TraceRecord, read_records
from penstock.core.traces.spans import STAGES, protocol_of, route_of
from penstock.telemetry import metrics as table
from penstock.telemetry import otlp_metrics as metrics
from penstock.telemetry.exemplars import ExemplarStore
from penstock.telemetry.otlp.record_spans import EncodedSpans, RecordEncoder
from penstock.telemetry.readings import Exemplar, Point, Reading

log = logging.getLogger("penstock.telemetry")
access_log = logging.getLogger("penstock.access")

STEP_S: Final = 0.25
MOST_BYTES: Final = 4 << 20
"""Size of records and their texts that wait; further ones are counted and dropped."""

REASONS: Final = ("forced", "kept", "full", "queue", "processor")
"""Why requests that would have been traced were not: the limits, a full buffer of a worker, a full queue here, and the
limit of the processor time."""

CHUNK: Final = 256
"""Records of which the spans are made before the processor time is looked at again."""


_BUCKETS_NS: Final = [round(edge * 1e9) for edge in table.REQUEST_DURATION.edges]


class RecordIntake:
    """The records of one gateway's workers. ``take`` belongs to the event loop.

    ``encoder`` makes the spans that ``export`` gets (None: none are exported), as long as the ``budget`` lasts.
    ``thread_time`` gives the processor seconds of the thread that asks.
    """

    def __init__(
        self,
        export: Callable[[list[EncodedSpans]], None] | None,
        exemplars: ExemplarStore,
        encoder: RecordEncoder,
        budget: ProcessorBudget,
        thread_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self._export = export
        self._exemplars = exemplars
        self._encoder = encoder
        self._budget = budget
        self._thread_time = thread_time
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
            self._process(list(read_records(records, texts)), offset_ns)

    def _process(self, records: list[TraceRecord], offset_ns: int) -> None:
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            self._trace([record for record in chunk if record.flags & SPANS], offset_ns)
            for record in chunk:
                if record.flags & ACCESS and record.kind == REQUEST:
                    message, fields = access_line(record, offset_ns)
                    access_log.info(message, extra={"fields": fields})

    def _trace(self, records: list[TraceRecord], offset_ns: int) -> None:
        """Make spans and exemplars of records, or count that there is no processor time left for them."""
        if not records or self._export is None:
            return
        if not self._budget.has_left():
            self._dropped["processor"] += len(records)
            return
        began = self._thread_time()
        self._export([self._encoder.encode(record, offset_ns) for record in records])
        self._keep_exemplars(records, offset_ns)
        self._budget.spend(self._thread_time() - began)

    def _keep_exemplars(self, records: list[TraceRecord], offset_ns: int) -> None:
        """Let the latency histograms refer to the traces of answered requests: of those that took as long, as buckets
        have it, to the newest."""
        kept = set()
        for record in reversed(records):
            if not _is_exemplary(record):
                continue
            bucket = bisect_left(_BUCKETS_NS, record.times[4] - record.times[0])
            key = record.model, record.version, record.series, bucket
            if key not in kept:
                kept.add(key)
                self._put_exemplars(record, offset_ns)

    def _put_exemplars(self, record: TraceRecord, offset_ns: int) -> None:
        put, times = self._exemplars.put, record.times
        trace_id, span_id, at = record.trace_id.hex(), record.span_id.hex(), (times[4] + offset_ns) / 1e9
        model, version = record.model, record.version
        series = (model, version, route_of(record), protocol_of(record))
        put(table.REQUEST_DURATION, series, Exemplar(trace_id, span_id, (times[4] - times[0]) / 1e9, at))
        for index, stage in enumerate(STAGES):
            taken_s = (times[index + 1] - times[index]) / 1e9
            put(table.STAGE_DURATION, (model, version, stage), Exemplar(trace_id, span_id, taken_s, at))

    def readings(self) -> Iterator[Reading]:
        """Return how many requests were not traced, by reason."""
        for reason in REASONS:
            yield Point(metrics.TRACES_DROPPED, (reason,), self._dropped[reason])

    def close(self) -> None:
        """End the thread."""
        self._pool.close()


def _is_exemplary(record: TraceRecord) -> bool:
    """Return whether the times of a request are those that its histograms counted: of one that is kept for a shadow,
    the end is that of its run."""
    return record.kind == REQUEST and bool(record.version) and not record.outcome and not record.flags & KEPT
