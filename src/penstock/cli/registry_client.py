"""The interface of a registry that the commands use, and what its clients share."""

import getpass
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from penstock.cli.client import CallFailed, Document
from penstock.cli.console import ExitCode
from penstock.cli.upload import BadModel, Upload
from penstock.core.errors import Fault

EXIT_OF = {
    "invalid": ExitCode.USAGE,
    "not_found": ExitCode.NOT_FOUND,
    "refused": ExitCode.REFUSED,
    "too_large": ExitCode.REFUSED,
    "conflict": ExitCode.CONFLICT,
    "overloaded": ExitCode.UNAVAILABLE,
    "not_ready": ExitCode.UNAVAILABLE,
    "deadline": ExitCode.UNAVAILABLE,
    "damaged": ExitCode.INTEGRITY,
    "unauthenticated": ExitCode.UNAUTHORISED,
    "unauthorised": ExitCode.UNAUTHORISED,
}
"""Exit codes by kind of error."""

OnProgress = Callable[[int, int], None]
"""Called with the bytes done so far and in all (0 if unknown)."""

Write = Callable[[bytes], object]
"""Takes the next bytes of an export."""


class RegistryClient(Protocol):
    """The registry as the commands use it; every call raises ``CallFailed``."""

    def models(self) -> list[Document]:
        """Return every model."""

    def model(self, name: str) -> Document:
        """Return one model."""

    def push(
        self, model: str, version: str, data: Upload, metadata: Document, reason: str, on_progress: OnProgress
    ) -> Document:
        """Add a version, and return it with the model's new revision."""

    def add_signature(self, model: str, version: str, bundle: str, reason: str) -> Document:
        """Add a signature to a version that was pushed, or will be."""

    def gates(self, model: str, version: str) -> Document:
        """Return the result of every gate of a version."""

    def approve_version(self, model: str, version: str, reason: str) -> Document:
        """Approve a version for traffic, and return it."""

    def alias(
        self, model: str, alias: str, version: str, expected: str | None, reason: str, force: bool = False
    ) -> Document:
        """Move an alias; ``expected`` None compares nothing, "" requires that it is new; ``force`` moves the champion
        even if a route decides which version answers."""

    def drop_alias(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """Delete an alias; ``force`` as for ``alias``."""

    def rollback(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """Move an alias back to its previous version; ``force`` as for ``alias``."""

    def retire(self, model: str, version: str, reason: str, force: bool = False) -> Document:
        """Take a version out of service."""

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """Change a model's settings; without changes, return them."""

    def set_reference(self, model: str, version: str, data: Upload, on_progress: OnProgress) -> Document:
        """Store the training data of a version as its reference."""

    def verify(self, on_progress: OnProgress) -> list[Document]:
        """Check the digest of every content, and return the findings."""

    def export(self, model: str, version: str, write: Write, on_progress: OnProgress) -> str:
        """Write a version's bytes, and return their digest as the registry records it."""

    def collect(self) -> list[str]:
        """Delete contents that no version needs, and return their digests."""

    def forget(self, model: str | None, column: str, value: str, reason: str) -> Document:
        """Erase the rows of a subject of a model (None: of all), and return what was removed."""

    def audit(self, model: str | None, limit: int, archive: str | None = None) -> list[Document]:
        """Return the newest entries of the audit, or of one of its archives."""

    def audit_archives(self) -> list[Document]:
        """Return the archives of older entries."""

    def verify_audit(self, checkpoints: str, keys: Sequence[str]) -> Document:
        """Verify the audit, also against checkpoints that were kept elsewhere; ``keys`` take the place of the trusted
        ones."""

    def prove_entry(self, seq: int) -> str:
        """Return the proof that an entry is in the audit."""

    def export_audit(self, write: Write) -> None:
        """Write all entries and checkpoints as JSON lines."""

    def explain_serving(self, model: str, at: str) -> Document:
        """Return what served a model at a time, why, and by whose change."""

    def audit_keys(self) -> list[str]:
        """Return the public keys whose checkpoints are trusted."""


def user_name() -> str:
    """Return the user name, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def upload_chunks(data: Upload, on_progress: OnProgress) -> Iterable[bytes]:
    """Yield the bytes of an upload, and report the progress.

    Raises:
        CallFailed: a file can no longer be read.
    """
    done = 0
    try:
        for chunk in data.chunks:
            yield chunk
            done += len(chunk)
            on_progress(done, data.size)
    except (BadModel, Fault) as fault:
        raise CallFailed(str(fault), ExitCode.USAGE) from None
    except OSError as error:
        raise CallFailed(f"the model cannot be read: {(error.strerror or 'error').lower()}", ExitCode.USAGE) from None
