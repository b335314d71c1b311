"""Builds the services for routes, rollouts, experiments, monitoring and retraining over the registry's database."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from penstock import __version__
from penstock.app.sink_configuration import SinkConfiguration, read_mask
from penstock.config.policy_texts import read_policy_text
from penstock.config.settings import Settings
from penstock.control.calls.blocking import BlockingPool, pool_readings
from penstock.control.delivery.experiments import Experiments
from penstock.control.delivery.prometheus import PrometheusClient
from penstock.control.delivery.rollouts import Rollouts
from penstock.control.delivery.routes import RouteAdmin
from penstock.control.delivery.step_gates import PolicyWebhooks
from penstock.control.leadership import Leadership
from penstock.control.monitoring.service import Monitoring
from penstock.control.periodic import PeriodicTask
from penstock.control.plane.control_plane import ControlPlane
from penstock.control.plane.fleet import FleetMember
from penstock.control.plane.model_changes import ModelChanges
from penstock.control.plane.overview import ModelOverview, NewestEvents
from penstock.control.plane.recent_traffic import TrafficMeter
from penstock.control.plane.registry_admin import RegistryAdminServices
from penstock.control.privacy.erasures import Erasures, ErasureWork
from penstock.control.privacy.home_erasure import HomeErasure, feature_places
from penstock.control.retraining.fleet_rows import FleetRows, home_name
from penstock.control.retraining.row_answers import RowAnswers
from penstock.control.retraining.row_source import RowSource
from penstock.control.retraining.rules import Retraining
from penstock.control.sinks import SinkContext
from penstock.core.desired import Desired
from penstock.core.policies import FleetAlarms
from penstock.core.versions import VersionKey
from penstock.monitor.answer_budget import AnswerBudget
from penstock.monitor.erased_rows import Features
from penstock.registry.location import RegistryLocation
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.erasures import ErasureStore
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.feedback import FeedbackStore
from penstock.registry.stores.gateways import GatewayStore
from penstock.registry.stores.monitor import MonitorStore
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.row_requests import RowRequestStore
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from penstock.telemetry.readings import Reading

if TYPE_CHECKING:
    from penstock.api.admin.predictions import PredictionService
    from penstock.api.admin.traffic import TrafficApi


class Service(Protocol):
    """A service that makes blocking calls on its own pools."""

    @property
    def pools(self) -> tuple[BlockingPool, ...]:
        """The pools of its blocking calls."""

    def close(self) -> None:
        """End the threads of its pools."""


@dataclass(frozen=True, slots=True)
class TrafficServices:
    """Routes, rollouts, experiments, the monitor and the retraining rules of one gateway."""

    traffic: RouteAdmin
    rollouts: Rollouts
    experiments: Experiments
    monitoring: Monitoring
    retraining: Retraining
    leadership: Leadership
    fleet: FleetMember
    row_answers: RowAnswers | None
    erasures: Erasures
    recent: TrafficMeter
    changes: ModelChanges
    overview: ModelOverview

    def api(self, predictions: "PredictionService") -> "TrafficApi":
        """Return the services as the admin API uses them; call on a thread, because the import takes long."""
        from penstock.api.admin.traffic import TrafficApi  # noqa: PLC0415 - after the start

        return TrafficApi(
            self.traffic,
            self.rollouts,
            self.experiments,
            self.monitoring,
            self.retraining,
            self.fleet,
            self.erasures,
            predictions,
            self.recent,
            self.changes.mark,
            self.overview,
        )

    def tasks(self) -> list[PeriodicTask]:
        """Return the periodic tasks of all services."""
        one_each = (self.leadership, self.fleet, self.traffic, self.rollouts, self.experiments)
        handing = () if self.row_answers is None else (self.row_answers.task,)
        rest = (*self.monitoring.tasks, *self.retraining.tasks, *handing, self.erasures.task, self.recent.task)
        return [*(service.task for service in one_each), *rest]

    def decorate(self, desired: Desired) -> Desired:
        """Return the desired state with what to monitor and which unit votes to count."""
        return self.experiments.decorate(self.rollouts.decorate(self.monitoring.decorate(desired)))

    def close(self) -> None:
        """End the threads of its pools."""
        for service in self._all():
            service.close()

    def readings(self) -> Iterator[Reading]:
        """Return the metrics of all pools."""
        return pool_readings(pool for service in self._all() for pool in service.pools)

    def _all(self) -> "tuple[Service, ...]":
        traffic: tuple[Service, ...] = (self.traffic, self.rollouts, self.experiments)
        handing = () if self.row_answers is None else (self.row_answers,)
        return (*traffic, self.monitoring, self.retraining, self.leadership, self.fleet, self.erasures, *handing)


def open_traffic_services(
    settings: Settings,
    location: RegistryLocation,
    parts: RegistryAdminServices,
    plane: ControlPlane,
    instance: Path,
    sinks: SinkConfiguration,
) -> TrafficServices:
    """Build the services of a gateway; ``instance`` is the directory that its processes share."""
    records, connections, gateway = parts.store, parts.store.connections, instance.name
    connections.lease.gateway = gateway
    store = TrafficStore(connections)
    monitoring = _build_monitoring(settings, location, connections, plane, instance, sinks)
    labels, clock, rows = monitoring.labels.comparisons, connections.clock, _build_rows(location, connections, gateway)
    rollouts = _build_rollouts(settings, sinks.context, store, plane, gateway, monitoring)
    outbox, revision = Outbox(connections, store), lambda: parts.snapshot.revision
    routes, experiments = RouteAdmin(records, store, plane), Experiments(store, plane, gateway, labels)
    events = NewestEvents(routes.newest_events, partial(routes.events, None))
    return TrafficServices(
        routes,
        rollouts,
        experiments,
        monitoring,
        Retraining(
            outbox, records.model, plane, monitoring, rollouts, sinks.context, clock.now, rows.source, clock.stamp
        ),
        leadership_of(connections),
        FleetMember(
            GatewayStore(connections), gateway, __version__, revision, plane.statuses, rows.home_name, rows.asked
        ),
        rows.answers,
        _build_erasures(location, records, plane, monitoring),
        TrafficMeter(plane.counters.slots, lambda: plane.reconciler.state.blocks, plane.model),
        ModelChanges(revision, lambda: plane.desired, lambda: plane.reports),
        ModelOverview(plane, (rollouts, experiments), monitoring.state_of, events),
    )


def _build_monitoring(
    settings: Settings,
    location: RegistryLocation,
    connections: Connections,
    plane: ControlPlane,
    instance: Path,
    sinks: SinkConfiguration,
) -> Monitoring:
    """Build the monitor, which shares evidence and feedback with other gateways of a shared registry."""
    monitor = settings.monitor
    return Monitoring(
        MonitorStore(connections),
        TrafficStore(connections),
        plane,
        location.home,
        instance / "monitor.json",
        alarms=FleetAlarms(monitor.false_alarms_per_day, monitor.gateways),
        evidence=(EvidenceStore(connections), instance.name) if location.is_shared else None,
        budget=AnswerBudget(monitor.model_answers_bytes, monitor.answers_bytes),
        feedback=FeedbackStore(connections) if location.is_shared else None,
        sinks=sinks.rules,
        mask=read_mask(location.home),
        read_text=read_policy_text,
        extra_columns=settings.extra_columns,
    )


def _build_erasures(
    location: RegistryLocation, records: VersionStore, plane: ControlPlane, monitoring: Monitoring
) -> Erasures:
    """Build the erasure of rows, in this home and at every gateway of a shared registry."""

    def models() -> set[str]:
        return {item.name for known in (records.models(), plane.desired.models) for item in known}

    def features(key: VersionKey) -> Features:
        return feature_places(monitoring.feature_names(key), plane.signature(*key))

    home = HomeErasure(location.home, monitoring.labels.erase, models, features)
    connections, name = records.connections, partial(home_name, location.home)
    work = ErasureWork(ErasureStore(connections), MonitorStore(connections).gathered, home, name)
    return Erasures(work, monitoring.change_rows, is_shared=location.is_shared)


def _build_rollouts(
    settings: Settings,
    sinks: SinkContext,
    store: TrafficStore,
    plane: ControlPlane,
    gateway: str,
    monitoring: Monitoring,
) -> Rollouts:
    """Build the rollouts, with Prometheus and the webhooks among the ``sinks`` for their gates."""
    prometheus = settings.prometheus
    return Rollouts(
        store,
        plane,
        gateway,
        monitoring.labels.comparisons,
        None if prometheus is None else PrometheusClient(prometheus.url),
        slo=lambda model: monitoring.policy_of(model).rules.get("slo", {}),
        webhooks=PolicyWebhooks(lambda model: monitoring.policy_of(model).sinks, sinks),
    )


def _build_rows(location: RegistryLocation, connections: Connections, gateway: str) -> "_RowServices":
    """Return the captured rows of this gateway, or of its fleet if the registry is shared."""
    from penstock.registry.registry import open_blobs  # noqa: PLC0415 - after the start

    if not location.is_shared:
        return _RowServices(RowSource(location.home))
    requests, blobs = RowRequestStore(connections), cache(partial(open_blobs, location))
    fleet = FleetRows(requests, GatewayStore(connections), blobs, gateway, location.home)
    answers = RowAnswers(requests, blobs, gateway, location.home, location.incoming)
    return _RowServices(RowSource(location.home, fleet), answers, partial(home_name, location.home), answers.wake)


def leadership_of(connections: Connections) -> Leadership:
    """Build the task that keeps this gateway's lease."""
    lease = connections.lease
    return Leadership(lease, connections.acquire_leadership, partial(lease.release, connections))


@dataclass(frozen=True, slots=True)
class _RowServices:
    """The source of captured rows; in a shared registry also what answers requests of other gateways for rows, the name
    of this home, and what to call when rows are requested."""

    source: RowSource
    answers: RowAnswers | None = None
    home_name: Callable[[], str] = lambda: ""
    asked: Callable[[], None] = lambda: None
