"""Signs checkpoints of the audit: the gateway that leads signs, and every gateway keeps them in a file of its own."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.audit.chain import origin_of
from penstock.core.audit.notes import Checkpoint, read_checkpoint
from penstock.registry.checkpoint_file import CheckpointFile
from penstock.registry.signing.note_keys import CheckpointKey, read_or_create_key
from penstock.registry.stores.audit_checkpoints import AuditCheckpoints
from penstock.telemetry.delivery_metrics import DELIVERIES, Outcome
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")

LOOK_S = 1.0
CHECKPOINT_S = 60.0
"""Longest time until new entries are covered by a checkpoint."""

CHECKPOINT_ENTRIES = 256
"""Entries that are covered without waiting for that time."""

SIGN_S = 600.0
"""Deadline of a step: the first checkpoint of a large audit reads all of it."""


def is_due(uncovered: int, waited_s: float) -> bool:
    """Whether to sign a checkpoint, ``waited_s`` after the last one."""
    return uncovered >= CHECKPOINT_ENTRIES or (uncovered > 0 and waited_s >= CHECKPOINT_S)


class CheckpointSigner:
    """Signs checkpoints about every minute, or sooner after many entries. ``lead``: whether this gateway signs;
    ``identity`` returns the id of the registry; both may block. ``clock`` gives steady seconds."""

    def __init__(
        self,
        checkpoints: AuditCheckpoints,
        file: CheckpointFile,
        key_file: Path,
        lead: Callable[[], bool],
        identity: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._checkpoints = checkpoints
        self._file = file
        self._key_file = key_file
        self._lead = lead
        self._identity = identity
        self._clock = clock
        self._key: CheckpointKey | None = None
        self._signed_at = clock()
        self._kept: Checkpoint | None = None
        self._origin = ""
        self._covered_at: object = None
        self._pool = BlockingPool("audit", 1, "the registry's database", SIGN_S)
        self.pools = (self._pool,)
        self.task = PeriodicTask("audit checkpoints", self.step, LOOK_S, meanwhile="the audit is not signed")

    async def step(self) -> None:
        """Sign a checkpoint if one is due, and keep the newest one in the file; raises ``Fault``."""
        mark = self._checkpoints.change_mark()
        if mark is None or mark != self._covered_at:
            self._covered_at = None
            self._covered_at = mark if await self._pool.call(self._step) else None

    def _step(self) -> bool:
        """Return whether nothing is left to do until the database changes."""
        self._open()
        leads = self._lead()
        uncovered = self._checkpoints.uncovered() if leads else 0
        if is_due(uncovered, self._clock() - self._signed_at):
            self._checkpoints.sign(self._own_key(), self._kept)
            self._signed_at = self._clock()
        self._keep_newest()
        return leads and not uncovered

    def _open(self) -> None:
        """Read once which log this is, and what the file has of it."""
        if not self._origin:
            origin = origin_of(self._identity())
            self._kept = self._file.last(origin)
            self._origin = origin

    def _own_key(self) -> CheckpointKey:
        """Return the key, which is made on first use."""
        if self._key is None:
            self._key = read_or_create_key(self._key_file)
            log.info("checkpoints of the audit are signed with the key %s", self._key.public_key(self._origin).text)
        return self._key

    def _keep_newest(self) -> None:
        note = self._checkpoints.newest()
        if note is None:
            return
        signed = read_checkpoint(note)
        if self._kept is None or signed.checkpoint.size > self._kept.size:
            self._file.append(signed)
            self._kept = signed.checkpoint

    def readings(self) -> Iterator[Reading]:
        """Yield how many checkpoints were given up because newer ones replaced them."""
        yield Point(DELIVERIES, ("", Outcome.SUPERSEDED), self._checkpoints.superseded)

    def close(self) -> None:
        """End the thread."""
        self._pool.close()
