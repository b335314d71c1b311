"""Builds the source of models of the control process: registry, admission, repositories and MLflow."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.confinement import describe_confinement, is_required
from penstock.app.mlflow_webhook import MlflowWebhook
from penstock.app.repositories import copies_folder, identify_repositories
from penstock.app.retention import retention_of
from penstock.app.signatures import read_signature_policy
from penstock.app.sink_configuration import SinkConfiguration, mlflow_secret
from penstock.app.traffic_services import TrafficServices, open_traffic_services
from penstock.config.settings import Settings
from penstock.control.audit.admin import AuditAdmin
from penstock.control.audit.checkpoints import CheckpointSigner
from penstock.control.audit.recorder import AuditRecorder
from penstock.control.audit.stream import AuditStream
from penstock.control.calls.blocking import READ_S, BlockingPool, pool_readings
from penstock.control.periodic import PeriodicTask
from penstock.control.plane.control_plane import ControlPlane
from penstock.control.plane.model_view import ServingState
from penstock.control.plane.registry_admin import RegistryAdmin, RegistryAdminServices
from penstock.control.reconcile.planner import SourceModel
from penstock.control.reconcile.reconciler import Reconciler
from penstock.control.retention import PASS_S, HomeFiles, Janitor, ReferencedDigests
from penstock.control.sources.aliased import AliasedFolder
from penstock.control.sources.folder import FolderContents
from penstock.control.sources.mlflow import MlflowSync
from penstock.control.sources.registry import RegistrySource
from penstock.control.sources.repositories import RepositoryState, SourceRepository, readings
from penstock.core.errors import Fault, InvalidInput
from penstock.engine.scratch import delete_failures
from penstock.registry.admission.examiner import AdmissionOptions, Examiner, describe_basis
from penstock.registry.auditing import RegistryAudit
from penstock.registry.blobs.folder import BlobStore
from penstock.registry.location import RegistryLocation
from penstock.registry.mlflow.source import MlflowSource
from penstock.registry.repository.copies import RepositoryCopies
from penstock.registry.repository.verdicts import VerdictCache
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.audit_archive import AuditArchives
from penstock.registry.stores.audit_checkpoints import AuditCheckpoints
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.monitor import MonitorStore
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.snapshot import RegistrySnapshot
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from penstock.telemetry.metrics import SCRATCH_FAILURES
from penstock.telemetry.readings import Point, Reading

if TYPE_CHECKING:
    from penstock.registry.registry import Registry
    from penstock.registry.signed_versions import SignedPlacer

REGISTRY_LOOK_S = 0.5
"""Longest time until a change of another gateway in a shared registry is seen."""

COLLECT_S = 3600.0


class Models:
    """The source of models of one gateway (``reconciler.Source``), and its ``RegistryAdmin``.

    The database library is imported by the first scan, on a thread, while the workers start; ``opened`` is called with
    the registry's database before any model is offered.
    """

    def __init__(
        self,
        settings: Settings,
        location: RegistryLocation,
        repositories: Sequence[SourceRepository],
        sinks: SinkConfiguration,
        opened: Callable[[Connections], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._sinks = sinks
        self._opened = opened
        self._place = location
        self._repositories = repositories
        if repositories and settings.mlflow is not None:
            raise InvalidInput(
                "mlflow: models are mirrored into the registry; remove the model folders, or the mlflow setting"
            )
        limits = settings.admission
        self._admission = AdmissionOptions(limits.seconds, limits.memory_bytes, is_required(settings))
        self.examiner = Examiner(self._admission)
        self._parts: RegistryAdminServices | None = None
        self._source: AliasedFolder | RegistrySource | None = None
        self._folders: FolderContents | None = None
        self._pools: list[BlockingPool] = []
        self._checkpoint_signer: CheckpointSigner | None = None
        self._signatures = read_signature_policy(settings.admission.signatures)
        self.look_s = settings.watch.seconds if repositories else REGISTRY_LOOK_S

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[SourceModel]:
        """See ``reconciler.Source``."""
        if self._source is None:
            self._source = await asyncio.to_thread(self._open)
            self._pools += [*self._source.pools, *(() if self._folders is None else self._folders.pools)]
            await self._opened(self._opened_parts().store.connections)
        return await self._source.scan(settled_only, retry)

    def _open(self) -> "AliasedFolder | RegistrySource":
        from penstock.registry.registry import open_blobs, open_registry, open_store  # noqa: PLC0415 - see above

        confinement = describe_confinement(self._settings)
        if not self._repositories:
            registry = open_registry(self._place, self._settings.admission.max_bytes, self._signatures)
            snapshot = RegistrySnapshot(registry.store, self._place.snapshot_file, registry.store.change_mark)
            source = RegistrySource(snapshot, registry.layout, signed=self._placer(registry))
            archived = ArchivedAudit(registry.store.connections, lambda: registry.blobs)
            auditing = self._auditing(registry.store, lambda: registry.blobs)
            self._parts = RegistryAdminServices(
                registry.store,
                snapshot,
                registry,
                source,
                self.examiner,
                self._load_s,
                archived,
                auditing,
                confinement=confinement,
            )
            return source
        store = open_store(self._place)
        snapshot = RegistrySnapshot(store, self._place.snapshot_file, store.change_mark)
        blobs = cache(partial(open_blobs, self._place))
        archived, auditing = ArchivedAudit(store.connections, blobs), self._auditing(store, blobs)
        self._parts = RegistryAdminServices(
            store,
            snapshot,
            None,
            None,
            self.examiner,
            self._load_s,
            archived,
            auditing,
            self.repositories,
            confinement,
        )
        self._folders = self._contents()
        return AliasedFolder(self._folders, snapshot)

    def _placer(self, registry: "Registry") -> "SignedPlacer | None":
        """Return what places the bundles of versions, None where signatures are not checked."""
        if not self._signatures.is_on:
            return None
        from penstock.registry.signed_versions import SignedPlacer  # noqa: PLC0415 - after the start

        return SignedPlacer(registry.signed, registry.layout, self.examiner.plan)

    def _auditing(self, store: VersionStore, blobs: Callable[[], BlobStore]) -> AuditAdmin:
        audit = RegistryAudit(
            store.connections, blobs, self._audit_key, self._place.audit_checkpoints, self._settings.audit.trusted_keys
        )
        return AuditAdmin(audit, AuditRecorder(store))

    @property
    def _audit_key(self) -> Path:
        return self._settings.audit.key_file or self._place.audit_key

    def _contents(self) -> FolderContents:
        signatures = {"signatures": asdict(self._signatures)} if self._signatures.is_on else {}
        verdicts = VerdictCache(self._place.verdicts, describe_basis(self._admission) | signatures)
        limit = self._settings.admission.max_bytes
        copies = RepositoryCopies(copies_folder(self._place), identify_repositories(self._repositories), limit)
        settle_s = self._settings.watch.settle_seconds
        return FolderContents(
            self._repositories, self.examiner, verdicts, copies, settle_s, signatures=self._signatures
        )

    def repositories(self) -> Sequence[RepositoryState]:
        """Return the result of the last look at each watched folder and bucket."""
        return () if self._folders is None else self._folders.states

    def readings(self) -> Iterable[Reading]:
        """Yield the metrics of repositories, thread pools, scratch files and checkpoints of the audit."""
        yield from readings(self.repositories())
        yield from pool_readings(self._pools)
        yield Point(SCRATCH_FAILURES, (), delete_failures())
        if self._checkpoint_signer is not None:
            yield from self._checkpoint_signer.readings()

    @property
    def _load_s(self) -> float:
        return self._settings.limits.load_seconds

    def _opened_parts(self) -> RegistryAdminServices:
        if self._parts is None:
            raise RuntimeError
        return self._parts

    def registry_admin(self, reconciler: Reconciler, serving: ServingState) -> RegistryAdmin:
        """Return what changes the registry; call after the first scan."""
        return RegistryAdmin(self._opened_parts(), reconciler, serving)

    def traffic_services(self, plane: ControlPlane, instance: Path) -> TrafficServices:
        """Return the services for traffic and monitoring; call after the first scan."""
        return open_traffic_services(self._settings, self._place, self._opened_parts(), plane, instance, self._sinks)

    def tasks(self, registry_admin: RegistryAdmin, reconciler: Reconciler, instance: Path) -> list[PeriodicTask]:
        """Return the periodic tasks; ``instance`` is the directory that its processes share."""
        meanwhile = "some expired data was not deleted"
        janitor = self._janitor(reconciler, instance)
        self._pools.extend(janitor.pools)
        cleaning = PeriodicTask("janitor", janitor.step, PASS_S, overdue_s=COLLECT_S, meanwhile=meanwhile)
        signer = self._checkpoint_signer = self._signer(registry_admin.auditing)
        self._pools.extend(signer.pools)
        auditing = (signer.task, registry_admin.auditing.recorder.task, *self._audit_stream(registry_admin.auditing))
        return [cleaning, *auditing, *self._registry_tasks(registry_admin)]

    def _audit_stream(self, auditing: AuditAdmin) -> list[PeriodicTask]:
        """Return the task that writes the audit to the log, if that is on; call after the first scan."""
        if not self._settings.audit.log:
            return []
        lead = TrafficStore(self._opened_parts().store.connections).acquire_leadership
        stream = AuditStream(auditing.audit.log, self._place.audit_position, lead)
        self._pools.extend(stream.pools)
        return [stream.task]

    def _signer(self, auditing: AuditAdmin) -> CheckpointSigner:
        """Return what signs checkpoints of the audit; call after the first scan."""
        if self._parts is None:
            raise RuntimeError
        audit, database = auditing.audit, self._parts.store.connections
        return CheckpointSigner(
            AuditCheckpoints(database, audit.log, sinks=self._settings.audit.sinks),
            audit.file,
            self._audit_key,
            TrafficStore(database).acquire_leadership,
            audit.log.identity,
            time.monotonic,
        )

    def _registry_tasks(self, registry_admin: RegistryAdmin) -> list[PeriodicTask]:
        if self._repositories or self._parts is None:
            return []
        meanwhile = "unused contents are not deleted"
        collecting = PeriodicTask(
            "collection", registry_admin.collect, COLLECT_S, delay_s=COLLECT_S, overdue_s=COLLECT_S, meanwhile=meanwhile
        )
        tasks = [collecting]
        if (mlflow := self._settings.mlflow) is not None:
            source = MlflowSource(mlflow.url, mlflow.models, self._settings.admission.max_bytes)
            mirror = MlflowSync(source, registry_admin, self._parts.snapshot.present, mlflow.poll_seconds)
            if (secret := mlflow_secret(mlflow, self._sinks.context.secrets)) is not None:
                registry_admin.set_mlflow_webhook(MlflowWebhook(secret, mirror))
            registry_admin.view.show_mlflow_problems(mirror.problems)
            self._pools.extend(mirror.pools)
            tasks.append(mirror.task)
        return tasks

    def _janitor(self, reconciler: Reconciler, shared: Path) -> Janitor:
        """Return the janitor, which deletes expired data; call after the first scan."""
        from penstock.registry.registry import open_blobs  # noqa: PLC0415 - after the start

        records, location = self._opened_parts().store, self._place
        database, references = records.connections, MonitorStore(records.connections)
        keeping = retention_of(self._settings.retention)

        def needed() -> ReferencedDigests:
            contents = {digest.removeprefix("sha256:") for digest in records.contents.needed()}
            return ReferencedDigests(
                contents, {reference.digest.removeprefix("sha256:") for reference in references.references()}
            )

        return Janitor(
            keeping,
            RetentionStore(database),
            AuditArchives(database, lambda: open_blobs(location), location.incoming),
            HomeFiles(location.home, keeping, time.time, shared),
            TrafficStore(database).acquire_leadership,
            needed,
            reconciler.offered_versions,
        )

    async def close(self) -> None:
        """Stop the examiner and the source, and end their threads."""
        await self.examiner.close()
        if isinstance(self._source, RegistrySource):
            await self._source.close()
        for pool in self._pools:
            pool.close()

    async def close_database(self) -> None:
        """Close the registry's database, if it answers; call last. An SQLite registry is then one file."""
        if self._parts is None:
            return
        closing = BlockingPool("closing", 1)
        with suppress(Fault):
            await closing.call(self._parts.store.connections.close, deadline_s=READ_S)
        closing.close()
