"""The audit of a registry as a verifiable log: verify, prove, export, explain; as documents for people and programs."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from penstock.core.audit.chain import origin_of
from penstock.core.audit.kept_checkpoints import read_kept_checkpoints
from penstock.core.audit.notes import (
    PublicKey,
    SignedCheckpoint,
    check_proof,
    read_proof,
    read_public_key,
)
from penstock.core.audit.verification import ONLY_OUTSIDE, AuditFinding
from penstock.core.errors import DataLoss
from penstock.registry.blobs.folder import BlobStore
from penstock.registry.checkpoint_file import CheckpointFile
from penstock.registry.records import Document
from penstock.registry.signing.note_keys import is_valid, read_key
from penstock.registry.stores.audit_log import AuditLog, OnProgress, OutsideCheckpoint
from penstock.registry.stores.audit_questions import AuditQuestions, time_of
from penstock.registry.stores.connections import Connections

GIVEN = "the given file"
KEPT = "the gateway's file"


class RegistryAudit:
    """The audit of one registry on one home: ``key_file`` has the key that signs, ``trusted`` are further public keys.

    Calls block, and raise ``NotReady`` while the database, the store of archives or the home cannot be read.
    """

    def __init__(
        self,
        database: Connections,
        blobs: Callable[[], BlobStore],
        key_file: Path,
        checkpoint_file: Path,
        trusted: Sequence[str] = (),
    ) -> None:
        self.log = AuditLog(database, blobs)
        self.file = CheckpointFile(checkpoint_file)
        self._questions = AuditQuestions(database, blobs)
        self._key_file = key_file
        self._trusted = trusted

    def public_keys(self) -> list[PublicKey]:
        """Return the keys whose checkpoints are trusted: that of this home, if it has signed, and those of the
        settings."""
        own = read_key(self._key_file)
        found = [] if own is None else [own.public_key(origin_of(self.log.identity()))]
        return [*found, *map(read_public_key, self._trusted)]

    def verify(
        self, checkpoints: str = "", keys: Sequence[str] = (), on_progress: OnProgress = lambda *_: None
    ) -> Document:
        """Verify the audit, also against ``checkpoints`` that were kept elsewhere; ``keys`` take the place of the
        trusted ones.

        Raises:
            InvalidInput: a checkpoint or a key cannot be read.
        """
        trusted = list(map(read_public_key, keys)) or self.public_keys()
        outside = [OutsideCheckpoint(signed, GIVEN) for signed in read_kept_checkpoints(checkpoints)]
        kept, findings = self._kept()
        result = self.log.verify(trusted, [*kept, *outside], on_progress)
        findings += result.findings
        return {
            "ok": not findings,
            "entries": result.entries,
            "last": result.last,
            "root": base64.b64encode(result.root).decode(),
            "hash": result.link,
            "covered": result.covered,
            "checkpoints": result.checkpoints,
            "unread": result.unread,
            "findings": [asdict(finding) for finding in findings],
            "keys": [key.text for key in trusted],
            "limits": ONLY_OUTSIDE,
        }

    def _kept(self) -> tuple[list[OutsideCheckpoint], list[AuditFinding]]:
        """Return the checkpoints in the file of this home, which other registries of the home share."""
        origin = origin_of(self.log.identity())
        try:
            found = [signed for signed in self.file.read() if signed.checkpoint.origin == origin]
        except DataLoss as fault:
            return [], [AuditFinding(0, str(fault))]
        return [OutsideCheckpoint(signed, KEPT) for signed in found], []

    def prove(self, seq: int) -> str:
        """Return the proof that an entry is in the audit, for whoever has the public key; raises as
        ``AuditLog.prove``."""
        return self.log.prove(seq).text

    def newest_checkpoint(self) -> SignedCheckpoint:
        """Return the newest checkpoint; raises ``NotFound``."""
        return self.log.newest_checkpoint()

    def export(self) -> Iterator[Document]:
        """Yield every entry with its hash, and then the signed checkpoints."""
        for entry in self.log.entries():
            yield {"entry": entry}
        for _, note in self.log.checkpoints():
            yield {"checkpoint": note}

    def explain(self, model: str, at: str) -> Document:
        """Return what served a model at a time (ISO 8601), why, and by whose change.

        Raises:
            NotFound: the audit has no entry about the model until then.
            InvalidInput: it is not a time.
        """
        return self._questions.explain(model, time_of(at))


def verify_proof(text: str, keys: Sequence[str]) -> Document:
    """Verify a proof with public keys alone, and return the entry that it proves.

    Raises:
        InvalidInput: the proof or a key cannot be read.
        DataLoss: the proof is wrong.
    """
    proof = read_proof(text)
    check_proof(proof, list(map(read_public_key, keys)), is_valid)
    entry: Document = json.loads(proof.entry)
    return entry
