"""The push of metrics, and the exchange with a receiver."""

import asyncio
import logging

import pytest

from penstock.control.export.metrics_push import MetricsPush
from penstock.control.export.otlp_http import OtlpSender
from penstock.core.traces.retries import ExportAnswer
from penstock.core.traces.spans import Span
from penstock.telemetry.metrics import INFLIGHT
from penstock.telemetry.otlp.common import enclose
from penstock.telemetry.otlp.trace_request import encode_span
from penstock.telemetry.readings import Point, Reading
from tests.otlp import receiving

READINGS: list[Reading] = [Point(INFLIGHT, ("m",), 1), Point(INFLIGHT, ("n",), 2)]


def test_points_are_counted_by_what_became_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers = [ExportAnswer(503, reason="it answered 503"), ExportAnswer(200, rejected=1), ExportAnswer(200)]
    push = MetricsPush("http://h:1", 1.0, {}, "1", lambda: READINGS, lambda *_: answers.pop(0))
    for _ in range(3):
        asyncio.run(push.step())
    push.close()
    counts = {item.labels[1]: item.value for item in push.readings() if isinstance(item, Point)}
    assert counts == {"sent": 3, "rejected": 1, "failed": 2, "dropped": 0}
    assert [item.levelname for item in caplog.records] == ["WARNING", "WARNING", "INFO"]


def test_the_last_counts_are_pushed_before_the_end_and_pauses_are_kept() -> None:
    now, sent = 100.0, 0

    def send(url: str, body: bytes) -> ExportAnswer:
        nonlocal sent
        sent += 1
        return ExportAnswer(429, 7.0, reason="it answered 429")

    push = MetricsPush("http://h:1", 1.0, {}, "1", lambda: READINGS, send, lambda: now)
    for seconds, count in ((0.0, 1), (6.9, 1), (0.2, 2)):
        now += seconds
        asyncio.run(push.step())
        assert sent == count
    asyncio.run(push.flush())
    push.close()
    asyncio.run(push.flush())
    assert sent == 3


def test_a_receiver_gets_metrics_and_spans() -> None:
    send = OtlpSender()
    with receiving() as receiver:
        push = MetricsPush(receiver.url, 1.0, {"a": "b"}, "1", lambda: READINGS, send)
        asyncio.run(push.step())
        push.close()
        assert [item.name for item in receiver.metrics] == ["penstock_inflight_requests"]
        assert receiver.resources == [{"a": "b"}]
        receiver.rejected = 1
        body = enclose({}, "1", encode_span(Span(bytes(16), bytes(8), bytes(8), "x", 1, 1, 2)))
        assert send(f"{receiver.url}/v1/traces", body) == ExportAnswer(200, rejected=1)
        receiver.statuses, receiver.fields = [503, 302], {"retry-after": "7", "location": receiver.url}
        assert send(f"{receiver.url}/v1/traces", body) == ExportAnswer(503, 7.0, reason="it answered 503")
        assert send(f"{receiver.url}/v1/traces", body).status == 302
    assert send(f"{receiver.url}/v1/traces", body) == ExportAnswer(
        0, reason="it does not answer: [Errno 111] Connection refused"
    )
    send.close()
