"""Traces of deliveries to sinks: each attempt is a span, which the other side gets as ``traceparent``."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import getrandbits

from penstock.core.traces.context import write_parent
from penstock.core.traces.records import NO_ID
from penstock.core.traces.spans import CLIENT, Span, Value
from penstock.registry.records import Document


class DeliveryTraces:
    """The traces of one gateway's deliveries; any thread may use it. ``export`` takes spans (None: nothing is
    traced)."""

    def __init__(self) -> None:
        self.export: Callable[[Span], None] | None = None

    @contextmanager
    def delivering(self, kind: str, event: Document) -> Iterator[str]:
        """Trace an attempt to send an event to a sink of a kind; yield its ``traceparent``, "" for none. An exception
        marks the span."""
        if self.export is None:
            yield ""
            return
        trace_id, span_id, start_ns, failed = _draw_random(128), _draw_random(64), time.time_ns(), True
        try:
            yield write_parent(trace_id, span_id, is_sampled=True)
            failed = False
        finally:
            times = start_ns, time.time_ns()
            span = Span(
                trace_id, span_id, NO_ID, "deliver", CLIENT, *times, _make_attributes(kind, event), is_error=failed
            )
            self.export(span)


def _make_attributes(kind: str, event: Document) -> dict[str, Value]:
    """Return what says which event goes where, by the conventions of CloudEvents."""
    stated = {
        "cloudevents.event_id": event.get("id"),
        "cloudevents.event_source": event.get("source"),
        "cloudevents.event_type": event.get("type"),
        "cloudevents.event_subject": event.get("subject"),
        "penstock.sink.kind": kind,
    }
    return {name: str(value) for name, value in stated.items() if value}


def _draw_random(bits: int) -> bytes:
    return (getrandbits(bits) | 1).to_bytes(bits // 8, "big")
