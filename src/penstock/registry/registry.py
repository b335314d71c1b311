"""The registry's use cases: take a content in, give it a version, check it, hand it out, clear away what nobody needs.

Everything here blocks and is meant for threads; each change is durable when its method returns.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from penstock.core.errors import Damaged, Fault, InvalidInput, NotFound, NotReady, Refused
from penstock.core.versions import is_alias, is_model_name, is_version, sort_key
from penstock.engine.scratch import scratch_folder
from penstock.registry.blobs.folder import Blobs, FolderBlobs, Incoming, named_failures
from penstock.registry.contents.archive import GRAPH, intake
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lazy_database import LazyDatabase
from penstock.registry.files import beneath
from penstock.registry.garbage_collection import collect
from penstock.registry.graphs.rewrite import Rewrite, write_edited
from penstock.registry.location import RegistryLocation
from penstock.registry.records import (
    Admission,
    By,
    Content,
    Document,
    ModelRecord,
    Report,
    Subject,
    VersionRecord,
    VersionState,
)
from penstock.registry.stores.contents import Condemned
from penstock.registry.stores.versions import Store

COMMIT_TRIES = 50
COMMIT_PAUSE_S = 0.1
LEASE_S = 600.0
COLLECT_GRACE_S = 3600.0
"""Contents that belong to no version are kept that long: their push may still be under way elsewhere."""

DATABASE_S = 5.0
"""Longest wait for the database, seconds."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A content that was received, laid out so that it can be examined."""

    incoming: Incoming
    content: Content
    subject: Subject
    folder: Path

    def rewritten(self, rewrite: Rewrite) -> Subject:
        """The same content with its graph changed; raises ``NotReady``."""
        graph = self.folder / GRAPH if self.content.form == "onnx" else self.subject.graph
        write_edited(self.subject.graph, rewrite, graph)
        return replace(self.subject, graph=graph)


@dataclass(frozen=True, slots=True)
class Finding:
    """One version whose content is not what it should be."""

    model: str
    version: str
    digest: str
    problem: str


async def examined(prepared: Prepared, admission: Admission) -> Report:
    """What admission finds of a content that was received, as it would be served; raises as ``Admission`` does."""
    plan = await admission.plan(prepared.subject)
    if plan.refusal is not None:
        return plan.refusal
    subject = prepared.subject
    if plan.rewrite is not None:
        subject = await asyncio.to_thread(prepared.rewritten, plan.rewrite)
    return plan.completed(await admission.examine(subject))


def check_names(model: str, version: str) -> None:
    """Refuse names that cannot be.

    Raises:
        InvalidInput: either is none.
    """
    if not is_model_name(model):
        raise InvalidInput(
            "a model name is letters, digits and ._-, begins with a letter, digit or _, and has at most 128"
        )
    if not is_version(version):
        raise InvalidInput("a version begins with a digit, then letters, digits and ._+-, at most 64")


def check_alias(alias: str) -> None:
    """Refuse a name that can be no alias; raises ``InvalidInput``."""
    if not is_alias(alias):
        raise InvalidInput("an alias begins with a letter, then letters, digits and ._+-, at most 64")


def usable_versions(model: ModelRecord) -> list[str]:
    """The versions that may serve, oldest first."""
    admitted = [one.version for one in model.versions.values() if one.standing is VersionState.ADMITTED]
    return sorted(admitted, key=sort_key)


