"""A registry client without a gateway: opens the registry in this process."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

from penstock.app.confinement import is_required
from penstock.app.signatures import read_signature_policy
from penstock.cli.client import Document
from penstock.cli.failures import as_call_failed
from penstock.cli.local_erasure import forget_locally
from penstock.cli.registry_client import OnProgress, Write, upload_chunks, user_name
from penstock.cli.upload import Upload
from penstock.config.settings import Settings
from penstock.control.monitoring.references.profiling import profile_file
from penstock.core.erasure import SubjectKey
from penstock.core.lineage import card_features, metadata_of
from penstock.core.versions import CHAMPION
from penstock.engine.confinement.child import require_confinement
from penstock.engine.scratch import scratch_file, temporary_folder
from penstock.monitor.reference import decode_reference
from penstock.registry.admission.examiner import AdmissionOptions, Examiner
from penstock.registry.auditing import RegistryAudit
from penstock.registry.documents import ADMITTED, VersionDisplay, archive_document, model_document, signature_document
from penstock.registry.location import RegistryLocation
from penstock.registry.model_settings import decode_settings, encode_settings
from penstock.registry.records import AdmissionReport, AliasMove, Author, ModelRecord
from penstock.registry.registry import ReceivedContent, admit, check_alias, check_names, open_registry, usable_versions
from penstock.registry.stores.aliases import ANY
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord

CHUNK = 1 << 20


class LocalRegistry:
    """Works on the registry at a location, with admission in this process; an admitted version counts as ready."""

    def __init__(self, location: RegistryLocation, settings: Settings) -> None:
        self._location = location
        with as_call_failed():
            signatures = read_signature_policy(settings.admission.signatures)
            self._registry = open_registry(location, settings.admission.max_bytes, signatures)
            self._registry.store.identity()
        self._settings = settings.audit
        limits = settings.admission
        require_confinement(is_required(settings))
        self._admission = AdmissionOptions(limits.seconds, limits.memory_bytes, is_required(settings))

    def models(self) -> list[Document]:
        """See ``RegistryClient``."""
        with as_call_failed():
            return [_describe_record(record) for record in self._registry.store.models()]

    def model(self, name: str) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            return _describe_record(self._registry.store.model(name))

    def push(
        self, model: str, version: str, data: Upload, metadata: Document, reason: str, on_progress: OnProgress
    ) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            check_names(model, version)
            checked = metadata_of(metadata)
            with self._registry.receive() as incoming:
                for chunk in upload_chunks(data, on_progress):
                    incoming.write(chunk)
                incoming.close()
                with self._registry.prepared(incoming) as prepared:
                    by = self._by(reason)
                    self._registry.signed.check_push(prepared, model, version, by)
                    report = asyncio.run(self._examine(prepared))
                    self._registry.commit(prepared, model, version, report, checked, by)
            document = _describe_record(self._registry.store.model(model))
        pushed = next(item for item in document["versions"] if item["version"] == version)
        return {**pushed, "model": model, "revision": document["revision"]}

    async def _examine(self, prepared: ReceivedContent) -> AdmissionReport:
        examiner = Examiner(self._admission)
        try:
            return await admit(prepared, examiner)
        finally:
            await examiner.close()

    def add_signature(self, model: str, version: str, bundle: str, reason: str) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            check_names(model, version)
            record = self._registry.signed.add(model, version, bundle, self._by(reason))
        return {"model": model, "version": version, **signature_document(record)}

    def gates(self, model: str, version: str) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            results = self._registry.store.gate_results(model, version)
        return {"model": model, "version": version, "passed": all(item["passed"] for item in results), "gates": results}

    def approve_version(self, model: str, version: str, reason: str) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            self._registry.store.signatures.approve(model, version, self._by(reason))
            document = _describe_record(self._registry.store.model(model))
        return next(item for item in document["versions"] if item["version"] == version)

    def alias(
        self, model: str, alias: str, version: str, expected: str | None, reason: str, force: bool = False
    ) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            check_alias(alias)
            self._registry.store.model(model)
            wanted = ANY if expected is None else expected or None
            store, by = self._registry.store, self._by(reason)
            move = store.aliases.move(model, alias, version, by, expected=wanted, force=force)
        return _describe_move(model, alias, move)

    def drop_alias(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            self._registry.store.model(model)
            move = self._registry.store.aliases.drop(model, alias, self._by(reason), force=force)
        return _describe_move(model, alias, move)

    def rollback(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            check_alias(alias)
            usable = usable_versions(self._registry.store.model(model))
            fallback = usable[-2] if alias == CHAMPION and len(usable) > 1 else None
            store, by = self._registry.store, self._by(reason)
            move = store.aliases.roll_back(model, alias, by, usable.__contains__, fallback, force=force)
        return _describe_move(model, alias, move)

    def retire(self, model: str, version: str, reason: str, force: bool = False) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            self._registry.store.retire(model, version, self._by(reason), force=force)
        return self.model(model)

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            record = self._registry.store.model(model)
            if not changes:
                return {**encode_settings(record.settings), "revision": record.revision}
            settings = decode_settings({**encode_settings(record.settings), **changes})
            revision = self._registry.store.configure(model, settings, self._by(reason))
        return {**encode_settings(settings), "revision": revision}

    def set_reference(self, model: str, version: str, data: Upload, on_progress: OnProgress) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed(), scratch_file(temporary_folder(), "reference") as path:
            with path.open("wb") as file:
                file.writelines(upload_chunks(data, on_progress))
            stored = self._registry.store.model(model).versions[version]
            folder, graph = self._registry.layout.materialize(stored.content, stored.rewrite)
            features = card_features(stored.metadata.get("card"))
            document = profile_file(path, graph, stored.content.config, folder, features)
            reference = decode_reference(document)
            record = ReferenceRecord(model, version, reference.digest, reference.source)
            store = MonitorStore(self._registry.store.connections)
            revision = store.set_reference(record, document, self._by(""))
        return {"digest": reference.digest, "rows": reference.rows, "source": reference.source, "revision": revision}

    def verify(self, on_progress: OnProgress) -> list[Document]:
        """See ``RegistryClient``."""
        with as_call_failed():
            return [asdict(finding) for finding in self._registry.verify(on_progress)]

    def export(self, model: str, version: str, write: Write, on_progress: OnProgress) -> str:
        """See ``RegistryClient``."""
        with as_call_failed():
            path, record = self._registry.export(model, version)
            after = {"digest": record.content.digest}
            self._registry.store.note(model, "version.export", f"versions/{record.version}", self._by(""), after)
            done = 0
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    write(chunk)
                    done += len(chunk)
                    on_progress(done, record.content.size)
        return record.content.digest

    def collect(self) -> list[str]:
        """See ``RegistryClient``."""
        with as_call_failed():
            return self._registry.collect()

    def forget(self, model: str | None, column: str, value: str, reason: str) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            return forget_locally(self._location, self._registry, model, SubjectKey(column, value), self._by(reason))

    def audit(self, model: str | None, limit: int, archive: str | None = None) -> list[Document]:
        """See ``RegistryClient``."""
        with as_call_failed():
            if archive is None:
                return [asdict(entry) for entry in self._registry.store.audit(model, None, limit)]
            return [asdict(entry) for entry in self._archived().entries(archive, model, None, limit)]

    def audit_archives(self) -> list[Document]:
        """See ``RegistryClient``."""
        with as_call_failed():
            return [archive_document(archive) for archive in self._archived().list_archives()]

    def verify_audit(self, checkpoints: str, keys: Sequence[str]) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            return self._audit().verify(checkpoints, keys)

    def prove_entry(self, seq: int) -> str:
        """See ``RegistryClient``."""
        with as_call_failed():
            return self._audit().prove(seq)

    def export_audit(self, write: Write) -> None:
        """See ``RegistryClient``."""
        with as_call_failed():
            self._registry.store.record_event("audit.export", "audit", self._by(""))
            for line in self._audit().export():
                write((json.dumps(line, sort_keys=True) + "\n").encode())

    def explain_serving(self, model: str, at: str) -> Document:
        """See ``RegistryClient``."""
        with as_call_failed():
            return self._audit().explain(model, at)

    def audit_keys(self) -> list[str]:
        """See ``RegistryClient``."""
        with as_call_failed():
            return [key.text for key in self._audit().public_keys()]

    def _audit(self) -> RegistryAudit:
        location, settings = self._registry.location, self._settings
        connections, blobs = self._registry.store.connections, self._registry.blobs
        key_file = settings.key_file or location.audit_key
        return RegistryAudit(connections, lambda: blobs, key_file, location.audit_checkpoints, settings.trusted_keys)

    def _archived(self) -> ArchivedAudit:
        return ArchivedAudit(self._registry.store.connections, lambda: self._registry.blobs)

    def _by(self, reason: str) -> Author:
        return Author(user_name(), reason)


def _describe_record(record: ModelRecord) -> Document:
    return model_document(record, {version: VersionDisplay(ADMITTED) for version in record.versions})


def _describe_move(model: str, alias: str, move: AliasMove) -> Document:
    return {
        "model": model,
        "alias": alias,
        "version": move.after,
        "before": move.before,
        "revision": move.revision,
        "acknowledged": False,  # no gateway has applied it
        **move.note,
    }
