"""The metric table and both forms of its exposition, read back by the client library's own parsers."""

import re
from collections.abc import Iterable

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from penstock.core.labels import GRPC_STATUS, HTTP_STATUS, OUTCOMES, code_label
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.metric import MetricType
from penstock.telemetry.metrics import (
    BATCH_ROWS,
    LATENCY_EDGES_S,
    METRICS,
    MODEL_STATE,
    REQUESTS,
    STAGE_DURATION,
)
from penstock.telemetry.readings import Distribution, Point, PointBatch, Reading

READINGS: list[Reading] = [
    Point(REQUESTS, ("m", "1", "stable", "rest", "200"), 3),
    Point(REQUESTS, ("m", "1", "stable", "grpc", "OK"), 2),
    Point(MODEL_STATE, ("m", "1", "READY"), 1),
    Distribution(STAGE_DURATION, ("m", "1", "run"), (2, 1, *(0,) * 39, 4, 1), 0.5),
    Distribution(BATCH_ROWS, ("m", "1"), (5, *(0,) * 13), 5),
]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def text_samples(readings: Iterable[Reading]) -> Samples:
    body, content_type = Exposition(lambda: readings).render()
    assert content_type.startswith("text/plain")
    families = parse_text(body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return "penstock_" + name, frozenset(labels.items())


def test_readings_come_out_as_samples() -> None:
    samples = text_samples(READINGS)
    labels = {"model": "m", "version": "1", "route": "stable"}
    assert samples[key("requests_total", **labels, protocol="rest", code="200")] == 3
    assert samples[key("requests_total", **labels, protocol="grpc", code="OK")] == 2
    assert samples[key("model_state", model="m", version="1", state="READY")] == 1


def test_buckets_are_cumulative_and_in_seconds() -> None:
    samples = text_samples(READINGS)
    labels = {"model": "m", "version": "1", "stage": "run"}
    assert samples[key("stage_duration_seconds_bucket", **labels, le="2.5e-05")] == 2
    assert samples[key("stage_duration_seconds_bucket", **labels, le=repr(LATENCY_EDGES_S[1]))] == 3
    assert samples[key("stage_duration_seconds_bucket", **labels, le=repr(LATENCY_EDGES_S[-1]))] == 7
    assert samples[key("stage_duration_seconds_bucket", **labels, le="+Inf")] == 8
    assert samples[key("stage_duration_seconds_count", **labels)] == 8
    assert samples[key("stage_duration_seconds_sum", **labels)] == 0.5
    assert samples[key("batch_rows_bucket", model="m", version="1", le="1.0")] == 5


def test_openmetrics_is_served_on_request() -> None:
    accept = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"
    body, content_type = Exposition(lambda: READINGS).render(accept)
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert families["penstock_requests"].type == "counter"
    assert families["penstock_stage_duration_seconds"].type == "histogram"


def test_many_at_a_time_are_as_one_by_one() -> None:
    labels = (("m", "1", 'a"b\\c\nd'), ("m", "1", "b"))
    exposition = Exposition(lambda: [PointBatch(MODEL_STATE, labels, next(values))])
    values = iter([[1.0, 0.0], [float("inf"), float("nan")]])
    one_by_one = [Point(MODEL_STATE, label, 0.0) for label in labels]
    body = b""
    for _ in range(2):
        body, _ = exposition.render()
        assert set(text_samples(one_by_one)) == {
            (sample.name, frozenset(sample.labels.items()))
            for family in parse_text(body.decode())
            for sample in family.samples
        }
    assert b" +Inf\n" in body
    assert b" NaN\n" in body
    assert next(iter(text_samples(one_by_one)))[0] == "penstock_model_state"


def test_nothing_is_kept_between_scrapes() -> None:
    answers: list[list[Reading]] = [READINGS[:1], READINGS[2:3]]
    exposition = Exposition(lambda: answers.pop(0))
    assert b"penstock_requests_total" in exposition.render()[0]
    assert b"penstock_requests_total" not in exposition.render()[0]


def test_two_expositions_do_not_meet() -> None:
    one, two = Exposition(lambda: READINGS[:1]), Exposition(list)
    assert one.render()[0] != b""
    assert two.render()[0] == b""


def test_every_metric_follows_the_naming_rules() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert (metric.kind is MetricType.COUNTER) == metric.name.endswith("_total")
        assert (metric.kind is MetricType.HISTOGRAM) == bool(metric.edges)
        assert list(metric.edges) == sorted(metric.edges)
        assert metric.help.endswith(".")


def test_every_outcome_has_its_codes() -> None:
    assert set(HTTP_STATUS) == set(GRPC_STATUS) == set(OUTCOMES)
    assert code_label("rest", "overloaded") == "429"
    assert code_label("grpc", "overloaded") == "RESOURCE_EXHAUSTED"
