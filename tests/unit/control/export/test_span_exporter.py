"""The export of spans: batches, retries, bounds, and counts of what became of them."""

import asyncio
import logging

import pytest

from penstock.control.export.span_exporter import BATCH, MOST_WAITING, SENDING_S, STEP_BATCHES, SpanExporter
from penstock.core.traces.processor_budget import ProcessorBudget
from penstock.core.traces.retries import MOST_ATTEMPTS, ExportAnswer
from penstock.telemetry.otlp_metrics import OTLP_ITEMS
from penstock.telemetry.readings import Point

TAKEN, AWAY = ExportAnswer(200), ExportAnswer(503, reason="it answered 503")


class Bench:
    """An exporter whose receiver gives the next of these answers, and then takes everything."""

    def __init__(self, *answers: ExportAnswer) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []
        self.now = 100.0
        self.exporter = SpanExporter(
            "http://127.0.0.1:4318", {}, "1", self.send, clock=lambda: self.now, chance=lambda: 0.0
        )

    def send(self, url: str, body: bytes) -> ExportAnswer:
        assert url == "http://127.0.0.1:4318/v1/traces"
        self.sent.append(body)
        return self.answers.pop(0) if self.answers else TAKEN

    def add(self, count: int) -> None:
        self.exporter.add([(b"\x12\x01x", 1)] * count)

    def outcomes(self) -> dict[str, float]:
        points = [item for item in self.exporter.readings() if isinstance(item, Point) and item.metric is OTLP_ITEMS]
        return {point.labels[1]: point.value for point in points if point.value}


def test_what_waits_is_sent_in_batches() -> None:
    bench = Bench()
    bench.add(BATCH + 1)
    bench.exporter.send_waiting()
    assert [body.count(b"\x12\x01x") for body in bench.sent] == [BATCH, 1]
    assert bench.outcomes() == {"sent": BATCH + 1}
    bench.exporter.send_waiting()
    assert len(bench.sent) == 2


def test_a_step_sends_a_bounded_number_of_batches() -> None:
    bench = Bench()
    bench.add(MOST_WAITING)
    bench.exporter.send_waiting()
    assert len(bench.sent) == min(STEP_BATCHES, MOST_WAITING // BATCH)


def test_a_batch_is_sent_again_after_a_growing_pause(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench(AWAY, ExportAnswer(429, retry_after_s=20.0, reason="it answered 429"))
    bench.add(3)
    bench.exporter.send_waiting()
    bench.add(2)
    bench.exporter.send_waiting()
    assert len(bench.sent) == 1
    bench.now += 1.0
    bench.exporter.send_waiting()
    assert bench.sent[0] == bench.sent[1]
    bench.now += 19.0
    bench.exporter.send_waiting()
    assert len(bench.sent) == 2
    bench.now += 1.0
    bench.exporter.send_waiting()
    assert [body.count(b"\x12\x01x") for body in bench.sent[2:]] == [3, 2]
    assert bench.outcomes() == {"sent": 5}
    assert [record.levelname for record in caplog.records][-1] == "INFO"


def test_a_refused_batch_is_dropped_at_once_and_a_silent_receiver_after_some_attempts() -> None:
    bench = Bench(ExportAnswer(400, reason="it answered 400"), *[ExportAnswer(0, reason="silent")] * MOST_ATTEMPTS)
    bench.add(2)
    bench.exporter.send_waiting()
    assert bench.outcomes() == {"failed": 2}
    bench.add(3)
    for _ in range(MOST_ATTEMPTS):
        bench.exporter.send_waiting()
        bench.now += 100.0
    assert bench.outcomes() == {"failed": 5}


def test_the_queue_is_bounded_and_drops_are_counted() -> None:
    bench = Bench(AWAY)
    bench.add(MOST_WAITING + 7)
    bench.exporter.send_waiting()
    assert bench.outcomes() == {"dropped": 7}
    waiting = next(iter(bench.exporter.readings()))
    assert isinstance(waiting, Point) and waiting.value == MOST_WAITING


def test_what_a_receiver_rejects_by_itself_is_counted() -> None:
    bench = Bench(ExportAnswer(200, rejected=2), ExportAnswer(200, rejected=99))
    bench.add(5)
    bench.exporter.send_waiting()
    bench.add(1)
    bench.exporter.send_waiting()
    assert bench.outcomes() == {"sent": 3, "rejected": 3}


def test_what_a_receiver_says_of_what_it_takes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    spoken = ExportAnswer(200, reason="attributes are too long")
    bench = Bench(spoken, spoken, ExportAnswer(200, rejected=1), TAKEN)
    for _ in range(4):
        bench.add(1)
        bench.exporter.send_waiting()
    texts = [item.message.rpartition(": ")[2] for item in caplog.records]
    assert texts == ["attributes are too long", "it does not say why", "the OTLP receiver takes spans again"]


def test_a_slow_receiver_does_not_make_a_step_late() -> None:
    bench = Bench()

    def send(url: str, body: bytes) -> ExportAnswer:
        bench.now += SENDING_S / 1.5
        return bench.send(url, body)

    slow = SpanExporter("http://127.0.0.1:4318", {}, "1", send, clock=lambda: bench.now)
    slow.add([(b"\x12\x01x", 1)] * MOST_WAITING)
    slow.send_waiting()
    assert len(bench.sent) == 2


def test_what_waits_is_sent_before_the_end() -> None:
    bench = Bench()
    asyncio.run(bench.exporter.flush())
    assert not bench.sent
    bench.add(1)
    asyncio.run(bench.exporter.flush())
    bench.add(1)
    asyncio.run(bench.exporter.step())
    bench.exporter.close()
    assert len(bench.sent) == 2


def test_the_spans_of_a_request_stay_together_and_count_each() -> None:
    bench = Bench()
    whole, most = b"\x12\x01x" * 5, MOST_WAITING // 5
    bench.exporter.add([(whole, 5)] * (most + 2))
    bench.exporter.send_waiting()
    assert [body.count(b"\x12\x01x") % 5 for body in bench.sent] == [0] * len(bench.sent)
    assert max(body.count(b"\x12\x01x") for body in bench.sent) <= BATCH
    assert bench.outcomes() == {"sent": most * 5, "dropped": 10}


def test_sending_takes_from_the_processor_time_of_spans() -> None:
    budget, used = ProcessorBudget(0.5, lambda: 0.0), iter((1.0, 3.0))
    exporter = SpanExporter(
        "http://127.0.0.1:4318", {}, "1", lambda *_: TAKEN, budget=budget, thread_time=lambda: next(used)
    )
    assert budget.has_left()
    exporter.send_waiting()
    assert not budget.has_left()
