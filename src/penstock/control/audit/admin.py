"""The audit's part of the admin API: verify, prove, export and explain, on threads of their own."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from itertools import islice

from penstock.control.audit.recorder import AuditRecorder
from penstock.control.calls.blocking import BlockingPool
from penstock.registry.auditing import RegistryAudit
from penstock.registry.records import Author, Document

VERIFY_S = 3600.0
ANSWER_S = 60.0
LINES = 500
"""Entries of one piece of an export."""


class AuditAdmin:
    """The audit of one gateway's registry; belongs to the event loop. Every method raises ``NotReady`` while the
    registry cannot be reached."""

    def __init__(self, audit: RegistryAudit, recorder: AuditRecorder) -> None:
        self.audit = audit
        self.recorder = recorder
        self._pool = BlockingPool("audit_reads", 2, deadline_s=VERIFY_S, most_waiting=8)
        self.pools = (self._pool, *recorder.pools)

    async def verify(self, checkpoints: str, keys: Sequence[str]) -> Document:
        """Return the result of a verification of all entries; raises ``InvalidInput``."""
        return await self._pool.call(self.audit.verify, checkpoints, keys)

    async def keys(self) -> Document:
        """Return the public keys whose checkpoints are trusted."""
        keys = await self._pool.call(self.audit.public_keys, deadline_s=ANSWER_S)
        return {"keys": [key.text for key in keys]}

    async def checkpoint(self) -> str:
        """Return the newest signed checkpoint; raises ``NotFound``."""
        return (await self._pool.call(self.audit.newest_checkpoint, deadline_s=ANSWER_S)).note

    async def prove(self, seq: int) -> str:
        """Return the proof that an entry is in the audit; raises ``NotFound`` or ``DataLoss``."""
        return await self._pool.call(self.audit.prove, seq)

    async def explain(self, model: str, at: str) -> Document:
        """Return what served a model at a time; raises ``NotFound`` or ``InvalidInput``."""
        return await self._pool.call(self.audit.explain, model, at, deadline_s=ANSWER_S)

    async def export(self, by: Author) -> AsyncIterator[bytes]:
        """Yield all entries and checkpoints as JSON lines, after an entry that says who exports them."""
        await self.recorder.record("audit.export", "audit", by)
        lines = self.audit.export()
        while piece := await self._pool.call(lambda: list(islice(lines, LINES)), deadline_s=ANSWER_S):
            yield "".join(json.dumps(line, sort_keys=True) + "\n" for line in piece).encode()
            await asyncio.sleep(0)

    def close(self) -> None:
        """End the threads."""
        self._pool.close()
        self.recorder.close()
