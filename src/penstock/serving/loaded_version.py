"""A loaded version that answers: its model, its executors, and the count of its users."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic_ns
from typing import Any, Final

from penstock.core.batching import BATCHING, BatchRules, BatchSharing, batch_rules
from penstock.core.desired import WatchSpec
from penstock.core.errors import DeadlineExceeded
from penstock.core.limits import RequestLimits
from penstock.core.options import ModelOptions
from penstock.core.placement import runs_inline
from penstock.core.queueing import PATIENT, PATIENT_OF_SHORT
from penstock.core.signature import Feeds
from penstock.core.tensors import Array, Tensor
from penstock.engine.model import Model, RunInterrupt
from penstock.monitor.columns import Columns
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.monitor.value_masks import NO_MASK, RequestMask
from penstock.serving.admission import ConcurrencyLimiter
from penstock.serving.batch_run import Outcome, output_too_large
from penstock.serving.batch_run_check import BatchRunCheck, Submit
from penstock.serving.infer_call import NEVER_NS, InferCall, OnDone, Servable
from penstock.serving.inline_executor import InlineExecutor, set_outcome
from penstock.serving.memory_budget import DEFAULT_MEMORY_BYTES, MemoryBudget
from penstock.serving.observers.live_rows import LiveRows
from penstock.serving.observers.shadow import LoadOf, ShadowExecutor
from penstock.serving.version_info import VersionIdentity
from penstock.serving.worker_pool import WorkerPool

log = logging.getLogger("penstock.serving")

QUEUE_BOUND: Final = 1000
"""Maximum calls in the system if the model's configuration states none."""

PER_THREAD: Final = 256
"""Maximum waiting calls for each thread while the queue does not only grow."""

UNKNOWN_RUN_NS: Final = 1_000_000
"""The assumed time of a run of one row where it could not be measured."""

_NO_FEEDS: Final[Feeds] = {}


def _no_graph() -> bytes:
    """Return nothing: the graph is not at hand."""
    return b""


