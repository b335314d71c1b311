"""The admin API for the registry through a gateway: each change is stored, published and acknowledged."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from penstock.control.audit.admin import AuditAdmin
from penstock.control.calls.blocking import READ_S, BlockingPool, pool_readings
from penstock.control.plane.model_view import ModelView, ServingState
from penstock.control.reconcile.reconciler import Reconciler
from penstock.control.sources.registry import RegistrySource
from penstock.control.sources.repositories import RepositoryState
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.errors import Overloaded, Unsupported
from penstock.core.versions import CHAMPION
from penstock.registry.documents import archive_document, signature_document
from penstock.registry.model_settings import decode_settings
from penstock.registry.records import AdmissionExaminer, AdmissionReport, AliasMove, Author, Document, VersionRecord
from penstock.registry.registry import ReceivedContent, Registry, admit, check_alias, check_names
from penstock.registry.stores.aliases import ANY, Expected
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.snapshot import RegistrySnapshot
from penstock.registry.stores.versions import VersionStore
from penstock.telemetry.readings import Reading

log = logging.getLogger("penstock.control")

THREADS = 4
PUSHES = 8
"""Maximum contents to receive or examine at a time; more are refused."""

CONTENTS_S = 3600.0
"""Deadline of one step with many contents, such as hashing a whole registry."""

SILENT_S, SLOWEST = 20.0, 1 << 20
"""What a store of contents is given for one content: so many seconds, and one more for so many bytes."""

Webhook = Callable[[Mapping[str, str], bytes], None]
"""Handles a call from MLflow: headers and body; raises faults."""


@dataclass(frozen=True, slots=True)
class RegistryAdminServices:
    """The parts of a ``RegistryAdmin``. ``registry`` and ``source`` are None if folders and buckets are served;
    ``repositories`` returns their state, ``confinement`` that of processes that run models, as JSON values."""

    store: VersionStore
    snapshot: RegistrySnapshot
    registry: Registry | None
    source: RegistrySource | None
    admission: AdmissionExaminer
    load_s: float
    archived: ArchivedAudit
    audit: AuditAdmin
    repositories: Callable[[], Sequence[RepositoryState]] = tuple
    confinement: Document = field(default_factory=dict)


def sending_s(size: int) -> float:
    """Return the deadline for storing a content with this number of bytes."""
    return SILENT_S + size / SLOWEST


class RegistryAdmin:
    """The registry of one gateway; every change takes an actor and a reason."""

    def __init__(self, parts: RegistryAdminServices, reconciler: Reconciler, serving: ServingState) -> None:
        self._parts = parts
        self._reconciler = reconciler
        self._serving = serving
        self._reads = BlockingPool("registry_reads", THREADS, deadline_s=READ_S)
        self._writes = BlockingPool("registry_writes", THREADS)
        self._contents = BlockingPool("contents", 2 * PUSHES, "the registry's store of contents", CONTENTS_S)
        self.auditing = parts.audit
        self.pools = (self._reads, self._writes, self._contents, *self.auditing.pools)
        self.view = ModelView(parts.snapshot, reconciler, serving, self._reads, in_folder=parts.registry is None)
        self._pushes = 0
        self._webhook: Webhook | None = None
        self._write_problem: Callable[[], str] = str

    def show_write_problem(self, problem: Callable[[], str]) -> None:
        """Show from now on why the last write of this gateway failed, "" if it did not."""
        self._write_problem = problem

    def set_mlflow_webhook(self, webhook: Webhook) -> None:
        """Pass MLflow's calls to this function from now on."""
        self._webhook = webhook

    async def models(self) -> list[Document]:
        """Return every model, as the admin API shows it."""
        return await self.view.models()

    async def model(self, name: str) -> Document:
        """Return one model; raises ``NotFound``."""
        return await self.view.model(name)

    async def audit(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        """Return at most ``limit`` changes of visible models: the first after a sequence number, or the newest."""
        entries = await self._reads.call(self._parts.store.audit, model, after, limit, visible)
        return [asdict(entry) for entry in entries]

    async def audit_archives(self) -> list[Document]:
        """Return the newest archives of the audit, oldest first."""
        return [archive_document(item) for item in await self._reads.call(self._parts.archived.list_archives)]

    async def archived_audit(
        self, name: str, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        """Return changes in an archive, as ``audit``; raises as ``ArchivedAudit``."""
        entries = await self._contents.call(self._parts.archived.entries, name, model, after, limit, visible)
        return [asdict(entry) for entry in entries]

    async def identity(self) -> Document:
        """Return the registry's identity, and why it is read-only if it is."""
        away = self._parts.snapshot.problem
        identity = "" if away else await self._reads.call(self._parts.store.identity)
        problem = away or self._write_problem()
        return {
            "id": identity,
            "source": "folder" if self._parts.registry is None else "registry",
            "writable": not problem,
            "problem": problem,
            "confinement": self._parts.confinement,
            "repositories": [asdict(state) for state in self._parts.repositories()],
        }

    async def push(
        self,
        model: str,
        version: str,
        chunks: AsyncIterator[bytes],
        metadata: Document,
        by: Author,
        if_revision: int | None = None,
    ) -> tuple[Document, bool]:
        """Receive a content, examine it, store it as a version and have it loaded; return the model's version, and
        whether it is new.

        Raises:
            InvalidInput: a name that cannot be.
            Refused: it was not admitted, with the reason.
            Conflict: the version exists with another content, or the model is not as expected.
            TooLarge, NotReady, Overloaded, Unsupported: as they say.
        """
        registry = self._pushable()
        check_names(model, version)
        if self._pushes >= PUSHES:
            raise Overloaded(f"{PUSHES} versions are being pushed already; try again later")
        self._pushes += 1
        try:
            before = {item.name: item for item in await self.view.records()}.get(model)
            record = await self._receive(
                registry,
                chunks,
                lambda prepared: registry.signed.check_push(prepared, model, version, by),
                lambda prepared, report: registry.commit(prepared, model, version, report, metadata, by, if_revision),
            )
        finally:
            self._pushes -= 1
        if self._parts.source is not None:
            stored = await self._reads.call(registry.version, record.model, record.version)  # with its signatures
            await self._parts.source.place(stored)
        await self._reconciler.refresh()
        await self._reconciler.wait_loaded(model, version, self._parts.load_s)
        document = await self.model(model)
        pushed = next(item for item in document["versions"] if item["version"] == version)
        return pushed | {
            "model": model,
            "revision": document["revision"],
        }, before is None or version not in before.versions

    async def _receive(
        self,
        registry: Registry,
        chunks: AsyncIterator[bytes],
        check: Callable[[ReceivedContent], object],
        commit: Callable[[ReceivedContent, AdmissionReport], VersionRecord],
    ) -> VersionRecord:
        with await self._contents.call(registry.receive) as incoming:
            async for chunk in chunks:
                await self._contents.call(incoming.write, chunk)
            await self._contents.call(incoming.close)
            context = registry.prepared(incoming)
            prepared: ReceivedContent = await self._contents.call(context.__enter__)
            try:
                await self._contents.call(check, prepared)
                report = await admit(prepared, self._parts.admission)
                limit_s = sending_s(prepared.content.size)
                return await self._contents.call(commit, prepared, report, deadline_s=limit_s)
            finally:
                await self._contents.call(context.__exit__, None, None, None)

    async def add_signature(self, model: str, version: str, bundle: str, by: Author) -> Document:
        """Add a bundle to a version that was pushed or will be, and return its record.

        Raises:
            InvalidInput: a name that cannot be.
            Refused: it is not signed by a trusted signer, or is about other files.
        """
        registry = self._pushable()
        check_names(model, version)
        record = await self._writes.call(registry.signed.add, model, version, bundle, by)
        await self._serve_changes()
        return {"model": model, "version": version, **signature_document(record)}

    async def approve(self, model: str, version: str, by: Author) -> Document:
        """Approve the content of a version, and return the version.

        Raises:
            NotFound: no such version.
            Refused: it is retired, or does not pass its other gates.
            Unauthorised: it was pushed by the same caller.
        """
        self._pushable()
        await self._writes.call(self._parts.store.signatures.approve, model, version, by)
        await self._serve_changes()
        document = await self.model(model)
        return next(item for item in document["versions"] if item["version"] == version)

    async def gates(self, model: str, version: str) -> Document:
        """Return the result of every gate of a version; raises ``NotFound``."""
        results = await self._reads.call(self._parts.store.gate_results, model, version)
        return {"model": model, "version": version, "passed": all(item["passed"] for item in results), "gates": results}

    async def retire(
        self, model: str, version: str, by: Author, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Take a version out of service permanently; its name stays taken.

        Raises:
            NotFound: no such version.
            Conflict: an alias or the route needs it, a rollout or experiment that is open does and this is not
                ``force``d, or the model is not as expected.
        """
        self._pushable()
        await self._writes.call(self._parts.store.retire, model, version, by, if_revision, force)
        await self._serve_changes()
        return await self.model(model)

    async def export(self, model: str, version: str, by: Author) -> tuple[Path, VersionRecord]:
        """Return a file with the pushed bytes, noted in the audit; raises ``NotFound``, ``Damaged`` or ``NotReady``."""
        registry = self._pushable()
        record = await self._reads.call(registry.version, model, version)
        await self.auditing.recorder.record_export(record, by)
        limit_s = 2 * sending_s(record.content.size)  # it is fetched and checked
        return await self._contents.call(registry.export, model, version, deadline_s=limit_s)

    # Aliases.

    async def alias(
        self,
        model: str,
        alias: str,
        version: str,
        by: Author,
        expected: Expected = ANY,
        if_revision: int | None = None,
        force: bool = False,
    ) -> Document:
        """Point an alias at a ready version, by compare-and-set; returns when every worker has it.

        Raises:
            InvalidInput: no alias name.
            NotFound: no such model or version.
            Refused: the version is not ready; or a route decides who answers, and the move is not ``force``d.
            Conflict: the alias, or the model, is not as expected.
        """
        check_alias(alias)
        self.view.refuse_unready(model, version)
        in_registry = self._parts.registry is not None
        move = partial(
            self._parts.store.aliases.move,
            expected=expected,
            if_revision=if_revision,
            in_registry=in_registry,
            force=force,
        )
        return await self._finish_move(model, alias, await self._writes.call(move, model, alias, version, by))

    async def drop_alias(
        self, model: str, alias: str, by: Author, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Delete an alias.

        Raises:
            NotFound: no such alias.
            Refused: a route decides who answers, and this is not ``force``d.
            Conflict: the model is not as expected.
        """
        move = partial(self._parts.store.aliases.drop, if_revision=if_revision, force=force)
        return await self._finish_move(model, alias, await self._writes.call(move, model, alias, by))

    async def rollback(
        self, model: str, by: Author, alias: str = CHAMPION, if_revision: int | None = None, force: bool = False
    ) -> Document:
        """Move an alias back to its previous version; without one, ``champion`` to the version before the newest.

        Raises:
            NotFound: no such model.
            Refused: a route decides who answers, and the move is not ``force``d.
            Conflict: there is nothing to go back to, or the model is not as expected.
        """
        check_alias(alias)
        ready = self.view.ready(model)
        fallback = self.view.before_newest(model) if alias == CHAMPION else None
        usable = {*ready, *await self.view.loadable(model)}
        roll_back = partial(
            self._parts.store.aliases.roll_back, fallback=fallback, if_revision=if_revision, force=force
        )
        move = await self._writes.call(roll_back, model, alias, by, usable.__contains__)
        return await self._finish_move(model, alias, move)

    async def _finish_move(self, model: str, alias: str, move: AliasMove) -> Document:
        acknowledged = await self._serve_changes()
        return {
            "model": model,
            "alias": alias,
            "version": move.after,
            "before": move.before,
            "revision": move.revision,
            "acknowledged": acknowledged,
            **move.note,
        }

    def mlflow_called(self, headers: Mapping[str, str], body: bytes) -> None:
        """Handle a webhook of MLflow: synchronise now.

        Raises:
            Unsupported: no MLflow server is configured, or no secret to know its calls by.
            InvalidInput: the call is not signed by it.
        """
        if self._webhook is None:
            raise Unsupported("no MLflow server with a webhook secret is configured")
        self._webhook(headers, body)

    # Settings, and the registry as a whole.

    async def settings(self, model: str) -> Document:
        """Return which versions of a model are served, and how they are replaced."""
        document = await self.model(model)
        return {**document["settings"], "revision": document["revision"]}

    async def configure(self, model: str, document: Document, by: Author, if_revision: int | None = None) -> Document:
        """Change which versions of a model are served, and how they are replaced; other settings stay.

        Raises:
            InvalidInput: with every fault of the document.
            NotFound: no such model.
            Conflict: the model is not as expected.
        """
        present = (await self.model(model))["settings"]
        settings = decode_settings({**present, **document})
        change = partial(self._parts.store.configure, if_revision=if_revision)
        await self._writes.call(change, model, settings, by)
        await self._serve_changes()
        return await self.settings(model)

    async def verify(self) -> AsyncIterator[Document]:
        """Hash everything a version needs: yields progress (``done`` of ``total`` bytes), then ``findings``."""
        registry = self._pushable()
        loop = asyncio.get_running_loop()
        progress: asyncio.Queue[Document] = asyncio.Queue()

        def report(done: int, total: int) -> None:
            loop.call_soon_threadsafe(progress.put_nowait, {"done": done, "total": total})

        work = asyncio.create_task(self._contents.call(registry.verify, report))
        work.add_done_callback(lambda _: progress.put_nowait({}))
        while line := await progress.get():
            yield line
        yield {"findings": [asdict(finding) for finding in await work]}

    async def collect(self) -> list[str]:
        """Delete contents that no version needs; return their digests."""
        return await self._contents.call(self._pushable().collect)

    def readings(self) -> Iterator[Reading]:
        """Yield the readings of the thread pools and of the audit."""
        yield from pool_readings(self.pools)
        yield from self.auditing.recorder.readings()

    def close(self) -> None:
        """End the threads; open calls end by their own deadlines."""
        for pool in self.pools:
            pool.close()

    async def _serve_changes(self) -> bool:
        """Publish stored changes to the workers; return whether all have applied them."""
        return await self._serving.serve_changes()

    def _pushable(self) -> Registry:
        if self._parts.registry is None:
            raise Unsupported("this gateway serves a folder; start it without a folder to serve pushed models")
        return self._parts.registry
