"""The location of a registry: its home folder, its database and its blobs, from the settings."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import InvalidInput

_SQLITE = "sqlite:///"
_EXPECTED = "expected a folder, sqlite:///PATH or postgresql://HOST/NAME"


@dataclass(frozen=True, slots=True)
class RegistryLocation:
    """``home`` is a folder of this machine; ``database`` a URL; ``blobs`` a folder, or ``s3://BUCKET/PREFIX``."""

    home: Path
    database: str
    blobs: str

    @property
    def is_shared(self) -> bool:
        """Whether gateways on several machines may use the database; SQLite is on one machine."""
        return not self.database.startswith(_SQLITE)

    @property
    def is_absent(self) -> bool:
        """Whether there surely is not a registry: its file does not exist."""
        return not self.is_shared and not Path(self.database.removeprefix(_SQLITE)).exists()

    @property
    def hides_contents(self) -> bool:
        """Whether other gateways may find versions in the database whose contents only this one can read."""
        return self.is_shared and self.blobs == str(self.home / "blobs")

    @property
    def unpacked(self) -> Path:
        """Folder of contents that are unpacked for serving."""
        return self.home / "unpacked"

    @property
    def cache(self) -> Path:
        """Folder of local copies of a bucket's contents."""
        return self.home / "cache"

    @property
    def incoming(self) -> Path:
        """Folder of contents that are being received; beside local blobs, so that they only have to be renamed."""
        return self.home / "incoming" if self.blobs.startswith("s3://") else Path(self.blobs) / "incoming"

    @property
    def snapshot_file(self) -> Path:
        """File with the last known state of the database."""
        return self.home / f"last-{self._database_name}.json"

    @property
    def access_file(self) -> Path:
        """File with the last known API keys of the database, by their digests."""
        return self.home / f"access-{self._database_name}.json"

    @property
    def _database_name(self) -> str:
        return hashlib.sha256(self.database.encode()).hexdigest()[:16]

    @property
    def audit_key(self) -> Path:
        """File with the private key that signs checkpoints of the audit."""
        return self.home / "audit.key"

    @property
    def audit_position(self) -> Path:
        """File with the number of the last entry of the audit that was written to the log."""
        return self.home / "audit-position.json"

    @property
    def audit_checkpoints(self) -> Path:
        """File with the checkpoints of the audit that this home's gateway has seen."""
        return self.home / "audit-checkpoints.txt"

    @property
    def copies(self) -> Path:
        """Folder of copies of served versions of repositories."""
        return self.home / "copies"

    @property
    def verdicts(self) -> Path:
        """Folder of admission verdicts on versions of repositories."""
        return self.home / "verdicts"


def location_of(registry: str, home: Path, blobs: str, repositories: str = "") -> RegistryLocation:
    """Return the location for these settings; "" stands for the default below ``home``.

    A gateway that serves ``repositories`` uses a database for these alone, so that aliases of a folder's models and of
    pushed models stay separate.

    Raises:
        InvalidInput: the URL is not that of a registry.
    """
    home, database = _locate_registry(registry, home.expanduser().absolute())
    if repositories and database.startswith(_SQLITE):
        name = hashlib.sha256(os.fsencode(repositories)).hexdigest()[:16]
        database = f"{_SQLITE}{home / f'folder-{name}.db'}"
    return RegistryLocation(home, database, _find_blobs(blobs) if blobs else str(home / "blobs"))


def _locate_registry(registry: str, home: Path) -> tuple[Path, str]:
    if registry.startswith(("postgresql://", "postgres://")):
        return home, f"postgresql+psycopg://{registry.partition('://')[2]}"
    if registry.startswith(_SQLITE):
        file = Path(registry.removeprefix(_SQLITE)).expanduser().absolute()
        return file.parent, f"{_SQLITE}{file}"
    if "://" in registry:
        raise InvalidInput(f"--registry: {_EXPECTED}")
    home = Path(registry).expanduser().absolute() if registry else home
    return home, f"{_SQLITE}{home / 'registry.db'}"


def _find_blobs(blobs: str) -> str:
    if blobs.startswith("s3://"):
        return blobs
    if "://" in blobs:
        raise InvalidInput("blobs: expected a folder or s3://BUCKET/PREFIX")
    return str(Path(blobs).expanduser().absolute())
