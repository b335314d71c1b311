"""A version that is loaded and answers: its model, its counters, and where its runs take place."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns
from typing import Any, Final

from penstock.core.batching import MOST_ROWS, BatchRules, plan, rules
from penstock.core.classification import top_classes
from penstock.core.desired import WatchSpec
from penstock.core.errors import DeadlineExceeded, Fault, Internal
from penstock.core.options import ModelOptions
from penstock.core.placement import INLINE_BUDGET_NS, LONG_NS, NOTED, PENALTY_NS, nudged, runs_inline
from penstock.core.signature import Feeds
from penstock.core.tensors import Array, Tensor
from penstock.engine.model import Interrupt, Model
from penstock.monitor.counters import BlockWriter
from penstock.serving import batch_run
from penstock.serving.batch_run import Outcome
from penstock.serving.infer_call import BatchResult, InferCall, OnDone
from penstock.serving.observers.row_sampler import RowSampler
from penstock.serving.observers.shadow import Load, ShadowExecutor
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.worker_pool import WorkerPool

log = logging.getLogger("penstock.serving")

QUEUE_BOUND: Final = 1000
"""Calls that may wait for a thread when the model's configuration states no bound."""

NEVER_NS: Final = 1 << 63
_NO_FEEDS: Final[Feeds] = {}


@dataclass(frozen=True, slots=True)
class Identity:
    """Names a served version."""

    model: str
    version: str


