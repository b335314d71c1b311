"""A real PgBouncer in transaction mode for tests: on loopback, in front of a PostgreSQL of this run."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness import PATIENCE_S, wait_until
from tests.ports import free_port
from tests.postgres import Postgres, as_somebody

SETTINGS = """[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
"""


def program() -> str:
    """PgBouncer's program."""
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert found, "pgbouncer is missing: install Debian's pgbouncer"
    return found


@contextmanager
def before(server: Postgres) -> Iterator[int]:
    """The port of one for the time of a block."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-pgb-"))
    port = free_port()
    (folder / "users").write_text('"penstock" ""\n')
    (folder / "ini").write_text(SETTINGS.format(server=server.port, port=port, folder=folder))
    folder.chmod(0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*as_somebody(), program(), str(folder / "ini")], stdout=log, stderr=log)
    try:
        _wait(port, folder / "log")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        shutil.rmtree(folder)


def _wait(port: int, log: Path) -> None:
    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE_S):
            return True
        return False

    wait_until(listens, PATIENCE_S, log.read_text)
