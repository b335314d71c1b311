"""Signatures of the registry's versions: checked before a content is examined, and placed for the workers' check."""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from penstock.core.errors import InvalidInput, NotReady, Refused
from penstock.core.model_signing import (
    BUNDLE_BYTES,
    BUNDLE_FILE,
    SignaturePolicy,
    SignatureVerdict,
    SignedFiles,
)
from penstock.engine.durable_files import write_atomically
from penstock.registry.blobs.folder import translating_errors
from penstock.registry.contents.archive import check_described
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.files import read_data
from penstock.registry.records import Author, Content, ExaminedContent, PreparationPlan, SignatureRecord, VersionRecord
from penstock.registry.stores.versions import VersionStore

log = logging.getLogger("penstock.registry")

Planner = Callable[[ExaminedContent], Awaitable[PreparationPlan]]


class PushedContent(Protocol):
    """A received content, as the check of its signatures needs it."""

    @property
    def content(self) -> Content:
        """Its files and their digests."""

    @property
    def folder(self) -> Path:
        """The folder of its files, if it is a tar."""


class SignedVersions:
    """The signatures of one registry's versions, by the policy of the configuration. Calls block; any thread may make
    them."""

    def __init__(self, policy: SignaturePolicy, store: VersionStore) -> None:
        self.policy = policy
        self._store = store
        self._reader = store.connections.signatures
        self._reader.policy = policy

    def add(self, model: str, version: str, bundle: str, by: Author) -> SignatureRecord:
        """Add a bundle to a version that was pushed, or will be.

        Raises:
            Refused: it is not a bundle, is not signed by a trusted signer, or is about other files; this is added to
                the audit. Where signatures are off or only warn, a bundle of this format is enough.
        """
        try:
            signers = self._signers(model, version, bundle)
        except InvalidInput as fault:
            subject = f"versions/{version}/signatures"
            self._store.note(model, "signature.refuse", subject, by, {"reason": str(fault)})
            raise Refused(f"the signature is refused: {fault}") from None
        return self._store.signatures.add(model, version, bundle, signers, by)

    def _signers(self, model: str, version: str, bundle: str) -> tuple[str, ...]:
        from penstock.registry.signing.bundle import parse_bundle  # noqa: PLC0415 - few gateways have signatures
        from penstock.registry.signing.verifier import read_signed, verify_bundles  # noqa: PLC0415

        parse_bundle(bundle)
        record = self._store.find_version(model, version)
        if record is not None:
            verdict = verify_bundles(self.policy, model, version, record.content.signed_files, [bundle])
            names, faults = verdict.signers, verdict.faults
        else:
            names, faults = (), ()
            try:
                names = tuple(read_signed(self.policy, model, version, bundle)[0])
            except InvalidInput as fault:
                faults = (str(fault),)
        if self.policy.is_required and not names:
            raise InvalidInput(faults[0])
        return names

    def check_push(self, pushed: PushedContent, model: str, version: str, by: Author) -> SignatureVerdict:
        """Check that a received content is signed as the policy asks; a bundle in it is added to the version.

        Raises:
            Refused: it is not, and the policy requires it; this is added to the audit.
        """
        if not self.policy.is_on:
            return SignatureVerdict()
        self._add_pushed(pushed, model, version, by)
        bundles = self.bundles(model, version)
        verdict, reason = self._reader.verify(model, version, pushed.content.signed_files, bundles)
        if reason:
            self._refuse(model, version, pushed.content, reason, by)
        return verdict

    def _add_pushed(self, pushed: PushedContent, model: str, version: str, by: Author) -> None:
        """Add the bundle in a content to its version; one that is refused only warns unless signatures are required."""
        try:
            if pushed.content.form == "tar" and (bundle := read_bundle(pushed.folder)):
                self.add(model, version, bundle, by)
        except Refused as fault:
            if self.policy.is_required:
                raise
            log.warning("model %s version %s: %s", model, version, fault)

    def _refuse(self, model: str, version: str, content: Content, reason: str, by: Author) -> None:
        if not self.policy.is_required:
            log.warning("model %s version %s is pushed although %s", model, version, reason)
            return
        refusal = {"digest": content.digest, "reason": reason, "gate": "signature"}
        self._store.note(model, "version.refuse", f"versions/{version}", by, refusal)
        raise Refused(f"the version is refused: {reason}")

    def bundles(self, model: str, version: str) -> list[str]:
        """Return the bundles of a version."""
        return self._store.signatures.bundles(model, version)

    def verify_record(self, record: VersionRecord) -> str:
        """Return why a stored version may not be served by its signatures, "" if it may."""
        bundles = self.bundles(record.model, record.version)
        return self._reader.verify(record.model, record.version, record.content.signed_files, bundles)[1]


class SignedPlacer:
    """Places the bundles of versions on this machine, where workers read them; blocks."""

    def __init__(self, signed: SignedVersions, layout: ContentLayout, plan: Planner) -> None:
        self.policy = signed.policy
        self._signed = signed
        self._layout = layout
        self._plan = plan

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        """Return the preparation that a graph needs, found anew; raises as ``AdmissionExaminer``."""
        return await self._plan(subject)

    def place(self, record: VersionRecord, unpacked: Path) -> SignedFiles:
        """Return the signed files of a version with the paths of its bundles; ``unpacked`` is the folder of its files.

        While the database is away, bundles of an earlier time are used; the workers verify them in any case.

        Raises:
            Damaged: the record states another configuration or graph than the signed files.
            NotReady: the disk is full.
        """
        if self.policy.is_required and record.content.form == "tar":
            check_described(record.content, unpacked)
        bundles: list[str] | None = None
        with suppress(NotReady):
            bundles = self._signed.bundles(record.model, record.version)
        folder = self._layout.signature_folder(record.content)
        stem = hashlib.sha256(f"{record.model}\0{record.version}".encode()).hexdigest()[:32]
        paths = sorted(folder.glob(f"{stem}-*")) if bundles is None else [*_write(folder, stem, bundles)]
        return SignedFiles(tuple(record.content.signed_files.items()), tuple(map(str, paths)), _find_rewritten(record))

    @contextmanager
    def original(self, content: Content) -> Iterator[Path]:
        """Return the graph of a content as it was pushed, in a file that nobody else changes, during the block.

        Raises:
            Damaged: the content does not match its digest.
            NotReady: it cannot be reached.
        """
        with self._layout.original(content) as graph:
            yield graph


def _write(folder: Path, stem: str, bundles: list[str]) -> Iterator[Path]:
    with translating_errors():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for bundle in bundles:
            path = folder / f"{stem}-{hashlib.sha256(bundle.encode()).hexdigest()}"
            if not path.exists():
                write_atomically(path, bundle)
            yield path


def _find_rewritten(record: VersionRecord) -> str:
    """Return the name of the served graph if admission has rewritten it."""
    return record.content.graph if record.rewrite is not None else ""


def read_bundle(folder: Path) -> str:
    """Return the bundle in a folder, "" without one; raises ``Refused``."""
    path = folder / BUNDLE_FILE
    if not path.is_file():
        return ""
    try:
        return read_data(path, "the signature", BUNDLE_BYTES).decode()
    except (InvalidInput, UnicodeDecodeError):
        raise Refused(f"the file {BUNDLE_FILE} is not a signature of at most {BUNDLE_BYTES} bytes") from None
