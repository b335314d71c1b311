"""Exports spans by OTLP: a bounded queue, batches, and retries as the specification says."""

import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Final

from penstock.control.calls.blocking import BlockingPool
from penstock.control.export.otlp_http import Send
from penstock.control.periodic import PeriodicTask, ProblemLog
from penstock.core.errors import Fault
from penstock.core.traces.processor_budget import ProcessorBudget
from penstock.core.traces.retries import UNSTATED, ExportAnswer, retry_after
from penstock.telemetry import otlp_metrics as metrics
from penstock.telemetry.otlp.common import TRACES_PATH, Value, enclose, signal_url
from penstock.telemetry.otlp.record_spans import EncodedSpans
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.telemetry")

MOST_WAITING: Final = 8192
"""Encoded spans that wait, some megabytes; further ones are counted and dropped."""

BATCH: Final = 2048
"""Spans of one request, about half a megabyte."""

SEND_S: Final = 1.0
STEP_S: Final = 60.0
"""Deadline of a step, which sends until nothing waits or an attempt fails."""

FLUSH_S: Final = 2.0
STEP_BATCHES: Final = 8
SENDING_S: Final = 20.0
"""Time in a step after which no other batch begins, so that a slow receiver does not make it late."""

SIGNAL: Final = "traces"


class SpanExporter:
    """The exporter of one gateway. ``add`` may be called from any thread; ``clock`` gives steady seconds.

    What sending takes is spent from the ``budget`` of those who make spans; ``thread_time`` gives the processor seconds
    of the thread that asks.
    """

    def __init__(
        self,
        endpoint: str,
        resource: Mapping[str, Value],
        version: str,
        send: Send,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        budget: ProcessorBudget | None = None,
        thread_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self._url = signal_url(endpoint, TRACES_PATH)
        self._resource = resource
        self._version = version
        self._send = send
        self._clock = clock
        self._chance = chance
        self._budget = budget
        self._thread_time = thread_time
        self._waiting: deque[EncodedSpans] = deque()
        self._waiting_spans = 0
        self._batch: list[bytes] = []
        self._batch_spans = 0
        self._attempts = 0
        self._due = 0.0
        self._lock = Lock()  # of those who add
        self._outcomes: Counter[str] = Counter()
        self._problem_log = ProblemLog()
        self._pool = BlockingPool("otlp_traces", 1, "the OTLP receiver", STEP_S)
        self.pools = (self._pool,)
        self.task = PeriodicTask("otlp traces", self.step, SEND_S, meanwhile="spans are not exported")

    def add(self, spans: Iterable[EncodedSpans]) -> None:
        """Queue encoded spans, those of a request together; without space they are dropped and counted."""
        with self._lock:
            for encoded in spans:
                if self._waiting_spans + encoded[1] <= MOST_WAITING:
                    self._waiting.append(encoded)
                    self._waiting_spans += encoded[1]
                else:
                    self._outcomes[metrics.DROPPED] += encoded[1]

    async def step(self) -> None:
        """Send what waits, if anything does."""
        if self._waiting or self._batch:
            await self._pool.call(self.send_waiting)

    async def flush(self) -> None:
        """Send what waits before the end, for ``FLUSH_S`` at most."""
        if not self._waiting and not self._batch:
            return
        with suppress(Fault):
            await self._pool.call(self.send_waiting, deadline_s=FLUSH_S)

    def send_waiting(self) -> None:
        """Send batches until nothing waits, or one has to be sent again later. Blocks; of one thread at a time."""
        until, began = self._clock() + SENDING_S, self._thread_time()
        for _ in range(STEP_BATCHES):
            if not self._due <= self._clock() <= until or not self._take_batch():
                break
            self._attempts += 1
            self._conclude(self._send(self._url, enclose(self._resource, self._version, b"".join(self._batch))))
        if self._budget is not None:
            self._budget.spend(self._thread_time() - began)

    def _take_batch(self) -> bool:
        """Fill the batch, unless it has to be sent again; return whether it has spans."""
        if self._attempts:
            return True
        with self._lock:
            while self._waiting and self._batch_spans + self._waiting[0][1] <= BATCH:
                encoded, count = self._waiting.popleft()
                self._waiting_spans -= count
                self._batch.append(encoded)
                self._batch_spans += count
        return bool(self._batch)

    def _conclude(self, answer: ExportAnswer) -> None:
        if answer.is_success:
            rejected = min(answer.rejected, self._batch_spans)
            self._outcomes[metrics.SENT] += self._batch_spans - rejected
            self._outcomes[metrics.REJECTED] += rejected
            self._log_taken(answer)
            self._end_batch()
            return
        self._problem_log.report(SIGNAL, f"the OTLP receiver does not take spans: {answer.reason}")
        pause_s = retry_after(answer, self._attempts, self._chance())
        if pause_s is None:
            self._outcomes[metrics.FAILED] += self._batch_spans
            self._end_batch()
        else:
            self._due = self._clock() + pause_s

    def _log_taken(self, answer: ExportAnswer) -> None:
        """Log what a receiver says of a batch that it has taken, and that it takes spans again."""
        if answer.rejected or answer.reason:
            self._problem_log.report(SIGNAL, f"the OTLP receiver does not take every span: {answer.reason or UNSTATED}")
        elif self._problem_log.clear(SIGNAL):
            log.info("the OTLP receiver takes spans again")

    def _end_batch(self) -> None:
        self._batch, self._batch_spans, self._attempts, self._due = [], 0, 0, 0.0

    def readings(self) -> Iterator[Reading]:
        """Return how many spans wait, and what became of the others."""
        yield Point(metrics.OTLP_WAITING, (SIGNAL,), self._waiting_spans + self._batch_spans)
        for outcome in metrics.OUTCOMES:
            yield Point(metrics.OTLP_ITEMS, (SIGNAL, outcome), self._outcomes[outcome])

    def close(self) -> None:
        """End the thread; what waits is dropped."""
        self._pool.close()
