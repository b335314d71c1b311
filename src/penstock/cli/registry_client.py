"""What the commands need of a registry, whichever client of it they use."""

import getpass
from collections.abc import Callable, Iterable
from typing import Protocol

from penstock.cli.client import CallFailed, Document
from penstock.cli.console import Exit
from penstock.cli.upload import BadModel, Upload
from penstock.core.errors import Fault

EXIT_OF = {
    "invalid": Exit.USAGE,
    "not_found": Exit.NOT_FOUND,
    "refused": Exit.REFUSED,
    "too_large": Exit.REFUSED,
    "conflict": Exit.CONFLICT,
    "overloaded": Exit.UNAVAILABLE,
    "not_ready": Exit.UNAVAILABLE,
    "deadline": Exit.UNAVAILABLE,
    "damaged": Exit.INTEGRITY,
}
"""What the command line exits with, by what kind of fault it was."""

OnProgress = Callable[[int, int], None]
"""Called with the bytes that are done, and all there are (0 where unknown)."""

Write = Callable[[bytes], object]
"""Takes the next bytes of what is exported."""


class RegistryClient(Protocol):
    """What the commands need; every call raises ``CallFailed``."""

    def models(self) -> list[Document]:
        """Every model."""

    def model(self, name: str) -> Document:
        """One model."""

    def push(
        self, model: str, version: str, data: Upload, metadata: Document, reason: str, on_progress: OnProgress
    ) -> Document:
        """A new version."""

    def alias(
        self, model: str, alias: str, version: str, expected: str | None, reason: str, force: bool = False
    ) -> Document:
        """Move an alias; ``expected`` None compares nothing, "" means that it must be new; ``force`` moves the champion
        also where a route decides who answers."""

    def drop_alias(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """Take an alias away; ``force`` as for ``alias``."""

    def rollback(self, model: str, alias: str, reason: str, force: bool = False) -> Document:
        """Lead an alias back; ``force`` as for ``alias``."""

    def retire(self, model: str, version: str, reason: str, force: bool = False) -> Document:
        """Take a version out of service."""

    def configure(self, model: str, changes: Document, reason: str) -> Document:
        """Change how versions come and go; without changes, show how they do."""

    def set_reference(self, model: str, version: str, data: Upload, on_progress: OnProgress) -> Document:
        """Give a version its training data to be measured by."""

    def verify(self, on_progress: OnProgress) -> list[Document]:
        """Hash everything; what is not as it should be."""

    def export(self, model: str, version: str, write: Write, on_progress: OnProgress) -> str:
        """Hand out a version's bytes; their digest as the registry has it."""

    def collect(self) -> list[str]:
        """Delete what nobody needs."""

    def audit(self, model: str | None, limit: int, archive: str | None = None) -> list[Document]:
        """Who changed what: the newest, or the newest of an archive."""

    def audit_archives(self) -> list[Document]:
        """The archives of older changes."""


def actor() -> str:
    """Who uses the command line, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def upload_chunks(data: Upload, on_progress: OnProgress) -> Iterable[bytes]:
    """The bytes of an upload, upload_chunks as they go.

    Raises:
        CallFailed: what is to be pushed can no longer be read.
    """
    done = 0
    try:
        for chunk in data.chunks:
            yield chunk
            done += len(chunk)
            on_progress(done, data.size)
    except (BadModel, Fault) as fault:
        raise CallFailed(str(fault), Exit.USAGE) from None
    except OSError as error:
        raise CallFailed(f"the model cannot be read: {(error.strerror or 'error').lower()}", Exit.USAGE) from None
