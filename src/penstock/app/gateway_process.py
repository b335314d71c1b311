"""The control process while it runs: the parts it builds after its workers start, readiness, and how it stops."""

import asyncio
import errno
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_bytes

from penstock import __version__
from penstock.api.admin.server import CONNECTIONS, OpsServer
from penstock.api.console.build import build_console
from penstock.app import workers
from penstock.app.access import AccessServices, open_access
from penstock.app.certificates import Certificates
from penstock.app.confinement import is_required, missing_layers
from penstock.app.confinement import readings as confinement_readings
from penstock.app.descriptors import connection_limit, raise_limit
from penstock.app.exposure import InsecurityWarning, ops_policy
from penstock.app.finished_start import finish_start
from penstock.app.gateway_record import GatewayRecord
from penstock.app.models import Models
from penstock.app.ops_listeners import OpsListeners
from penstock.app.predictions import open_predictions
from penstock.app.service_manager import ServiceManager
from penstock.app.sink_configuration import SinkConfiguration
from penstock.app.stop_signals import StopSignals, run_until
from penstock.app.telemetry import TelemetryServices
from penstock.app.traffic_services import TrafficServices
from penstock.config.settings import Settings
from penstock.control.access.fleet_quotas import Shares
from penstock.control.instance import ports
from penstock.control.instance.acquire import AcquiredInstance
from penstock.control.instance.drain import retire
from penstock.control.plane.control_plane import STOP_MARGIN_S, ControlPlane
from penstock.control.plane.predictions import Predictions
from penstock.control.plane.registry_admin import RegistryAdmin
from penstock.control.sources.repositories import SourceRepository
from penstock.control.workers import process
from penstock.control.workers.prefork import WaitingWorkers
from penstock.control.workers.protocol import encode_access, encode_delegation, encode_shares, encode_tls
from penstock.core.access.delegation import KEY_BYTES
from penstock.core.access.exposure import Exposure
from penstock.core.access.table import AccessTable
from penstock.core.certificates import TlsMaterial
from penstock.core.confinement import Program
from penstock.core.errors import Fault
from penstock.core.service_notification import find_health_problem
from penstock.engine.durable_files import write_atomically
from penstock.registry.location import RegistryLocation
from penstock.registry.stores.connections import Connections

