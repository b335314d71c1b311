"""Copies of references on this machine: workers read them, and watching goes on while the database is away."""

import json
from contextlib import suppress
from pathlib import Path

from penstock.engine.durable_files import write_atomically
from penstock.registry.records import Document


class ReferenceFiles:
    """References by digest, and the index of what the database said last, in one folder. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the reference with this digest lies."""
        return self.folder / f"{digest.removeprefix('sha256:')}.json"

    def write(self, digest: str, document: Document) -> None:
        """Keep a reference; raises ``OSError``."""
        self.make_folder()
        write_atomically(self.path(digest), json.dumps(document))

    def read(self, digest: str) -> Document | None:
        """A reference, None where it is not here or cannot be read."""
        with suppress(OSError, ValueError):
            document: Document = json.loads(self.path(digest).read_text())
            return document
        return None

    def write_index(self, known: Document) -> None:
        """Keep what the database says, as far as the disk lets it."""
        with suppress(OSError):
            self.make_folder()
            if not self._index.exists() or self._index.read_text() != json.dumps(known):
                write_atomically(self._index, json.dumps(known))

    def read_index(self) -> Document:
        """What the database said last."""
        with suppress(OSError, ValueError):
            document: Document = json.loads(self._index.read_text())
            return document
        return {"references": [], "policies": {}}

    def make_folder(self) -> None:
        """Make the folder where there is none; raises ``OSError``."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"
