"""The registry's use cases: receive a content, commit it as a version, verify it, export it, and collect garbage.

Everything here blocks and is meant for threads; each change is durable when its method returns.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from penstock.core.errors import DataLoss, Fault, InvalidInput, NotFound, NotReady, Refused
from penstock.core.model_signing import NO_SIGNATURES, SignaturePolicy
from penstock.core.versions import is_alias, is_model_name, is_version, sort_key
from penstock.engine.scratch import scratch_folder
from penstock.registry.blobs.folder import BlobStore, FolderBlobs, IncomingFile, translating_errors
from penstock.registry.contents.archive import GRAPH, receive
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lazy_database import LazyDatabase
from penstock.registry.files import find_beneath
from penstock.registry.garbage_collection import collect
from penstock.registry.graphs.rewrite import Rewrite, write_edited
from penstock.registry.location import RegistryLocation
from penstock.registry.records import (
    AdmissionExaminer,
    AdmissionReport,
    Author,
    Content,
    Document,
    ExaminedContent,
    ModelRecord,
    VersionRecord,
    VersionState,
)
from penstock.registry.signed_versions import SignedVersions
from penstock.registry.stores.audit_questions import AuditQuestions
from penstock.registry.stores.contents import BeingDeleted
from penstock.registry.stores.versions import VersionStore

COMMIT_TRIES = 50
COMMIT_PAUSE_S = 0.1
LEASE_S = 600.0
COLLECT_GRACE_S = 3600.0
"""How long contents without a version are kept: their push may still be in progress elsewhere."""

DATABASE_S = 5.0
"""Time limit of the database, seconds."""


@dataclass(frozen=True, slots=True)
class ReceivedContent:
    """A received content, unpacked so that it can be examined."""

    incoming: IncomingFile
    content: Content
    subject: ExaminedContent
    folder: Path

    def rewritten(self, rewrite: Rewrite) -> ExaminedContent:
        """Change the graph, and return the content with it; raises ``NotReady``."""
        graph = self.folder / GRAPH if self.content.form == "onnx" else self.subject.graph
        write_edited(self.subject.graph, rewrite, graph)
        return replace(self.subject, graph=graph)


@dataclass(frozen=True, slots=True)
class DamagedVersion:
    """One version whose content is damaged, or that differs from the audit, with the problem.

    ``version`` is also another part of the model that differs from the audit: ``aliases/NAME``, ``route``, ``policy``.
    """

    model: str
    version: str
    digest: str
    problem: str


async def admit(prepared: ReceivedContent, admission: AdmissionExaminer) -> AdmissionReport:
    """Return the admission report of a received content as it would be served; raises as ``AdmissionExaminer`` does."""
    plan = await admission.plan(prepared.subject)
    if plan.refusal is not None:
        return plan.refusal
    subject = prepared.subject
    if plan.rewrite is not None:
        subject = await asyncio.to_thread(prepared.rewritten, plan.rewrite)
    return plan.completed(await admission.examine(subject))


def check_names(model: str, version: str) -> None:
    """Check the names of a model and a version.

    Raises:
        InvalidInput: one of them is not valid.
    """
    if not is_model_name(model):
        raise InvalidInput(
            "a model name is letters, digits and ._-, begins with a letter, digit or _, and has at most 128"
        )
    if not is_version(version):
        raise InvalidInput("a version begins with a digit, then letters, digits and ._+-, at most 64")


def check_alias(alias: str) -> None:
    """Check the name of an alias; raises ``InvalidInput``."""
    if not is_alias(alias):
        raise InvalidInput("an alias begins with a letter, then letters, digits and ._+-, at most 64")


def usable_versions(model: ModelRecord) -> list[str]:
    """Return the versions that may serve, oldest first."""
    admitted = [record.version for record in model.versions.values() if record.state is VersionState.ADMITTED]
    return sorted(admitted, key=sort_key)


class Registry:
    """An open registry. Calls block; any thread may make them."""

    def __init__(
        self,
        location: RegistryLocation,
        store: VersionStore,
        blobs: BlobStore,
        max_bytes: int,
        signatures: SignaturePolicy = NO_SIGNATURES,
    ) -> None:
        self.signed = SignedVersions(signatures, store)
        self.location = location
        self.store = store
        self.blobs = blobs
        self.layout = ContentLayout(blobs, location.unpacked)
        self._max_bytes = max_bytes

    def receive(self) -> IncomingFile:
        """Return a file for the bytes of a push.

        Raises:
            NotReady: the disk is full, or it cannot be written.
        """
        return IncomingFile(self.location.incoming, self._max_bytes)

    @contextmanager
    def prepared(self, incoming: IncomingFile) -> Iterator[ReceivedContent]:
        """Return a received content, unpacked during the block.

        Raises:
            Refused: it is not a model, with the reason.
        """
        with translating_errors():
            scratch = scratch_folder(incoming.path.parent, "unpacked")
        with scratch as folder:
            content = receive(incoming.path, folder, self._max_bytes)
            if content.form == "onnx":
                yield ReceivedContent(incoming, content, ExaminedContent(incoming.path), folder)
            else:
                graph = find_beneath(folder, content.graph, "the graph")
                yield ReceivedContent(incoming, content, ExaminedContent(graph, content.config, folder, folder), folder)

    def commit(
        self,
        prepared: ReceivedContent,
        model: str,
        version: str,
        report: AdmissionReport,
        metadata: Document,
        by: Author,
        if_revision: int | None = None,
    ) -> VersionRecord:
        """Make an admitted content a version of a model, and return it; if the version exists with the same content,
        return the existing one.

        Raises:
            Refused: admission has refused the content, or it is not signed as it must be; this is added to the audit.
            Conflict: the version exists with another content, is retired, or the model is not at ``if_revision``.
            NotReady: the database or the blobs cannot be written now.
        """
        content = prepared.content
        self.signed.check_push(prepared, model, version, by)
        if not report.admitted:
            refusal = {"digest": content.digest, "reason": report.whole, "facts": report.facts}
            self.store.note(model, "version.refuse", f"versions/{version}", by, refusal)
            raise Refused(report.reason, report.detail)
        record = VersionRecord(
            model,
            version,
            content,
            datetime.fromtimestamp(self.store.connections.clock.now(), UTC).isoformat(timespec="milliseconds"),
            by.actor,
            metadata=metadata,
            report=report,
        )
        for attempt in range(COMMIT_TRIES):
            try:
                return self._commit(prepared, record, by, if_revision)
            except BeingDeleted:  # the same content is being deleted at this moment
                if attempt == COMMIT_TRIES - 1:
                    raise
                time.sleep(COMMIT_PAUSE_S)
        raise AssertionError

    def _commit(
        self, prepared: ReceivedContent, record: VersionRecord, by: Author, if_revision: int | None
    ) -> VersionRecord:
        lease = self.store.contents.lease(record.content.digest, LEASE_S)
        try:
            self.blobs.keep(prepared.incoming.path, record.content.digest)
            return self.store.add_version(record, by, if_revision)
        finally:
            self.store.contents.release(lease)

    def version(self, model: str, version: str) -> VersionRecord:
        """Return one version, by its name or by an alias.

        Raises:
            NotFound: there is no such version.
        """
        record = self.store.model(model)
        alias = record.aliases.get(version)
        stored = record.versions.get(alias.version if alias else version)
        if stored is None:
            raise NotFound(f"model '{model}' has no version '{version}'")
        return stored

    def export(self, model: str, version: str) -> tuple[Path, VersionRecord]:
        """Return a file with exactly the bytes that were pushed, and the version.

        Raises:
            NotFound: there is no such version.
            Damaged: its content does not match its digest.
        """
        record = self.version(model, version)
        self.blobs.check(record.content.digest)
        return self.blobs.fetch(record.content.digest), record

    def verify(self, report: Callable[[int, int], None]) -> list[DamagedVersion]:
        """Hash every content that a version needs, compare the registry with the last statements of the audit, and
        return what is damaged or differs; ``report`` is called with the number of bytes done and the total."""
        needed = self.store.contents.needed()
        records = [record for model in self.store.models() for record in _list_needing(model, needed)]
        sizes = {record.content.digest: record.content.size for record in records}
        problems: dict[str, str] = {}
        done = 0
        for digest, size in sizes.items():
            report(done, sum(sizes.values()))
            problems[digest] = self._problem(digest)
            done += size
        report(done, done)
        damaged = [
            DamagedVersion(record.model, record.version, record.content.digest, problems[record.content.digest])
            for record in records
            if problems[record.content.digest]
        ]
        return [*damaged, *self._unsigned(records), *self._differences()]

    def _unsigned(self, records: Iterable[VersionRecord]) -> list[DamagedVersion]:
        """Return the versions whose signatures do not allow to serve them."""
        reasons = [(record, self.signed.verify_record(record)) for record in records]
        return [
            DamagedVersion(record.model, record.version, record.content.digest, f"its signatures: {reason}")
            for record, reason in reasons
            if reason
        ]

    def _differences(self) -> list[DamagedVersion]:
        """Return where the registry differs from what the audit last stated."""
        findings = AuditQuestions(self.store.connections, lambda: self.blobs).compare_state()
        return [
            DamagedVersion(
                finding.model,
                finding.subject.removeprefix(f"models/{finding.model}/").removeprefix("versions/"),
                "",
                finding.problem + (f" (entry {finding.seq})" if finding.seq else ""),
            )
            for finding in findings
        ]

    def _problem(self, digest: str) -> str:
        try:
            self.blobs.check(digest)
        except DataLoss as fault:
            return str(fault)
        except Fault as fault:
            return f"it cannot be checked: {fault}"
        return ""

    def collect(self) -> list[str]:
        """Delete contents that nobody needs, and return their digests."""
        return collect(self.store, self.blobs, self.layout, COLLECT_GRACE_S)


def _list_needing(model: ModelRecord, needed: set[str]) -> list[VersionRecord]:
    return [
        version
        for version in model.versions.values()
        if version.content.digest in needed or version.state is VersionState.ADMITTED
    ]


def open_registry(location: RegistryLocation, max_bytes: int, signatures: SignaturePolicy = NO_SIGNATURES) -> Registry:
    """Open or create the registry at a location; ``signatures`` says whose signatures versions need.

    Raises:
        NotReady: the database or the folder cannot be used now, with the reason.
        Damaged: the file is not a database.
        InvalidInput: a library that the location needs is not installed.
    """
    return Registry(location, open_store(location), open_blobs(location), max_bytes, signatures)


def open_store(location: RegistryLocation) -> VersionStore:
    """Return the store of the registry's database, which is opened on first use and may be away until then."""

    def opened() -> Database:
        make_private(location.home)
        return open_database(location.database, timeout_s=DATABASE_S)

    return VersionStore(LazyDatabase(opened))


def open_blobs(location: RegistryLocation) -> BlobStore:
    """Return the store of the registry's contents; raises as ``open_registry``."""
    if not location.blobs.startswith("s3://"):
        return FolderBlobs(Path(location.blobs))
    from penstock.registry.blobs.bucket import BucketBlobs  # noqa: PLC0415 - an extra, and only here

    return BucketBlobs(location.blobs, location.cache)


def make_private(home: Path) -> None:
    """Create the home folder with access for this user only, if it does not exist.

    Raises:
        NotReady: it cannot be created.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotReady(f"the registry's folder cannot be created: {(error.strerror or 'error').lower()}") from None
