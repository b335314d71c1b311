"""Calls that have their outputs already, for tests of what is done with them."""

import asyncio
from collections.abc import Callable, Sequence
from functools import cache

from penstock.api.common.parts import Payload
from penstock.core.labels import Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature
from penstock.core.tensors import Tensor
from penstock.engine.model import Model
from penstock.engine.session import closed_run
from penstock.monitor.counters.slot import Slot
from penstock.serving.infer_call import InferCall, OnDone
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.version_info import VersionIdentity


@cache
def nobody() -> LoadedVersion:
    """A version whose model is closed."""
    model = Model(closed_run, Signature([], []))
    return LoadedVersion(VersionIdentity("m", "3"), model, ModelOptions(), {}, Slot.in_process().block(1))


async def infer(call: InferCall) -> None:
    """Run a call and wait for it; cancelling the wait cancels the call.

    Raises:
        Fault: whatever the call ended with.
    """
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancel = _submitted(call, lambda _: None if future.done() else future.set_result(None))
    try:
        await future
    except asyncio.CancelledError:
        if cancel is not None:
            cancel()
        raise
    if call.fault is not None:
        raise call.fault


def _submitted(call: InferCall, on_done: OnDone) -> Callable[[], None] | None:
    """Run a call and call ``on_done`` on the loop; the result cancels a call that waits for a thread."""
    if not call.loaded.prepare_inline(call):
        if call.fault is None:
            return call.loaded.enqueue(call, on_done)
    else:
        call.loaded.run_inline([call])
    on_done(call)
    return None


def answered(outputs: Sequence[Tensor], call_id: str = "7", inputs: Sequence[Tensor] = (), rows: int = 1) -> InferCall:
    """A call that has its outputs."""
    call = InferCall(nobody(), Route.STABLE, Protocol.GRPC, call_id, list(inputs), None, deadline_ns=0, began_ns=0)
    call.outputs = list(outputs)
    call.rows = rows
    return call


def join_payload(payload: Payload) -> bytes:
    """A payload in one piece."""
    return payload if isinstance(payload, bytes) else b"".join(payload)
