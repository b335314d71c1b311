"""Local copies of references: workers read them, and the monitor uses them while the database is unreachable."""

import json
from contextlib import suppress
from pathlib import Path

from penstock.engine.durable_files import write_atomically
from penstock.registry.records import Document


class ReferenceFiles:
    """References by digest, and an index of the last database contents, in one folder; methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Return the path of the reference with this digest."""
        return self.folder / f"{digest.removeprefix('sha256:')}.json"

    def write(self, digest: str, document: Document) -> None:
        """Write a reference; raises ``OSError``."""
        self.make_folder()
        write_atomically(self.path(digest), json.dumps(document))

    def read(self, digest: str) -> Document | None:
        """Read a reference; None if it is missing or unreadable."""
        with suppress(OSError, ValueError):
            document: Document = json.loads(self.path(digest).read_text())
            return document
        return None

    def write_index(self, index: Document) -> None:
        """Write the contents of the database; a failed write is ignored."""
        with suppress(OSError):
            self.make_folder()
            if not self._index.exists() or self._index.read_text() != json.dumps(index):
                write_atomically(self._index, json.dumps(index))

    def read_index(self) -> Document:
        """Read the last contents of the database; empty if unreadable."""
        with suppress(OSError, ValueError):
            document: Document = json.loads(self._index.read_text())
            return document
        return {"references": [], "policies": {}}

    def make_folder(self) -> None:
        """Create the folder if needed; raises ``OSError``."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"
