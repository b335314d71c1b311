"""Ends an instance that another one has replaced: its workers drain, then its directory is deleted."""

import asyncio
import logging
from contextlib import suppress

from penstock.control.instance.directory import Instance
from penstock.control.workers.process import WorkerProcess, adopt
from penstock.control.workers.slots import SlotLock

log = logging.getLogger("penstock.control")

POLL_S = 0.05


async def retire(instance: Instance, patience_s: float) -> None:
    """Ask the workers to drain, kill those that have not ended after ``patience_s`` seconds, and remove the
    instance.
    """
    workers = _list_workers(instance)
    log.info("%d workers of an earlier control process are replaced", len(workers))
    for worker in workers:
        worker.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while not all(worker.ended() for worker in workers):  # noqa: ASYNC110 - strangers' processes have no event
                await asyncio.sleep(POLL_S)
    for worker in workers:
        worker.kill()
        worker.close()
    instance.remove()


def _list_workers(instance: Instance) -> list[WorkerProcess]:
    workers = []
    for path in instance.slots():
        file = SlotLock(path)
        workers.append(adopt(file))
        file.close()
    return [worker for worker in workers if worker is not None]
