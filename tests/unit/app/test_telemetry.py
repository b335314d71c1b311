"""What is exported follows from the settings, and nothing runs that is not asked for."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.app.telemetry import RouteFinder, TelemetryServices
from penstock.config.settings import load_settings
from penstock.control.sinks.delivery_traces import DeliveryTraces
from penstock.core.desired import Desired, ModelSpec
from penstock.core.routing import RouteSpec
from penstock.core.traces.spans import NO_ROUTE
from penstock.telemetry.exemplars import ExemplarStore

RECEIVER = "http://127.0.0.1:9"


class Plane:
    """As much of a control plane as the export looks at."""

    def __init__(self) -> None:
        self.counters = SimpleNamespace(exemplars=ExemplarStore())
        self.channel = SimpleNamespace(on_traces=None)
        self.desired = Desired()

    def readings(self) -> list[Any]:
        return []

    def measure(self, readings: Any) -> None:
        self.measured = readings


@pytest.mark.parametrize(
    ("values", "tasks"),
    [
        ({}, []),
        ({"tracing.ratio": 1.0}, []),
        ({"tracing.otlp_endpoint": RECEIVER}, ["otlp traces", "trace records"]),
        ({"access_log_ratio": 0.5}, ["trace records"]),
        ({"metrics_otlp": RECEIVER}, ["otlp metrics"]),
    ],
)
def test_the_settings_say_what_runs(values: dict[str, Any], tasks: list[str]) -> None:
    plane, deliveries = Plane(), DeliveryTraces()
    settings = load_settings(flags=values)
    stand_in: Any = plane
    telemetry = TelemetryServices(settings, stand_in, "127.0.0.1:8002", deliveries)
    assert [task.name for task in telemetry.tasks] == tasks
    assert (plane.channel.on_traces is not None) is ("trace records" in tasks)
    assert (deliveries.export is not None) is ("otlp traces" in tasks)
    assert bool(list(plane.measured())) is bool(tasks)
    asyncio.run(telemetry.close())


def test_the_end_does_not_fail_for_what_cannot_be_read_or_sent() -> None:
    plane: Any = Plane()
    settings = load_settings(flags={"tracing.otlp_endpoint": RECEIVER, "metrics_otlp": RECEIVER})
    telemetry = TelemetryServices(settings, plane, "127.0.0.1:8002", DeliveryTraces())
    plane.channel.on_traces({"records": "AAAA", "texts": [], "dropped": {}, "count": 1})
    asyncio.run(telemetry.close())


def test_spans_state_whether_a_route_splits_traffic_and_which_rules_it_has() -> None:
    states = [
        Desired(1, (_model("a", {"1": 9000, "2": 1000}), _model("b", {"1": 10_000, "2": 0}), ModelSpec("c", (), {}))),
        Desired(2, (_model("a", {"1": 9000, "2": 1000}), _model("b", {"1": 1, "2": 9999}))),
    ]
    present = states[0]
    find = RouteFinder(lambda: present)
    first = {name: find(name) for name in "abcd"}
    assert [first[name].is_split for name in "abcd"] == [True, False, False, False]
    assert first["c"] == first["d"] == NO_ROUTE
    present = states[1]
    second = {name: find(name) for name in "abcd"}
    assert [second[name].is_split for name in "abcd"] == [True, True, False, False]
    assert second["a"] == first["a"] and second["b"].version != first["b"].version


def _model(name: str, split: dict[str, int]) -> ModelSpec:
    return ModelSpec(name, (), {}, route=RouteSpec(split))