class LoadedVersion:
    """One loaded version."""

    def __init__(
        self, identity: Identity, model: Model, options: ModelOptions, config: dict[str, Any], block: BlockWriter
    ) -> None:
        self.identity = identity
        self.signature = model.signature
        self.sharing = model.sharing
        self.options = options
        self.config = config
        self.block = block
        self._model = model
        bound = options.queue.max_queue_size or QUEUE_BOUND
        self._all_outputs = [spec.name for spec in model.signature.outputs]
        self._row_elements = 0 if model.signature.row is None else model.signature.row.elements
        self._all_datatypes = [spec.datatype for spec in model.signature.outputs]
        self._run_ns = model.run_ns if model.run_ns is None else float(model.run_ns)
        self._runs = self._promised_ns = 0
        self._gathers = model.joint is not None and options.max_queue_delay_ns > 0  # the configuration has calls wait
        threads = max(1, options.instances) if model.narrow is None else model.abreast
        self._pool = WorkerPool(model, threads, bound, block, self._rules(), options.queue.default_timeout_ns)
        self.admission_error = self._pool.admission_error
        self.shadow: ShadowExecutor | None = None
        self.watch: RowSampler | None = None
        self.watched_as: tuple[WatchSpec, int] | None = None
        self._off_loop_until_ns = 0
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def set_latency_slo(self, latency_ns: int) -> None:
        """Keep joint runs on threads short enough for a promised latency (0 = none)."""
        if latency_ns != self._promised_ns:
            self._promised_ns = latency_ns
            self._pool.set_batch_rules(self._rules())

    def _rules(self) -> BatchRules:
        options, stated = self.options, self.signature.max_batch_size
        busy = self._model.narrow or self._model  # what runs where calls queue
        return rules(busy.joint, stated, options.preferred_batch_sizes, options.max_queue_delay_ns, self._promised_ns)

    @property
    def sheds(self) -> bool:
        """Whether calls had to be refused lately, so that nothing should be done that can be left undone."""
        return monotonic_ns() < self._pool.busy_until_ns

    def try_inline(self, call: InferCall) -> bool:
        """Run a call here and now if its run is short; True when it has its outputs or its fault, else ``enqueue``.

        Never raises: whatever goes wrong is the call's fault.
        """
        if self.prepare_inline(call):
            self.run_inline([call])
            return True
        return call.fault is not None

    def prepare_inline(self, call: InferCall) -> bool:
        """Make a call ready to run; whether its run belongs here and now. One that has a fault is over."""
        try:
            if call.packed is None:
                bound = self.signature.bind(call.tensors)
                feeds, elements, call.rows, call.run_rows = bound.feeds, bound.elements, bound.rows, bound.rows
            else:
                feeds, elements, call.rows, call.run_rows = _NO_FEEDS, self._row_elements, 1, 1
            names = self._all_outputs if call.requested is None else self._names(call.requested)
            call.decoded_ns = call.started_ns = monotonic_ns()
            if call.started_ns >= call.deadline_ns:
                raise DeadlineExceeded("the deadline passed before the run began")
            call.prepared = feeds, names
            return (
                call.started_ns >= self._off_loop_until_ns
                and not self._gathers
                and runs_inline(self._run_ns, elements, self._model.measured_elements)
            )
        except Fault as fault:
            call.fault = fault
        except Exception as error:  # a bug must not take the connection down
            log.exception("a request failed", exc_info=error)
            call.fault = Internal("the request failed")
        return False

    def run_inline(self, calls: Sequence[InferCall], until_ns: int = NEVER_NS) -> Sequence[InferCall]:
        """Run calls that belong here, together where rows of different callers may share a run; those that are left
        when ``until_ns`` (``time.monotonic_ns``) has passed, and none or more of them have run."""
        joint = self._model.joint
        if joint is None or len(calls) == 1:
            return self._run_each(calls, until_ns)
        most = min(joint.most_rows(INLINE_BUDGET_NS), joint.worthwhile_rows())
        if most == 1:
            return self._run_each(calls, until_ns)
        most = min(most, self.signature.max_batch_size or MOST_ROWS)
        some = plan([batch_run.batch_key(call) for call in calls], [call.rows for call in calls], most)
        for number, places in enumerate(some, 1):
            self._run([calls[place] for place in places])
            if calls[places[0]].ran_ns > until_ns:
                return [calls[place] for places in some[number:] for place in places]
        return ()

    def _run_each(self, calls: Sequence[InferCall], until_ns: int) -> Sequence[InferCall]:
        for place, call in enumerate(calls, 1):
            self._run([call])
            if call.ran_ns > until_ns:
                return calls[place:]
        return ()

    def _run(self, calls: Sequence[InferCall]) -> None:
        """Run calls on the loop, and give each what it asked for."""
        for call, outcome in zip(calls, batch_run.run(self._model, calls), strict=True):
            self._give(call, outcome)
        first = calls[0]
        took_ns = first.ran_ns - first.started_ns
        if took_ns > LONG_NS:  # its time lies in its data, which no warm-up foresees: threads take over for a while
            self._off_loop_until_ns = first.ran_ns + PENALTY_NS
        self._runs += 1
        if not self._runs % NOTED and len(calls) == 1 and first.fault is None:
            self._note(first, took_ns)

    def _note(self, call: InferCall, took_ns: int) -> None:
        """Follow what a run takes, in proportion to what the warm-up had measured."""
        elements = sum(tensor.data.size for tensor in call.tensors)
        measured = self._model.measured_elements
        if self._run_ns is not None and took_ns > 0:
            self._run_ns = nudged(self._run_ns, took_ns * measured / max(elements, measured))

    def _give(self, call: InferCall, outcome: Outcome) -> None:
        """Give a call the outputs it asked for; one that cannot be as it was asked for is the call's fault alone."""
        if isinstance(outcome, BatchResult):
            return
        if isinstance(outcome, Fault):
            call.fault = outcome
            return
        try:
            call.outputs = self._tensors(call.requested, outcome)
        except Fault as fault:
            call.fault = fault
        except Exception as error:  # a bug must not take the others of a run down
            log.exception("a request failed", exc_info=error)
            call.fault = Internal("the request failed")

    def enqueue(self, call: InferCall, done: OnDone) -> Callable[[], None]:
        """Queue a call that ``try_inline`` declined; ``done`` is told on the loop. The result gives the call up."""
        try:
            entry = self._pool.enqueue(call, partial(self._returned, done))
        except Exception as error:  # a refusal, or a bug that must not take the connection down
            if not isinstance(error, Fault):
                log.exception("a request failed", exc_info=error)
            call.fault = error if isinstance(error, Fault) else Internal("the request failed")
            asyncio.get_running_loop().call_soon(done, call)
            return _nothing
        self.block.entered()
        self.hold()
        return partial(self._pool.cancel, entry)

    def hold(self) -> None:
        """Somebody uses the version: it must not be closed."""
        self._active += 1
        self._idle.clear()

    def release(self) -> None:
        """Whoever held it does not use it any more."""
        self._active -= 1
        if not self._active:
            self._idle.set()

    def as_shadow(self, load: Load) -> ShadowExecutor:
        """The lane in which this version answers once more what others have answered."""
        if self.shadow is None:
            self.shadow = ShadowExecutor(self, load)
        return self.shadow

    def rerun(self, call: InferCall, interrupt: Interrupt) -> tuple[list[Tensor], int]:
        """This version's outputs for another one's call, and the nanoseconds its model took; on any thread.

        Raises:
            Fault: it does not take these inputs, has no such outputs, or failed.
        """
        bound = self.signature.bind(call.tensors)
        names = self._all_outputs if call.requested is None else self._names(call.requested)
        began = monotonic_ns()
        arrays = self._model.run(bound.feeds, names, interrupt)
        return self._tensors(call.requested, arrays), monotonic_ns() - began

    async def close(self) -> None:
        """Wait until nobody uses the version any more, then give its memory back."""
        if self.shadow is not None:
            self.shadow.close()
        await self._idle.wait()
        if self.watch is not None:
            self.watch.close()
        self._pool.close()
        await asyncio.get_running_loop().run_in_executor(None, self._model.close)

    def _names(self, requested: list[RequestedOutput]) -> list[str]:
        for requested_output in requested:
            self.signature.output(requested_output.name)
        return [requested_output.name for requested_output in requested]

    def tensors(self, arrays: list[Array]) -> list[Tensor]:
        """All outputs with their names."""
        return list(map(Tensor, self._all_outputs, self._all_datatypes, arrays))

    def _tensors(self, requested: list[RequestedOutput] | None, arrays: list[Array]) -> list[Tensor]:
        if requested is None:
            return self.tensors(arrays)
        return [
            self._granted(requested_output, array) for requested_output, array in zip(requested, arrays, strict=True)
        ]

    def _granted(self, requested_output: RequestedOutput, array: Array) -> Tensor:
        spec = self.signature.output(requested_output.name)
        tensor = Tensor(requested_output.name, spec.datatype, array)
        return (
            top_classes(tensor, requested_output.classes, spec.labels, self.signature.batching)
            if requested_output.classes
            else tensor
        )

    def _returned(self, done: OnDone, call: InferCall, outcome: Outcome) -> None:
        self.block.left()
        self.release()
        self._give(call, outcome)
        if call.fault is None:
            self._noted_there(call)
        done(call)

    def _noted_there(self, call: InferCall) -> None:
        """A run on a thread tells too whether the version belongs there."""
        self._runs += 1
        if not self._runs % NOTED and call.run_rows == call.rows:
            self._note(call, call.ran_ns - call.started_ns)


def _nothing() -> None:
    """Gives up what has ended already."""
