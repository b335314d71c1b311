"""A version whose runs a test decides, so that what surrounds it can be tested without a model's time."""

from collections.abc import Callable, Sequence
from functools import cache
from time import monotonic_ns

import numpy as np

from penstock.core.labels import Priority, Protocol, Route
from penstock.core.signature import Signature
from penstock.core.tensors import Tensor
from penstock.monitor.counters.slot import Slot
from penstock.serving.admission import ConcurrencyLimiter
from penstock.serving.infer_call import NEVER_NS, InferCall, OnDone, Servable
from penstock.serving.version_info import VersionIdentity
from tests.plain import NeedsPlain

MINUTE_NS = 60_000_000_000


class Scripted(NeedsPlain, Servable):
    """Answers at once; ``takes`` calls at a time are run, each giving ``output_bytes``; ``ran`` are those that were."""

    def __init__(self, name: str = "m", most: float = 1000.0, takes: int = 1000, output_bytes: int = 4) -> None:
        self.slot = Slot.in_process()
        super().__init__(VersionIdentity(name, "1"), Signature([], []), self.slot.block(1))
        self.limiter = ConcurrencyLimiter(1, (1.0, most), self.block)
        self.takes = takes
        self.bytes = output_bytes
        self.inline = True
        self.ran: list[InferCall] = []
        self.held = 0
        self.on_run: Callable[[], None] = lambda: None

    def prepare_inline(self, call: InferCall) -> bool:
        """See ``Servable``."""
        call.decoded_ns = monotonic_ns()
        return self.inline

    def run_inline(self, calls: Sequence[InferCall], until_ns: int = NEVER_NS) -> Sequence[InferCall]:
        """See ``Servable``."""
        self.on_run()
        for call in calls[: self.takes]:
            call.outputs = [Tensor("y", "UINT8", np.zeros(1, np.uint8))]
            call.output_bytes = self.bytes
            self.ran.append(call)
        return calls[self.takes :]

    def enqueue(self, call: InferCall, on_done: OnDone) -> Callable[[], None]:
        """See ``Servable``."""
        raise NotImplementedError

    def hold(self, calls: int = 1) -> None:
        """See ``Servable``."""
        self.held += calls

    def release(self, calls: int = 1) -> None:
        """See ``Servable``."""
        self.held -= calls


def call_of(
    loaded: Servable, priority: Priority = Priority.DEFAULT, size: int = 1, timeout_ns: int = MINUTE_NS
) -> InferCall:
    """A call of so many input bytes."""
    now = monotonic_ns()
    tensors = [Tensor("x", "UINT8", np.zeros(size, np.uint8))]
    return InferCall(loaded, Route.STABLE, Protocol.REST, "id", tensors, None, now + timeout_ns, now, priority=priority)


@cache
def _nobody() -> Servable:
    return Scripted()


def served(inputs: list[Tensor], outputs: list[Tensor], client: int = 0) -> InferCall:
    """A call that was answered."""
    call = InferCall(_nobody(), Route.STABLE, Protocol.REST, "id", inputs, None, 0, 0)
    call.rows, call.outputs, call.client = len(inputs[0].data), outputs, client
    return call
