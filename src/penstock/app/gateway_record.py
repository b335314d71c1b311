"""The file that tells commands on this machine which gateway runs on a home."""

import json
import os
from contextlib import suppress
from pathlib import Path

from penstock.engine.durable_files import write_atomically


class GatewayRecord:
    """Tells commands on this machine which gateway runs on a home."""

    def __init__(self, home: Path) -> None:
        self._file = home / "gateway.json"

    def write(self, ops: str) -> None:
        """Say that this process is it."""
        with suppress(OSError):
            write_atomically(self._file, json.dumps({"ops": ops, "pid": os.getpid()}) + "\n")

    def remove(self) -> None:
        """Say so no longer, unless another one has come."""
        with suppress(OSError, ValueError, KeyError):
            if json.loads(self._file.read_text())["pid"] == os.getpid():
                self._file.unlink()
