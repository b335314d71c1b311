"""What leaves the control process about requests, as the settings say: spans and metrics by OTLP, the access log."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock import __version__
from penstock.app.start_failures import StartFailed
from penstock.config.settings import Settings
from penstock.control.periodic import PeriodicTask
from penstock.control.plane.control_plane import ControlPlane
from penstock.control.sinks.delivery_traces import DeliveryTraces
from penstock.core.desired import Desired, ModelSpec
from penstock.core.errors import Fault
from penstock.core.routing import RouteSpec, identify_rules
from penstock.core.traces.processor_budget import ProcessorBudget
from penstock.core.traces.spans import NO_ROUTE, RouteTraits
from penstock.telemetry.log_formats import SERVICE
from penstock.telemetry.readings import Reading

if TYPE_CHECKING:
    from penstock.control.export.otlp_http import OtlpSender
    from penstock.control.export.record_intake import RecordIntake
    from penstock.control.export.span_exporter import SpanExporter


class TelemetryServices:
    """The export of one gateway, whose ops port has this ``address`` (host:port); belongs to the event loop.

    The traces of ``deliveries`` to sinks go out with those of requests.
    """

    def __init__(self, settings: Settings, plane: ControlPlane, address: str, deliveries: DeliveryTraces) -> None:
        self._plane = plane
        self._deliveries = deliveries
        self._resource: dict[str, str | int | float | bool] = {
            "service.name": SERVICE,
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}/{address}",
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
        self.tasks: list[PeriodicTask] = []
        self._readings: list[Callable[[], Iterator[Reading]]] = []
        self._flushing: list[Callable[[], Awaitable[None]]] = []
        self._closing: list[Callable[[], None]] = []
        self._budget = ProcessorBudget(settings.tracing.max_processor_share, time.monotonic)
        self._exporter = self._open_exporter(settings)
        self._intake = self._open_intake(settings)
        self._open_push(settings)
        plane.measure(self.readings)

    def _open_exporter(self, settings: Settings) -> "SpanExporter | None":
        if settings.tracing.otlp_endpoint is None:
            return None
        from penstock.control.export.span_exporter import SpanExporter  # noqa: PLC0415 - only where it is on
        from penstock.telemetry.otlp.trace_request import encode_span  # noqa: PLC0415 - see above

        send = _build_sender(settings.tracing.headers_file)
        endpoint = settings.tracing.otlp_endpoint
        exporter = SpanExporter(endpoint, self._resource, __version__, send, budget=self._budget)
        self._deliveries.export = lambda span: exporter.add([(encode_span(span), 1)])
        self._add(exporter.task, exporter.readings, exporter.close)
        self._closing.append(send.close)
        self._flushing.append(exporter.flush)
        return exporter

    def _open_intake(self, settings: Settings) -> "RecordIntake | None":
        if self._exporter is None and not settings.access_log_ratio:
            return None
        from penstock.control.export.record_intake import RecordIntake  # noqa: PLC0415 - only where it is on
        from penstock.telemetry.otlp.record_spans import RecordEncoder  # noqa: PLC0415 - see above

        export = None if self._exporter is None else self._exporter.add
        find_rules = RouteFinder(lambda: self._plane.desired)
        encoder = RecordEncoder(find_rules, "http" if settings.tls is None else "https")
        intake = RecordIntake(export, self._plane.counters.exemplars, encoder, self._budget)
        self._plane.channel.on_traces = intake.take
        self._add(intake.task, intake.readings, intake.close)
        return intake

    def _open_push(self, settings: Settings) -> None:
        stated = settings.metrics_otlp
        if stated is None:
            return
        from penstock.control.export.metrics_push import MetricsPush  # noqa: PLC0415 - only where it is on

        read, send = self._plane.readings, _build_sender(stated.headers_file)
        push = MetricsPush(stated.endpoint, stated.interval_seconds, self._resource, __version__, read, send)
        self._add(push.task, push.readings, push.close)
        self._closing.append(send.close)
        self._flushing.append(push.flush)

    def _add(self, task: PeriodicTask, readings: Callable[[], Iterator[Reading]], close: Callable[[], None]) -> None:
        self.tasks.append(task)
        self._readings.append(readings)
        self._closing.append(close)

    def readings(self) -> Iterator[Reading]:
        """Return the metrics of all parts."""
        for readings in self._readings:
            yield from readings()

    async def close(self) -> None:
        """Process and send what the workers recorded last, as far as the receiver takes it at once, and end."""
        if self._intake is not None:
            with suppress(Fault, ValueError):  # the log is stuck, or a worker sent nonsense: the end must not fail
                await self._intake.step()
        await asyncio.gather(*[flush() for flush in self._flushing])
        for close in self._closing:
            close()


def _build_sender(headers_file: Path | None) -> "OtlpSender":
    """Return what sends to a receiver; raises ``StartFailed``."""
    from penstock.control.export.otlp_http import OtlpSender  # noqa: PLC0415 - only where it is on
    from penstock.core.secrets import SecretFault  # noqa: PLC0415 - see above

    try:
        return OtlpSender(headers_file)
    except SecretFault as fault:
        raise StartFailed(f"the header fields of the OTLP receiver: {fault}") from None


class RouteFinder:
    """Finds what spans state of the routes of models; of one thread."""

    def __init__(self, desired: Callable[[], Desired]) -> None:
        self._desired = desired
        self._present: Desired | None = None
        self._specs: dict[str, ModelSpec] = {}
        self._found: dict[str, RouteTraits] = {}

    def __call__(self, model: str) -> RouteTraits:
        """Return what is stated of the present route of a model."""
        desired = self._desired()
        if self._present is not desired:
            self._present, self._found = desired, {}
            self._specs = {spec.name: spec for spec in desired.models}
        found = self._found.get(model)
        if found is None:
            spec = self._specs.get(model)
            if spec is None:  # no longer served
                return NO_ROUTE
            found = self._found[model] = _describe_rules(spec.route)
        return found


def _describe_rules(route: RouteSpec | None) -> RouteTraits:
    if route is None:
        return NO_ROUTE
    return RouteTraits(sum(map(bool, route.split.values())) > 1, identify_rules(route))