class Registry:
    """One registry, opened; ``place`` says where its parts lie."""

    def __init__(self, place: RegistryLocation, store: Store, blobs: Blobs, max_bytes: int) -> None:
        self.place = place
        self.store = store
        self.blobs = blobs
        self.shelf = ContentLayout(blobs, place.unpacked)
        self._max_bytes = max_bytes

    def receive(self) -> Incoming:
        """A place for the bytes of a push.

        Raises:
            NotReady: there is no room, or nothing can be written.
        """
        return Incoming(self.place.incoming, self._max_bytes)

    @contextmanager
    def prepared(self, incoming: Incoming) -> Iterator[Prepared]:
        """What was received, unpacked for the time of a block.

        Raises:
            Refused: it is no model, with the reason.
        """
        with named_failures():
            scratch = scratch_folder(incoming.path.parent, "unpacked")
        with scratch as folder:
            content = intake(incoming.path, folder, self._max_bytes)
            if content.form == "onnx":
                yield Prepared(incoming, content, Subject(incoming.path), folder)
            else:
                graph = beneath(folder, content.graph, "the graph")
                yield Prepared(incoming, content, Subject(graph, content.config, folder, folder), folder)

    def commit(
        self,
        prepared: Prepared,
        model: str,
        version: str,
        report: Report,
        metadata: Document,
        by: By,
        if_revision: int | None = None,
    ) -> VersionRecord:
        """Make an admitted content a version of a model; the same content again gives the version there is.

        Raises:
            Refused: admission has refused it, which is written down.
            Conflict: the version exists with another content, is retired, or the model is not at ``if_revision``.
            NotReady: the database or the blobs cannot be written now.
        """
        content = prepared.content
        if not report.admitted:
            told = {"digest": content.digest, "reason": report.whole, "facts": report.facts}
            self.store.note(model, "version.refuse", f"versions/{version}", by, told)
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
            except Condemned:  # the same bytes are being cleared away at this moment
                if attempt == COMMIT_TRIES - 1:
                    raise
                time.sleep(COMMIT_PAUSE_S)
        raise AssertionError

    def _commit(self, prepared: Prepared, record: VersionRecord, by: By, if_revision: int | None) -> VersionRecord:
        lease = self.store.contents.lease(record.content.digest, LEASE_S)
        try:
            self.blobs.keep(prepared.incoming.path, record.content.digest)
            return self.store.add_version(record, by, if_revision)
        finally:
            self.store.contents.release(lease)

    def version(self, model: str, version: str) -> VersionRecord:
        """One version, by its name or by an alias.

        Raises:
            NotFound: there is none of that name.
        """
        record = self.store.model(model)
        alias = record.aliases.get(version)
        found = record.versions.get(alias.version if alias else version)
        if found is None:
            raise NotFound(f"model '{model}' has no version '{version}'")
        return found

    def export(self, model: str, version: str) -> tuple[Path, VersionRecord]:
        """A file with exactly the bytes that were pushed, checked.

        Raises:
            NotFound: no such version.
            Damaged: its bytes are not what they were.
        """
        record = self.version(model, version)
        self.blobs.check(record.content.digest)
        return self.blobs.fetch(record.content.digest), record

    def verify(self, tell: Callable[[int, int], None]) -> list[Finding]:
        """Hash every content that a version needs; ``tell`` hears how many bytes of how many are done."""
        needed = self.store.contents.needed()
        records = [one for model in self.store.models() for one in _needing(model, needed)]
        sizes = {record.content.digest: record.content.size for record in records}
        problems: dict[str, str] = {}
        done = 0
        for digest, size in sizes.items():
            tell(done, sum(sizes.values()))
            problems[digest] = self._problem(digest)
            done += size
        tell(done, done)
        return [
            Finding(one.model, one.version, one.content.digest, problems[one.content.digest])
            for one in records
            if problems[one.content.digest]
        ]

    def _problem(self, digest: str) -> str:
        try:
            self.blobs.check(digest)
        except Damaged as fault:
            return str(fault)
        except Fault as fault:
            return f"it cannot be checked: {fault}"
        return ""

    def collect(self) -> list[str]:
        """Delete contents nobody needs; their digests."""
        return collect(self.store, self.blobs, self.shelf, COLLECT_GRACE_S)


def _needing(model: ModelRecord, needed: set[str]) -> list[VersionRecord]:
    return [
        one for one in model.versions.values() if one.content.digest in needed or one.standing is VersionState.ADMITTED
    ]


def open_registry(place: RegistryLocation, max_bytes: int) -> Registry:
    """Open, or make, the registry at a place.

    Raises:
        NotReady: the database or the folder cannot be used now, with the reason.
        Damaged: the database is no database.
        InvalidInput: a library that the place needs is not installed.
    """
    return Registry(place, open_store(place), open_blobs(place), max_bytes)


def open_store(place: RegistryLocation) -> Store:
    """The registry's database alone, opened when it is first asked; it may be away until then."""

    def opened() -> Database:
        make_private(place.home)
        return open_database(place.database, timeout_s=DATABASE_S)

    return Store(LazyDatabase(opened))


def open_blobs(place: RegistryLocation) -> Blobs:
    """The registry's contents alone; raises as ``open_registry``."""
    if not place.blobs.startswith("s3://"):
        return FolderBlobs(Path(place.blobs))
    from penstock.registry.blobs.bucket import BucketBlobs  # noqa: PLC0415 - an extra, and only here

    return BucketBlobs(place.blobs, place.cache)


def make_private(home: Path) -> None:
    """Make the home folder, for this user alone, if it is not there.

    Raises:
        NotReady: it cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotReady(f"the registry's folder cannot be made: {(error.strerror or 'error').lower()}") from None