log = logging.getLogger("penstock.app")


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a gateway has besides its plane, built once the first sync is done."""

    registry_admin: RegistryAdmin
    services: TrafficServices
    predictions: Predictions
    telemetry: TelemetryServices


class GatewayProcess:
    """One run of the control process; serves ``repositories``, or the registry if there are none."""

    def __init__(
        self,
        settings: Settings,
        exposure: Exposure,
        opening: AcquiredInstance,
        location: RegistryLocation,
        repositories: Sequence[SourceRepository],
        sinks: SinkConfiguration,
        ops: OpsListeners,
        waiting: WaitingWorkers,
        manager: ServiceManager,
        certificates: Certificates | None = None,
    ) -> None:
        self._waiting = waiting
        self._manager = manager
        self._sinks = sinks
        self._certificates = certificates
        self._settings = settings
        self._opening = opening
        self._place = location
        self._exposure = exposure
        self._insecurity = InsecurityWarning(exposure)
        self._ops_listeners = ops
        self._http, self._grpc = (str(ports.address_of(sock)) for sock in opening.held)
        self._ops = ops.address
        self._access: AccessServices | None = None
        self._delegation_key = token_bytes(KEY_BYTES)
        self._models = Models(settings, location, repositories, sinks, self._open_access)
        self._plane = ControlPlane(
            opening.instance,
            opening.options,
            self._models,
            self._start_worker,
            self._models.look_s,
            None if settings.ready_workers == "auto" else settings.ready_workers,
            settings.retention.series_seconds,
        )
        if certificates is not None:
            self._plane.channel.announce(encode_tls(certificates.material))

    def _start_worker(self, slot: int) -> process.WorkerProcess:
        if is_required(self._settings) and (missing := missing_layers(Program.WORKER)):
            raise PermissionError(errno.EPERM, f"confinement is required, and this system lacks: {missing}")
        arguments = [str(self._opening.instance.path), str(slot)]
        return self._waiting.start(arguments) or process.start(workers.WORKER_MODULE, arguments)

    async def _open_access(self, database: Connections) -> None:
        """Authenticate callers from now on, and have the workers do so before they serve the first model."""

        def announce(table: AccessTable) -> None:
            self._plane.channel.announce(encode_access(table))

        self._plane.channel.announce(encode_delegation(self._delegation_key))

        def share(shares: Shares) -> None:
            self._plane.channel.announce(encode_shares(shares))

        slots, addresses = self._plane.counters.slots, self._settings.limits.address_quota
        self._access = open_access(self._settings.auth, self._place, database, announce, slots, share, addresses)
        await self._access.tables.start()

    async def run(self) -> None:
        """Serve until a stop signal, then drain and stop.

        Raises:
            Fault: there is nothing to serve.
        """
        try:
            await self._run(StopSignals())
        finally:
            await self._models.close()
            if self._access is not None:
                self._access.close()
            await self._models.close_database()

    async def _run(self, signals: StopSignals) -> None:
        if not await self._start_plane(signals):
            return
        parts = self._build_parts()
        await self._connect(parts)
        server = await asyncio.to_thread(self._ops_server, parts)
        record = self._open_ops_port(server)
        tasks = self._models.tasks(parts.registry_admin, self._plane.reconciler, self._opening.instance.path)
        tasks += [*parts.telemetry.tasks, *parts.services.tasks(), *self._insecurity.tasks]
        self._plane.supervise(*tasks, *self._opened_access().tasks())
        is_ready = await run_until(self._plane.wait_ready(), signals.first.wait())
        retiring = self._finish_start() if is_ready else []
        await signals.first.wait()
        self._announce_stop(record)
        if not await run_until(self._plane.stop(), signals.second.wait()):
            log.warning("stopping immediately, on a second signal")
            await self._plane.stop_now()
        for task in retiring:
            task.cancel()
        await self._stop(parts, server)

    async def _start_plane(self, signals: StopSignals) -> bool:
        """Start the workers and the first sync; return whether no signal came before their end."""
        try:
            if await run_until(self._plane.start(), signals.first.wait()):
                return True
        except Fault:
            await self._plane.stop_now()
            raise
        await self._plane.stop_now()
        return False

    def _build_parts(self) -> _Parts:
        registry_admin = self._models.registry_admin(self._plane.reconciler, self._plane)
        services = self._models.traffic_services(self._plane, self._opening.instance.path)
        registry_admin.auditing.recorder.attach(self._plane.repository_requests, self._opened_access().refusals)
        predictions = self._open_predictions()
        telemetry = TelemetryServices(self._settings, self._plane, self._ops, self._sinks.context.traces)
        return _Parts(registry_admin, services, predictions, telemetry)

    async def _connect(self, parts: _Parts) -> None:
        """Let the parts know of each other, and begin to monitor."""
        services = parts.services
        parts.registry_admin.show_write_problem(lambda: services.fleet.problem)
        parts.registry_admin.view.show_features(services.monitoring.column_names)
        self._measure(parts.registry_admin, services)
        services.fleet.share_quotas(self._opened_access().quotas)
        self._plane.gather(services.monitoring.gathered)
        self._plane.label_by(services.monitoring.labels)
        await services.monitoring.start()
        self._plane.reconciler.decorate = services.decorate
        self._plane.renew()

    def _finish_start(self) -> list[asyncio.Task[None]]:
        """Announce readiness and free what only the start needs; return the tasks that retire replaced instances."""
        self._waiting.close()
        self._models.examiner.release()
        self._announce()
        self._plane.supervise(*self._manager.tasks(self._find_health_problem))
        asyncio.get_running_loop().run_in_executor(None, finish_start, self._place.home, self._settings.registry)
        return self._retire_replaced()

    async def _stop(self, parts: _Parts, server: OpsServer) -> None:
        """Stop what does not serve requests, in the order in which it depends on each other."""
        await parts.telemetry.close()
        await parts.services.leadership.stop()
        await parts.services.fleet.stop()
        await server.stop()
        await parts.registry_admin.auditing.recorder.flush()
        parts.registry_admin.close()
        parts.services.close()
        parts.predictions.close()
        if self._certificates is not None:
            self._certificates.close()

    def _retire_replaced(self) -> list[asyncio.Task[None]]:
        """Have the instances end that this one replaces."""
        options = self._opening.options
        patience = options.drain_delay_s + options.drain_timeout_s + STOP_MARGIN_S
        return [asyncio.create_task(retire(instance, patience)) for instance in self._opening.replaced]

    def _open_ops_port(self, server: OpsServer) -> GatewayRecord:
        """Serve the ops port and the owner's socket, and return the record that says where they are."""
        self._watch_certificates(server)
        self._ops_listeners.start(server)
        record = GatewayRecord(self._place.home)
        certificate = None if self._certificates is None else self._certificates.files.certificate
        record.write(self._http, self._grpc, self._ops, certificate)
        return record

    def _watch_certificates(self, server: OpsServer) -> None:
        """Keep the certificates of all ports up to date with their files."""
        if self._certificates is None:
            return

        def change(material: TlsMaterial, authorities_changed: bool) -> None:
            self._plane.channel.announce(encode_tls(material))
            if authorities_changed:
                server.retire_certified()

        self._plane.supervise(self._certificates.watch(change))
        self._plane.measure(self._certificates.readings)

    def _measure(self, registry_admin: RegistryAdmin, services: TrafficServices) -> None:
        """Add the metrics of every part."""
        self._plane.measure(confinement_readings)
        measured = (services.rollouts, services.monitoring, services.retraining, services.leadership)
        for part in (self._models, services, registry_admin, *measured, self._insecurity, self._opened_access()):
            self._plane.measure(part.readings)

    def _open_predictions(self) -> Predictions:
        """Let the ops port ask for predictions."""
        ports, authenticator = (self._http, self._grpc, self._certificates), self._opened_access().authenticator
        predictions = open_predictions(*ports, authenticator, self._delegation_key, self._place.home)
        self._plane.measure(predictions.readings)
        return predictions

    def _opened_access(self) -> AccessServices:
        """Return the services of access; call after the start of the plane."""
        if self._access is None:
            raise RuntimeError
        return self._access

    def _ops_server(self, parts: _Parts) -> OpsServer:
        """Build the ops server; called on a thread, because it takes long."""
        registry_admin, traffic = parts.registry_admin, parts.services.api(parts.predictions)
        access = self._opened_access().api()
        return OpsServer(
            self._plane,
            registry_admin,
            traffic,
            access,
            build_console(self._plane, registry_admin, traffic, access, (__version__, self._http, self._grpc)),
            connection_limit(CONNECTIONS, raise_limit(), 1),
            ops_policy(self._settings, self._exposure, self._settings.ops_host),
            None if self._certificates is None else self._certificates.contexts.http,
        )

    def _announce(self) -> None:
        """Announce readiness: write the ready file first, then the line on stderr."""
        if self._settings.ready_file is not None:
            workers = [pid for pid, _ in self._plane.worker_states() if pid]
            facts = {"http": self._http, "grpc": self._grpc, "ops": self._ops, "pid": os.getpid(), "workers": workers}
            write_atomically(self._settings.ready_file, json.dumps(facts) + "\n")
        scheme = "http" if self._settings.tls is None else "https"
        log.info("the console is at %s://%s/console/", scheme, ports.local_form(self._ops))
        line = f"penstock ready http={self._http} grpc={self._grpc} ops={self._ops}\n"
        with suppress(OSError):
            sys.stderr.write(line)
            sys.stderr.flush()
        self._manager.report_ready(self._http, self._grpc, self._ops)

    def _announce_stop(self, record: GatewayRecord) -> None:
        """Let commands and the service manager know that the gateway has begun to stop."""
        self._manager.report_stopping()
        record.remove()
        self._ops_listeners.remove_owner()
        log.info("stopping: readiness is off and open requests drain; send a second signal to stop immediately")

    def _find_health_problem(self) -> str:
        """Return why the service manager should restart this gateway, "" if it should not."""
        return find_health_problem(self._plane.task_problems(), self._plane.readiness().workers_ready)
