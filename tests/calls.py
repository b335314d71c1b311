"""Calls that have their outputs already, for tests of what is done with them."""

from collections.abc import Sequence
from functools import cache

from penstock.core.labels import Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.signature import Signature
from penstock.core.tensors import Tensor
from penstock.engine.model import Model
from penstock.engine.session import closed_run
from penstock.monitor.counters import Slot
from penstock.serving.calls import Call
from penstock.serving.served import Identity, Served


@cache
def nobody() -> Served:
    """A version whose model is closed."""
    model = Model(closed_run, Signature([], []))
    return Served(Identity("m", "3"), model, ModelOptions(), {}, Slot.in_process().block(1))


def answered(outputs: Sequence[Tensor], call_id: str = "7", inputs: Sequence[Tensor] = (), rows: int = 1) -> Call:
    """A call that has its outputs."""
    call = Call(nobody(), Route.STABLE, Protocol.GRPC, call_id, list(inputs), None, deadline_ns=0, began_ns=0)
    call.outputs = list(outputs)
    call.rows = rows
    return call
