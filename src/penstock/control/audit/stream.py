"""Writes entries of the audit as log lines, in their order; in a fleet, the gateway that leads writes them.

An entry may be written twice after a crash or a change of the leader, and its ``event.sequence`` says so. The file of
the position has the number of the last entry; every gateway keeps it, so that a new leader goes on at the same place.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.audit.ecs_fields import audit_fields, audit_message
from penstock.engine.durable_files import write_atomically
from penstock.registry.stores.audit_log import AuditLog

log = logging.getLogger("penstock.audit")

LOOK_S = 1.0
BATCH = 500
"""Entries of one step, which bounds the memory of a gateway that has to catch up."""


class AuditStream:
    """Writes the entries that follow the position in ``file``, or without one those that are yet to come. ``lead``:
    whether this gateway writes; it may block."""

    def __init__(self, audit: AuditLog, file: Path, lead: Callable[[], bool]) -> None:
        self._audit = audit
        self._file = file
        self._lead = lead
        self._position: int | None = None
        self._pool = BlockingPool("audit_stream", 1)
        self.pools = (self._pool,)
        self.task = PeriodicTask("audit stream", self.step, LOOK_S, meanwhile="the audit is not written to the log")

    async def step(self) -> None:
        """Write new entries; raises ``Fault`` while the registry cannot be read."""
        await self._pool.call(self._step)

    def _step(self) -> None:
        if self._position is None:
            self._position = self._read_position()
        entries = list(islice(self._audit.entries(self._position), BATCH))
        if not entries:
            return
        if self._lead():
            for entry in entries:
                log.info(audit_message(entry), extra={"fields": audit_fields(entry)})
        self._position = int(entries[-1]["seq"])
        self._write_position()

    def _read_position(self) -> int:
        with suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(self._file.read_text("utf-8"))
            if stored["registry"] == self._audit.identity():
                return int(stored["seq"])
        return self._audit.last_seq()

    def _write_position(self) -> None:
        stored = {"registry": self._audit.identity(), "seq": self._position}
        with suppress(OSError):  # a full disk repeats entries after the next start, no more
            write_atomically(self._file, json.dumps(stored) + "\n")
