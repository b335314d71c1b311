"""Pushes the metrics of a gateway by OTLP, at an interval: the same readings that the ops port exposes."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from penstock.control.calls.blocking import BlockingPool
from penstock.control.export.otlp_http import Send
from penstock.control.periodic import PeriodicTask, ProblemLog
from penstock.core.errors import Fault
from penstock.core.traces.retries import LONGEST_STATED_S, UNSTATED
from penstock.telemetry import otlp_metrics as metrics
from penstock.telemetry.otlp.common import METRICS_PATH, Value, signal_url
from penstock.telemetry.otlp.metrics_request import count_points, metrics_request
from penstock.telemetry.otlp.start_times import StartTimes
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.telemetry")

SIGNAL: Final = "metrics"
STEP_S: Final = 60.0
FLUSH_S: Final = 2.0


class MetricsPush:
    """The push of one gateway; ``read`` returns its readings, on the event loop.

    The values are sums since the start, so a push that fails needs no retry: the next one says the same and more.
    """

    def __init__(
        self,
        endpoint: str,
        interval_s: float,
        resource: Mapping[str, Value],
        version: str,
        read: Callable[[], Iterable[Reading]],
        send: Send,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = signal_url(endpoint, METRICS_PATH)
        self._resource = resource
        self._version = version
        self._read = read
        self._send = send
        self._starts = StartTimes(time.time_ns())
        self._clock = clock
        self._due = 0.0
        self._outcomes: Counter[str] = Counter()
        self._problem_log = ProblemLog()
        self._pool = BlockingPool("otlp_metrics", 1, "the OTLP receiver", STEP_S)
        self.pools = (self._pool,)
        self.task = PeriodicTask(
            "otlp metrics", self.step, interval_s, delay_s=interval_s, meanwhile="metrics are not pushed"
        )

    async def step(self) -> None:
        """Push all metrics once, unless the receiver has asked for a pause."""
        if self._clock() >= self._due:
            await self._pool.call(self._push, list(self._read()), time.time_ns())

    async def flush(self) -> None:
        """Push what was counted last, before the end, for ``FLUSH_S`` at most."""
        with suppress(Fault):
            await self._pool.call(self._push, list(self._read()), time.time_ns(), deadline_s=FLUSH_S)

    def _push(self, readings: list[Reading], now_ns: int) -> None:
        points = count_points(readings)
        body = metrics_request(readings, self._resource, self._version, self._starts, now_ns)
        answer = self._send(self._url, body)
        if not answer.is_success:
            self._outcomes[metrics.FAILED] += points
            self._due = self._clock() + min(answer.retry_after_s, LONGEST_STATED_S)
            self._problem_log.report(SIGNAL, f"the OTLP receiver does not take metrics: {answer.reason}")
            return
        self._outcomes[metrics.REJECTED] += min(answer.rejected, points)
        self._outcomes[metrics.SENT] += points - min(answer.rejected, points)
        if answer.rejected or answer.reason:
            self._problem_log.report(
                SIGNAL, f"the OTLP receiver does not take every metric: {answer.reason or UNSTATED}"
            )
        elif self._problem_log.clear(SIGNAL):
            log.info("the OTLP receiver takes metrics again")

    def readings(self) -> Iterator[Reading]:
        """Return what became of the points that were pushed."""
        for outcome in metrics.OUTCOMES:
            yield Point(metrics.OTLP_ITEMS, (SIGNAL, outcome), self._outcomes[outcome])

    def close(self) -> None:
        """End the thread."""
        self._pool.close()
