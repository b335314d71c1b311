"""Where a registry lies: its home folder, its database and its blobs, from what the settings say."""

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
        """Whether gateways of several machines may use the database: SQLite lies on one."""
        return not self.database.startswith(_SQLITE)

    @property
    def hides_contents(self) -> bool:
        """Whether other gateways may see versions in the database whose contents only this one can read."""
        return self.is_shared and self.blobs == str(self.home / "blobs")

    @property
    def unpacked(self) -> Path:
        """Where contents of several files are laid out for serving."""
        return self.home / "unpacked"

    @property
    def cache(self) -> Path:
        """Where contents of a bucket are kept for serving."""
        return self.home / "cache"

    @property
    def incoming(self) -> Path:
        """Where contents are received; beside local blobs, so that they only have to be renamed."""
        return self.home / "incoming" if self.blobs.startswith("s3://") else Path(self.blobs) / "incoming"

    @property
    def picture(self) -> Path:
        """What the database last said, for when it is away."""
        return self.home / f"last-{hashlib.sha256(self.database.encode()).hexdigest()[:16]}.json"

    @property
    def copies(self) -> Path:
        """Where what is served out of repositories is copied."""
        return self.home / "copies"

    @property
    def verdicts(self) -> Path:
        """What admission said of what repositories hold."""
        return self.home / "verdicts"


def location_of(registry: str, home: Path, blobs: str, repositories: str = "") -> RegistryLocation:
    """The place that the settings mean; "" leaves it to ``home``.

    A gateway that serves ``repositories`` keeps what it has to remember in a database for these alone, so that the
    aliases of a folder's models and of pushed ones never meet.

    Raises:
        InvalidInput: the URL is none that a registry can lie at.
    """
    home, database = _located(registry, home.expanduser().absolute())
    if repositories and database.startswith(_SQLITE):
        name = hashlib.sha256(os.fsencode(repositories)).hexdigest()[:16]
        database = f"{_SQLITE}{home / f'folder-{name}.db'}"
    return RegistryLocation(home, database, _blobs(blobs) if blobs else str(home / "blobs"))


def _located(registry: str, home: Path) -> tuple[Path, str]:
    if registry.startswith(("postgresql://", "postgres://")):
        return home, f"postgresql+psycopg://{registry.partition('://')[2]}"
    if registry.startswith(_SQLITE):
        file = Path(registry.removeprefix(_SQLITE)).expanduser().absolute()
        return file.parent, f"{_SQLITE}{file}"
    if "://" in registry:
        raise InvalidInput(f"--registry: {_EXPECTED}")
    home = Path(registry).expanduser().absolute() if registry else home
    return home, f"{_SQLITE}{home / 'registry.db'}"


def _blobs(blobs: str) -> str:
    if blobs.startswith("s3://"):
        return blobs
    if "://" in blobs:
        raise InvalidInput("blobs: expected a folder or s3://BUCKET/PREFIX")
    return str(Path(blobs).expanduser().absolute())
