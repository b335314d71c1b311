"""Runs rows of a matrix on versions: as calls of class ``batch``, through their admission and threads, a few rows at a
time. What they answer is counted nowhere as a prediction.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic_ns
from typing import Final

import numpy as np

from penstock.core.bins import Floats
from penstock.core.errors import Unsupported
from penstock.core.explanations import FIRST_RUN_ROWS, check_columns, next_run_rows
from penstock.core.labels import Priority, Protocol, Route
from penstock.core.tensors import Tensor
from penstock.serving.explanations.row_matrix import RowMatrix
from penstock.serving.infer_call import InferCall, new_id
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.requested_outputs import RequestedOutput

OTHER_ROWS: Final = "the output does not have a row for each row of the inputs, so it cannot be explained"


class RowRuns:
    """The runs of one output of one version; lives on the event loop. ``columns`` are those that are wanted (() =
    all)."""

    def __init__(
        self, loaded: LoadedVersion, matrix: RowMatrix, output: str, columns: Sequence[int], deadline_ns: int
    ) -> None:
        self._loaded = loaded
        self._matrix = matrix
        self._output = output
        self._columns = list(columns)
        self._deadline_ns = deadline_ns
        self._rows = FIRST_RUN_ROWS if loaded.shares_rows else 1
        self._most = loaded.signature.max_batch_size or (1 << 30)

    async def run(self, rows: Floats) -> Floats:
        """Return the output [rows, columns] for rows [rows, features].

        Raises:
            Fault: a call was refused or failed, or the deadline has passed.
        """
        parts, start = [], 0
        while start < len(rows):
            count = min(self._rows, self._most)
            parts.append(await self._run_some(rows[start : start + count]))
            start += count
        return np.concatenate(parts)

    async def _run_some(self, rows: Floats) -> Floats:
        call = await run_call(self._call(self._matrix.decode(rows)))
        if self._loaded.shares_rows:
            self._rows = next_run_rows(len(rows), call.ran_ns - call.started_ns)
        data = call.outputs[0].data.astype(np.float64)
        if data.size % len(rows) or (self._loaded.signature.batching and data.shape[:1] != (len(rows),)):
            raise Unsupported(OTHER_ROWS)
        found: Floats = data.reshape(len(rows), -1)
        check_columns(self._columns, found.shape[1])
        return found[:, self._columns] if self._columns else found

    def _call(self, tensors: list[Tensor]) -> InferCall:
        return batch_call(self._loaded, tensors, [RequestedOutput(self._output)], self._deadline_ns)


def batch_call(
    loaded: LoadedVersion, tensors: list[Tensor], requested: list[RequestedOutput] | None, deadline_ns: int
) -> InferCall:
    """Return a call of class ``batch`` that no observer sees."""
    now, transport = monotonic_ns(), Protocol.REST
    return InferCall(
        loaded, Route.PINNED, transport, new_id(), tensors, requested, deadline_ns, now, (), Priority.BATCH
    )


async def run_call(call: InferCall) -> InferCall:
    """Run a call on a thread, and return it once it has its outputs; raises its fault. Cancelling cancels the call."""
    call.loaded.prepare_inline(call)
    if call.fault is not None:
        raise call.fault
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancel: Callable[[], None] = call.loaded.enqueue(call, lambda _: _set_ended(ended))
    try:
        await ended
    except asyncio.CancelledError:
        call.abandoned = True
        cancel()
        raise
    if call.fault is not None:
        raise call.fault
    return call


def _set_ended(ended: "asyncio.Future[None]") -> None:
    with suppress(asyncio.InvalidStateError):  # nobody waits any more
        ended.set_result(None)
