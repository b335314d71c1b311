"""A loaded version as it answers with explanations instead of predictions: transports treat it as any version."""

from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Final

from penstock.core.errors import Overloaded
from penstock.core.labels import Priority
from penstock.core.signature import Signature, TensorSpec
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.monitor.counters.layout import STORED_CELLS
from penstock.serving.explanations.preparation import VersionExplanations
from penstock.serving.infer_call import NEVER_NS, InferCall, OnDone, Servable

FULL: Final = "the worker makes as many explanations as it may at a time; try again later"

ATTRIBUTIONS: Final = "attributions"
BASE_VALUE: Final = "base_value"
PREDICTION: Final = "prediction"
ERROR: Final = "error"
FEATURES: Final = "features"

OUTPUTS: Final = (
    TensorSpec(ATTRIBUTIONS, "FP64", (-1, -1, -1)),
    TensorSpec(BASE_VALUE, "FP64", (-1,)),
    TensorSpec(PREDICTION, "FP64", (-1, -1)),
    TensorSpec(ERROR, "FP64", (-1, -1, -1)),
    TensorSpec(FEATURES, "BYTES", (-1,)),
)
"""The tensors of an answer; attributions and errors lack the last dimension where one column is explained."""

Start = Callable[["ExplainedVersion", InferCall, OnDone], Callable[[], None]]
"""Begins the explanation that a call asks for, and returns what cancels it."""


class ExplainedVersion(Servable):
    """The version of ``kept``, answering with explanations that ``start`` begins; ``is_full`` says whether there are as
    many as may be. Its counters are its own, so that no explanation is counted as a prediction."""

    def __init__(self, kept: VersionExplanations, start: Start, is_full: Callable[[], bool]) -> None:
        loaded = kept.loaded
        own = loaded.signature
        signature = Signature(own.inputs, OUTPUTS, own.batching, symbolic_dims=own.symbolic_dims)
        cells = memoryview(bytearray(8 * STORED_CELLS)).cast("Q")
        super().__init__(loaded.identity, signature, BlockWriter(cells), loaded.limits)
        self.limiter = loaded.limiter
        self.loaded = loaded
        self.kept = kept
        self._start = start
        self._is_full = is_full

    def prepare_inline(self, call: InferCall) -> bool:
        """See ``Servable``; no explanation is made on the event loop."""
        try:
            call.rows = call.run_rows = self.loaded.signature.bind(call.tensors).rows
        except Exception as error:  # a bug must not take the connection down
            call.fail(error)
        call.decoded_ns = call.started_ns = call.ran_ns = monotonic_ns()
        return False

    def run_inline(self, calls: Sequence[InferCall], until_ns: int = NEVER_NS) -> Sequence[InferCall]:
        """Do nothing: ``prepare_inline`` allows no call."""
        return ()

    def enqueue(self, call: InferCall, on_done: OnDone) -> Callable[[], None]:
        """See ``Servable``."""
        return self._start(self, call, on_done)

    def hold(self, calls: int = 1) -> None:
        """See ``Servable``."""
        self.loaded.hold(calls)

    def release(self, calls: int = 1) -> None:
        """See ``Servable``."""
        self.loaded.release(calls)

    def admission_error(self, priority: Priority) -> Overloaded | None:
        """See ``Servable``."""
        return Overloaded(FULL) if self._is_full() else None