class LoadedVersion(Servable):
    """One loaded version; every method but ``rerun`` and ``release_memory`` belongs to the event loop.

    For explanations: ``input_columns`` are the names of its inputs' values, ``live_rows`` a few of its recent rows,
    ``reference_path`` the file of its reference ("" = none), ``read_graph`` returns the bytes of its admitted graph (on
    any thread; none if it is too large), and ``explained`` is the version as it answers with explanations.
    """

    def __init__(
        self,
        identity: VersionIdentity,
        model: Model,
        options: ModelOptions,
        config: dict[str, Any],
        block: BlockWriter,
        memory: MemoryBudget | None = None,
        limits: RequestLimits | None = None,
    ) -> None:
        super().__init__(identity, model.signature, block, limits)
        self.sharing = model.sharing
        self.options = options
        self.config = config
        self.memory = memory or MemoryBudget(DEFAULT_MEMORY_BYTES)
        self.shadow: ShadowExecutor | None = None
        self.sampled_as: tuple[WatchSpec, int] | None = None
        self.mask = NO_MASK
        self._model = model
        self._latency_slo_ns = 0
        self._threads = max(1, options.instances) if model.single_threaded is None else model.parallel_runs
        gathers = model.batch_cost is not None and options.max_queue_delay_ns > 0
        self._short = not gathers and runs_inline(model.inline_ns, model.measured_elements, model.measured_elements)
        batch_rules = self._batch_rules()
        patient = PATIENT_OF_SHORT if self._short else PATIENT
        run_ns = float(model.run_ns or 0)
        self.limiter = ConcurrencyLimiter(self._threads, self._bounds(batch_rules), block, run_ns, patient)
        self._executor = InlineExecutor(model, self, gathers)
        wait_ns = options.queue.default_timeout_ns
        self._pool = WorkerPool(model, self._threads, self.limiter, self.memory, batch_rules, wait_ns)
        self.input_columns = Columns((), self.signature.batching)
        self.live_rows: LiveRows | None = None
        self.reference_path = ""
        self.read_graph: Callable[[], bytes] = _no_graph
        self.explained: Servable | None = None
        self._in_use = 0
        self._idle: asyncio.Event | None = None  # set when the last call has ended

    def set_latency_slo(self, latency_ns: int) -> None:
        """Keep batch runs on threads short enough for a latency objective (0 = none)."""
        if latency_ns != self._latency_slo_ns:
            self._latency_slo_ns = latency_ns
            self._set_batch_rules()

    def check_batch_runs(self, submit: Submit) -> None:
        """Repeat a batch run call by call now and then, through ``submit``; a difference ends batch runs."""
        if self._model.batch_cost is not None:
            loop = asyncio.get_running_loop()
            self.check = BatchRunCheck(submit, lambda reason: loop.call_soon_threadsafe(self._stop_sharing, reason))

    def _stop_sharing(self, difference: str) -> None:
        """Run every call alone until the version is loaded again."""
        if self.check is None:
            return
        self.check = self._model.batch_cost = None
        if self._model.single_threaded is not None:
            self._model.single_threaded.batch_cost = None
        self.sharing = BatchSharing(False, f"{difference}, in a repeated run; unload and load the model to try again")
        parameters = {**self.config.get("parameters", {}), BATCHING: {"string_value": self.sharing.text}}
        self.config = {**self.config, "parameters": parameters}
        self._set_batch_rules()
        self.block.count_joint_run_mismatch()
        log.error("model %s version %s: %s", self.identity.model, self.identity.version, self.sharing.text)

    def sheds(self) -> bool:
        """Whether calls were rejected recently, so that optional work should be skipped."""
        return monotonic_ns() < self.limiter.busy_until_ns

    # Explanations.

    @property
    def shares_rows(self) -> bool:
        """Whether rows may be run together, because none of them changes the answer to another."""
        return self.signature.batching and self._model.batch_cost is not None

    @property
    def row_ns(self) -> int:
        """Return the expected time of a run of one row in nanoseconds, and of one more row where rows share runs."""
        cost = self._model.batch_cost
        if cost is not None and self.signature.batching:
            return max(1, int(cost.run_ns(64) / 64))
        return self._model.run_ns or UNKNOWN_RUN_NS

    def live_tensors(self) -> dict[str, Array]:
        """Return recent rows of each input; none if no rows are kept."""
        return {} if self.live_rows is None else self.live_rows.tensors()

    # Calls.

    def prepare_inline(self, call: InferCall) -> bool:
        """See ``Servable``."""
        try:
            elements = self._bind(call)
            call.decoded_ns = call.started_ns = monotonic_ns()
            if call.started_ns >= call.deadline_ns:
                call.fault = DeadlineExceeded("the deadline passed before the run began")
                return False
            return self._executor.allows(call, elements, call.started_ns)
        except Exception as error:  # a bug must not take the connection down
            call.fail(error)
        return False

    def run_inline(self, calls: Sequence[InferCall], until_ns: int = NEVER_NS) -> Sequence[InferCall]:
        """See ``Servable``."""
        return self._executor.run(calls, until_ns)

    def enqueue(self, call: InferCall, on_done: OnDone) -> Callable[[], None]:
        """See ``Servable``."""
        try:
            entry = self._pool.enqueue(call, partial(self._on_outcome, on_done))
        except Exception as error:  # a rejection, or a bug that must not take the connection down
            call.fail(error)
            asyncio.get_running_loop().call_soon(on_done, call)
            return _cancel_nothing
        self.hold()
        return partial(self._pool.cancel, entry)

    def _bind(self, call: InferCall) -> int:
        """Set the feeds of a call and the names of its outputs; return its input elements.

        Raises:
            InvalidInput: it contradicts the signature.
            TooLarge: its outputs would be larger than an answer may be.
        """
        names = self.output_names if call.requested is None else self.names(call.requested)
        if isinstance(call.inputs, bytes):
            call.prepared = _NO_FEEDS, names
            call.rows = call.run_rows = 1
            elements = self.row_elements
        else:
            bound = self.signature.bind(call.tensors)
            call.prepared = bound.feeds, names
            call.rows = call.run_rows = bound.rows
            elements = bound.elements
        if call.rows > self.most_rows:
            size = self.output_bytes(call.rows, call.requested)
            if size > self.max_output_bytes:
                raise output_too_large(size, self.limits)
        return elements

    def _on_outcome(self, on_done: OnDone, call: InferCall, outcome: Outcome) -> None:
        self.release()
        set_outcome(call, outcome)
        if call.fault is None:
            self._executor.note_run(call)
        on_done(call)

    # Shadows.

    def set_mask(self, mask: RequestMask) -> None:
        """Set what samples of requests leave out."""
        self.mask = mask
        if self.shadow is not None:
            self.shadow.set_mask(mask)

    def as_shadow(self, load: LoadOf) -> ShadowExecutor:
        """Return the executor with which this version answers mirrored requests."""
        if self.shadow is None:
            self.shadow = ShadowExecutor(self.identity, self.block, self.rerun, self.memory, load)
            self.shadow.set_mask(self.mask)
        return self.shadow

    def rerun(self, call: InferCall, interrupt: RunInterrupt) -> tuple[list[Tensor], int]:
        """Return this version's outputs for another version's call, and its model's nanoseconds; on any thread.

        Raises:
            Fault: it does not take these inputs, has no such outputs, or failed.
        """
        bound = self.signature.bind(call.tensors)
        names = self.names(call.requested)
        began = monotonic_ns()
        arrays = self._model.run(bound.feeds, names, interrupt)
        took_ns = monotonic_ns() - began
        return self.requested_tensors(call.requested, arrays), took_ns

    # Life.

    def hold(self, calls: int = 1) -> None:
        """See ``Servable``."""
        self._in_use += calls

    def release(self, calls: int = 1) -> None:
        """See ``Servable``."""
        self._in_use -= calls
        if not self._in_use and self._idle is not None:
            self._idle.set()

    async def close(self) -> None:
        """Wait until no call uses the version, then free its memory."""
        if self.shadow is not None:
            self.shadow.close()
        while self._in_use:
            self._idle = asyncio.Event()
            await self._idle.wait()
        if self.sampler is not None:
            self.sampler.close()
        self._pool.close()
        self.explained = None  # it refers to this version: what it has prepared would wait for the garbage collector
        await asyncio.get_running_loop().run_in_executor(None, self._model.close)

    def _set_batch_rules(self) -> None:
        self._pool.rules = self._batch_rules()
        self.limiter.set_bounds(*self._bounds(self._pool.rules))

    def release_memory(self) -> None:
        """Release unused memory of large runs in the model; on any thread."""
        self._model.release_memory()

    def _batch_rules(self) -> BatchRules:
        options, stated = self.options, self.signature.max_batch_size
        queued = self._model.single_threaded or self._model  # what runs where calls queue
        return batch_rules(
            queued.batch_cost, stated, options.preferred_batch_sizes, options.max_queue_delay_ns, self._latency_slo_ns
        )

    def _bounds(self, batch_rules: BatchRules) -> tuple[float, float]:
        """Return the minimum and maximum of the limit of calls in the system."""
        bound = self.options.queue.max_queue_size or QUEUE_BOUND
        least = float(self._threads * (1 + 2 * batch_rules.most_rows))
        if self._short:
            return least, float(bound)
        return least, float(min(bound, max(self._threads * PER_THREAD, 4 * least)))


def _cancel_nothing() -> None:
    """Do nothing: the call has ended."""
