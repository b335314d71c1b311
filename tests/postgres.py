"""A real PostgreSQL server for tests: made in a temporary folder, on loopback, ended by its process id."""

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from penstock.registry.db.database import open_database
from tests.harness import PATIENCE_S, wait_until
from tests.ports import free_port

TEMPLATE = "registry_template"
PLACES = ("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin")


@dataclass(slots=True)
class Postgres:
    """A running server."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    has_template: bool = False

    def url(self, database: str) -> str:
        """The address of one of its databases, as people write it."""
        return f"postgresql://penstock@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, *options: str) -> str:
        """Make a database; its address."""
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "penstock"]
        command = [program("createdb"), *place, *options, database]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
        return self.url(database)

    def create_registry(self, database: str) -> str:
        """Make a database with the tables of a registry; its address, as SQLAlchemy writes it.

        All are copies of one, because migrations take twice the time of a copy; so they have the same identity.
        """
        if not self.has_template:
            open_database(driver_url(self.create(TEMPLATE)), PATIENCE_S).close()
            self.has_template = True
        return driver_url(self.create(database, "--template", TEMPLATE))

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*as_somebody(), program("postgres"), *options, "-c", "fsync=off"], stdout=log, stderr=log
            )
        ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(
            lambda: subprocess.run(ready, check=False).returncode == 0, PATIENCE_S, (self.folder / "log").read_text
        )

    def stop(self) -> None:
        """End it at once, connections and all."""
        if self.process is not None:
            self.process.send_signal(2)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def driver_url(url: str) -> str:
    """The address of a database, as SQLAlchemy writes it."""
    return url.replace("postgresql://", "postgresql+psycopg://")


@cache
def _new_cluster() -> Path:
    """The files of a new server, which this process of tests copies: to make them takes fifteen times as long."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    init = [program("initdb"), "-D", str(folder / "data"), "-U", "penstock", "-A", "trust", "-E", "UTF8", "-N"]
    subprocess.run([*as_somebody(), *init], check=True, capture_output=True, timeout=PATIENCE_S, cwd=folder)
    return folder / "data"


def program(name: str) -> str:
    """One of PostgreSQL's programs."""
    for place in PLACES:
        if (Path(place) / name).exists():
            return str(Path(place) / name)
    found = shutil.which(name)
    assert found, f"{name} is missing: install Debian's postgresql"
    return found


def as_somebody() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for the time of a block."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    port = free_port()
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    made = Postgres(folder, port)
    try:
        copy = [*as_somebody(), "cp", "--recursive", str(_new_cluster()), str(folder / "data")]
        subprocess.run(copy, check=True, capture_output=True, timeout=PATIENCE_S, cwd=folder)
        made.start()
        yield made
    finally:
        made.stop()
        with suppress(OSError):
            shutil.rmtree(folder)
