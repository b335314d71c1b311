"""The file with the address and process id of the gateway that runs on a home, for commands on this machine."""

import json
import os
from contextlib import suppress
from pathlib import Path

from penstock.engine.durable_files import write_atomically


class GatewayRecord:
    """The record of the gateway that runs on a home; failures to write it are ignored."""

    def __init__(self, home: Path) -> None:
        self._file = home / "gateway.json"

    def write(self, http: str, grpc: str, ops: str, certificate: Path | None = None) -> None:
        """Record this process, the addresses of its ports (host:port), and the file of its certificate if they have
        TLS."""
        record = {"http": http, "grpc": grpc, "ops": ops, "pid": os.getpid()}
        record |= {} if certificate is None else {"certificate_file": str(certificate)}
        with suppress(OSError):
            write_atomically(self._file, json.dumps(record) + "\n")

    def remove(self) -> None:
        """Remove the record, unless another gateway has replaced it."""
        with suppress(OSError, ValueError, KeyError):
            if json.loads(self._file.read_text())["pid"] == os.getpid():
                self._file.unlink()
