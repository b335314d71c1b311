"""Exemplars of histograms: the newest of each bucket, in OpenMetrics and nowhere else."""

from typing import Any

from prometheus_client.openmetrics import parser

from penstock.telemetry.exemplars import MOST_SERIES, ExemplarStore
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.metrics import INFLIGHT, LATENCY_EDGES_S, STAGE_DURATION
from penstock.telemetry.readings import Distribution, Exemplar, Point, Reading

READ_OPENMETRICS: Any = parser.text_string_to_metric_families  # it has no types
LABELS = ("m", "1", "run")
BUCKETS = (2, 1, *(0,) * (len(LATENCY_EDGES_S) - 2), 1)
READINGS: list[Reading] = [
    Point(INFLIGHT, ("m",), 1),
    Distribution(STAGE_DURATION, ("m", "1", "decode"), BUCKETS, 0.5),
    Distribution(STAGE_DURATION, LABELS, BUCKETS, 0.5),
]


def exemplar(number: int, value: float = 1.0) -> Exemplar:
    return Exemplar(f"{number:032x}", f"{number:016x}", value, 1_700_000_000.25)


def test_the_newest_of_each_bucket_is_exposed() -> None:
    store = ExemplarStore()
    first, last = LATENCY_EDGES_S[0], LATENCY_EDGES_S[-1]
    for number, value in enumerate((first / 2, first, last * 2)):
        store.put(STAGE_DURATION, LABELS, exemplar(number, value))
    exposition = Exposition(lambda: store.attach(READINGS))
    body, _ = exposition.render("application/openmetrics-text")
    [family] = [item for item in READ_OPENMETRICS(body.decode()) if "stage" in item.name]
    found = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    assert set(found) == {repr(first), "+Inf"}
    shown = found[repr(first)]
    assert shown.labels == {"trace_id": f"{1:032x}", "span_id": f"{1:016x}"}
    assert (shown.value, float(shown.timestamp)) == (first, 1_700_000_000.25)
    plain, _ = exposition.render()
    assert b" # {" not in plain


def test_without_exemplars_readings_stay_as_they_are() -> None:
    store = ExemplarStore()
    assert list(store.attach(READINGS)) == READINGS
    store.put(STAGE_DURATION, ("another", "1", "run"), exemplar(1))
    assert list(store.attach(READINGS)) == READINGS


def test_series_are_bounded() -> None:
    store = ExemplarStore()
    for number in range(MOST_SERIES + 5):
        store.put(STAGE_DURATION, ("m", str(number), "run"), exemplar(number))
    distributions = [Distribution(STAGE_DURATION, ("m", str(number), "run"), BUCKETS, 1.0) for number in range(10)]
    attached = list(store.attach(distributions))
    assert [bool(item.exemplars) for item in attached if isinstance(item, Distribution)] == [False] * 5 + [True] * 5
