"""Deliveries to sinks as spans, whose ids the other side gets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.control.sinks import SinkContext, SinkFault
from penstock.control.sinks.plugins import send
from penstock.core.sinks import SinkOrigin, SinkSpec
from penstock.core.traces.context import parse_parent
from penstock.core.traces.spans import CLIENT, Span
from tests.events import RETRAINING_REQUESTED
from tests.integration.traffic.test_retraining import Receiver, receiving


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def test_each_attempt_is_a_span_that_the_webhook_gets(hook: Receiver, tmp_path: Path) -> None:
    hook.answers = [(500, {}), (200, {})]
    context, spans = SinkContext(tmp_path), list[Span]()
    spec = SinkSpec("webhook", {"url": hook.url}, SinkOrigin.OWNER)
    context.traces.export = spans.append
    with pytest.raises(SinkFault):
        send(spec, RETRAINING_REQUESTED, context)
    send(spec, RETRAINING_REQUESTED, context)
    assert [span.is_error for span in spans] == [True, False]
    [(_, headers, _)] = hook.got  # of the attempt that was taken
    parent, span = parse_parent(headers["traceparent"].encode()), spans[1]
    assert parent is not None and parent.is_sampled
    assert (parent.trace_id, parent.span_id) == (span.trace_id, span.span_id)
    assert (span.name, span.kind) == ("deliver", CLIENT)
    assert span.attributes["cloudevents.event_id"] == RETRAINING_REQUESTED["id"]
    assert span.attributes["penstock.sink.kind"] == "webhook"
    assert spans[0].trace_id != spans[1].trace_id


def test_without_a_receiver_nothing_is_traced(hook: Receiver, tmp_path: Path) -> None:
    send(SinkSpec("webhook", {"url": hook.url}, SinkOrigin.OWNER), RETRAINING_REQUESTED, SinkContext(tmp_path))
    assert "traceparent" not in hook.got[0][1]
