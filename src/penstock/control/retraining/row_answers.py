"""Answers requests of the leader for the rows that this gateway has captured."""

import logging
from collections.abc import Callable
from pathlib import Path

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.control.retraining.fleet_rows import captured_at
from penstock.core.errors import Fault
from penstock.core.row_shares import NOTHING, WAIT_S
from penstock.monitor.capture import SEGMENT_BYTES
from penstock.monitor.captured_rows import RowSelection
from penstock.registry.blobs.folder import BlobStore, IncomingFile
from penstock.registry.stores.row_requests import RowAnswer, RowRequest, RowRequestStore

log = logging.getLogger("penstock.control")

LOOK_S = 5.0
"""Interval of checks on answered requests, while there are any; new requests wake the task."""


class RowAnswers:
    """The answers of one gateway; ``home`` has the captured rows, ``incoming`` is a folder on the file system of local
    blobs.
    """

    def __init__(
        self, requests: RowRequestStore, blobs: Callable[[], BlobStore], gateway: str, home: Path, incoming: Path
    ) -> None:
        self._requests = requests
        self._blobs = blobs
        self._gateway = gateway
        self._home = home
        self._incoming = incoming
        self._wanted = False
        self._held: dict[str, str] = {}
        self._pool = BlockingPool("captured rows", 1, "the captured rows", 2 * WAIT_S)
        self.pools = (self._pool,)
        self.task = PeriodicTask("captured rows", self.step, LOOK_S, meanwhile="no captured rows are handed over")

    def wake(self) -> None:
        """Check for new requests now. Any thread of the event loop may call it."""
        self._wanted = True
        self.task.wake()

    async def step(self) -> None:
        """Answer open requests, and delete what is not needed any longer; does nothing without any.

        Raises:
            NotReady: the database is away.
        """
        if self._wanted or self._held:
            await self._pool.call(self._answer_open_requests)

    def close(self) -> None:
        """End the thread."""
        self._pool.close()

    # On the thread.

    def _answer_open_requests(self) -> None:
        requests, answered = self._requests.open(self._gateway)
        self._wanted = False
        for request in requests:
            self._answer(request)
        for request_id in self._held.keys() - answered - {item.id for item in requests}:
            self._blobs().delete(self._held[request_id])
            del self._held[request_id]

    def _answer(self, request: RowRequest) -> None:
        answer = self._write_rows(request)
        if answer.digest:
            self._held[request.id] = answer.digest
        if not self._requests.answer(request.id, answer):
            log.info("a request for captured rows of model %s expired before it was answered", request.model)

    def _write_rows(self, request: RowRequest) -> RowAnswer:
        """Return the answer to a request; its file is in the blobs afterwards."""
        try:
            return self._upload(request)
        except Fault as fault:
            return RowAnswer(self._gateway, problem=str(fault))
        except Exception as error:  # whoever asks is not to wait
            log.exception("captured rows of model %s cannot be handed over", request.model)
            return RowAnswer(self._gateway, problem=f"its rows cannot be read: {type(error).__name__}")

    def _upload(self, request: RowRequest) -> RowAnswer:
        selection = RowSelection(request.model, request.version, request.share, request.for_exam)
        owner = {"request": request.id, "gateway": self._gateway}
        with IncomingFile(self._incoming, 2 * request.most.size + SEGMENT_BYTES) as file:
            amount = captured_at(self._home).export_newest(selection, request.most, owner, file.write)
            if amount == NOTHING:
                return RowAnswer(self._gateway)
            file.close()
            self._blobs().keep(file.path, file.digest)
            return RowAnswer(self._gateway, file.digest, amount)
